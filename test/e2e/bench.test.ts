/** `make bench` measures what docs/benchmarks.md says and writes it as that says: every benchmark once, small. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { benchTable } from '../../bench/table.ts';
import { tryRun } from '../support/process.ts';
import { NODE, PROJECT } from '../support/topology.ts';

const results = mkdtempSync(join(tmpdir(), 'kedge-bench-'));
after(() => rmSync(results, { recursive: true }));

/** Programs that are run when every benchmark is small. */
const PROGRAMS = ['fib', 'nbody', 'heap', 'blocked'].map((name) => `../../build/programs/${name}.wasm`);

const UNITS: Readonly<Record<string, string>> = {
  throughput: 'Gbit/s',
  latency: 'µs',
  blackout: 'ms',
  'slowdown-v8': '× the plain module',
  'slowdown-wamr': '× the plain module',
  'slowdown-resumed': '× the plain module',
  'code-size': '× the plain module',
  'time-to-stop-v8': 'µs',
  'time-to-stop-wamr': 'µs',
  instrument: 'MB/s',
  policies: '× the plain module',
  checkpoint: 'ms',
  restore: 'ms',
  'image-size': 'KiB',
  'image-size-heap': 'KiB',
  'snapshot-throughput': 'GB/s',
};

test('make bench', { timeout: 300_000 }, async () => {
  const made = await tryRun(['make', '-s', '-C', 'bench/programs', ...PROGRAMS], { cwd: PROJECT, timeout: 60_000 });
  assert.equal(made.code, 0, made.stderr);
  const { code, stdout, stderr } = await tryRun([NODE, 'bench/run.ts'], {
    cwd: PROJECT,
    timeout: 220_000,
    env: { KEDGE_BENCH: 'quick', KEDGE_BENCH_RESULTS: results },
  });
  assert.deepEqual([code, stderr], [0, ''], stdout);
  const files = Object.keys(UNITS).map((name) => `${name}.json`);
  assert.deepEqual(readdirSync(results).toSorted(), files.toSorted());
  for (const [file, unit] of Object.entries(UNITS)) {
    const found = JSON.parse(readFileSync(join(results, `${file}.json`), 'utf8')) as Record<string, unknown>;
    const { name, unit: has, runs, ours, baseline, baselineName, ratio, machine } = found;
    assert.deepEqual([typeof name, has, typeof baselineName, typeof machine], ['string', unit, 'string', 'string']);
    for (const figure of [runs, ours, baseline, ratio]) assert.ok(typeof figure === 'number' && figure > 0, file);
    assert.ok(stdout.includes(`${String(name)}: ${String(ours)} ${unit}; `), file);
    assert.ok(benchTable(results).includes(`| ${String(name)} | ${String(ours)} ${unit} |`));
  }
});
