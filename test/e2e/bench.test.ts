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

test('make bench', { timeout: 120_000 }, async () => {
  const { code, stdout, stderr } = await tryRun([NODE, 'bench/run.ts'], {
    cwd: PROJECT,
    timeout: 110_000,
    env: { KEDGE_BENCH: 'quick', KEDGE_BENCH_RESULTS: results },
  });
  assert.deepEqual([code, stderr], [0, ''], stdout);
  assert.equal(stdout.trim().split('\n').length, 3);
  assert.deepEqual(readdirSync(results).toSorted(), ['blackout.json', 'latency.json', 'throughput.json']);
  for (const [file, unit] of [
    ['throughput', 'Gbit/s'],
    ['latency', 'µs'],
    ['blackout', 'ms'],
  ] as const) {
    const found = JSON.parse(readFileSync(join(results, `${file}.json`), 'utf8')) as Record<string, unknown>;
    const { name, unit: has, runs, ours, baseline, baselineName, ratio, machine } = found;
    assert.deepEqual([typeof name, has, typeof baselineName, typeof machine], ['string', unit, 'string', 'string']);
    for (const figure of [runs, ours, baseline, ratio]) assert.ok(typeof figure === 'number' && figure > 0, file);
    assert.ok(benchTable(results).includes(`| ${String(name)} | ${String(ours)} ${unit} |`));
  }
});
