/** `make demo` prints what README.md shows of it, and its report says the same. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { readTcp } from '../support/fields.ts';
import { commonLine, linesOf } from '../support/docs/transcript.ts';
import { tryRun } from '../support/process.ts';
import { NODE, PROJECT } from '../support/topology.ts';

function read(path: string): Promise<string> {
  return readFile(join(PROJECT, path), 'utf8');
}

/** What the recordings of any two runs have in common. */
function structure(recording: string): string[] {
  return linesOf(recording).map(commonLine);
}

test('the demo says that it needs root, and nothing else', async () => {
  const { code, stdout, stderr } = await tryRun(['setpriv', '--reuid', '65534', ...[NODE, 'demo/demo.ts']], {
    cwd: PROJECT,
  });
  assert.deepEqual([code, stdout], [1, '']);
  assert.match(stderr, /^demo: needs root[^\n]*\n$/);
});

test('make demo prints what README.md shows, and writes its report', { timeout: 300_000 }, async () => {
  const { code, stdout, stderr } = await tryRun([NODE, 'demo/demo.ts'], { cwd: PROJECT, timeout: 240_000 });
  assert.equal(code, 0, stdout + stderr);
  assert.equal(stderr, '');
  assert.deepEqual(structure(stdout), structure(await read('docs/recording.txt')));
  const report = JSON.parse(await read('demo/report.json')) as Record<string, unknown>;
  const { ok, migrations, bytes, sha256Equal, resets, blackoutMs, captures } = report;
  assert.deepEqual({ ok, migrations, sha256Equal, resets }, { ok: true, migrations: 4, sha256Equal: true, resets: 0 });
  assert.ok(typeof bytes === 'number' && bytes > 64 * 1024 * 1024);
  assert.ok(Array.isArray(blackoutMs) && blackoutMs.length === migrations, JSON.stringify(blackoutMs));
  assert.ok(blackoutMs.every((ms) => typeof ms === 'number' && ms >= 0));
  const [capture] = captures as { file: string; packets: number }[];
  assert.ok(capture !== undefined && capture.packets > 1000);
  assert.equal((await readTcp(join(PROJECT, capture.file))).length, capture.packets);
});
