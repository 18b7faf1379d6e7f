import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { STAGES, StageRunner, within } from '../../../src/migrate/stages.ts';

test('docs/migration.md names every stage', () => {
  const document = readFileSync(join(import.meta.dirname, '..', '..', '..', 'docs', 'migration.md'), 'utf8');
  for (const stages of Object.values(STAGES[1])) {
    for (const stage of stages) assert.ok(document.includes(`\`${stage}\``), stage);
  }
});

test('stages are timed under the names of their role, failures too', async () => {
  const stages = new StageRunner('target');
  assert.equal(await stages.run('verify', () => Promise.resolve(5)), 5);
  await assert.rejects(
    stages.run('attach', () => Promise.reject(new TypeError('ours'))),
    TypeError,
  );
  assert.deepEqual(
    stages.times.map(({ name }) => name),
    ['target.verify', 'target.attach'],
  );
  assert.ok(stages.times.every(({ ms }) => ms >= 0));
});

test('what takes too long says what, how long, and what to do', async () => {
  assert.equal(await within(60_000, 'work', 'wait', Promise.resolve(5)), 5);
  await assert.rejects(within(1, 'work', 'wait', new Promise(() => undefined)), {
    code: 'KEDGE_STAGE_TIMEOUT',
    message: 'work took longer than 1 ms',
    hint: 'wait',
  });
});
