/** What an agent remembers on disk, and what it says of a place that cannot be used. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileRegistry } from '../../../src/migrate/registry.ts';

let directory = '';

before(() => {
  directory = mkdtempSync(join(tmpdir(), 'kedge-registry-'));
});
after(() => rmSync(directory, { recursive: true }));

test('the next agent finds what this one had', () => {
  const state = join(directory, 'state');
  const registry = fileRegistry(state);
  assert.deepEqual(registry.left, []);
  for (const id of ['one', 'two', 'three']) registry.add(id);
  registry.remove('two');
  assert.deepEqual(fileRegistry(state).left, ['one', 'three']);
});

test('a state directory that cannot be used says what to do', () => {
  const file = join(directory, 'file');
  writeFileSync(file, '');
  for (const path of [file, join(file, 'below')])
    assert.throws(() => fileRegistry(path), { code: 'KEDGE_AGENT_STATE', hint: /--state-dir DIRECTORY/ });
  writeFileSync(join(directory, 'guests.json'), '["half');
  assert.throws(() => fileRegistry(directory), {
    code: 'KEDGE_AGENT_STATE',
    hint: /guests\.json is damaged: remove it.*gateway guests rm/,
  });
});
