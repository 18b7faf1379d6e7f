import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { loadState, newState, removeState, saveState, stateFile } from '../../../src/gateway/routes-state.ts';

let directory: string;
let file: string;
before(() => {
  directory = mkdtempSync(join(tmpdir(), 'kedge-routes-'));
  file = stateFile(join(directory, 'gw.sock'));
});
after(() => rmSync(directory, { recursive: true }));

test('what was changed is read back in the same boot and network namespace', () => {
  assert.equal(loadState(file), undefined);
  const state = {
    ...newState(),
    settings: [{ path: 'net/ipv4/ip_forward', value: '0' }],
    movedLocal: true,
    proxy: { address: '192.0.2.10', device: 'up0' },
  };
  saveState(file, state);
  assert.deepEqual(loadState(file), state);
  assert.equal(existsSync(`${file}.new`), false);
  removeState(file);
  removeState(file);
  assert.equal(loadState(file), undefined);
});

test('of another boot, or another network namespace, nothing is true', () => {
  saveState(file, { ...newState(), bootId: 'another' });
  assert.equal(loadState(file), undefined);
  saveState(file, { ...newState(), namespace: 1 });
  assert.equal(loadState(file), undefined);
});

test('a file that is none is not believed', () => {
  const state = newState();
  const settings = [{ path: '../../etc/passwd', value: 'x' }];
  for (const text of [
    '',
    '{',
    'null',
    '{}',
    JSON.stringify({ ...state, version: 2 }),
    JSON.stringify({ ...state, settings }),
    JSON.stringify({ ...state, settings: [{ path: 'net/ipv4/../../kernel/core_pattern', value: 'x' }] }),
  ]) {
    writeFileSync(file, text);
    assert.equal(loadState(file), undefined, text);
  }
});
