import assert from 'node:assert/strict';
import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { pathToFileURL } from 'node:url';
import * as addon from '../../native/index.js';
import { ERRNO, errnoName, native } from '../../src/native.ts';

test('the table of error numbers agrees with the system', () => {
  const system = Object.entries(constants.errno);
  assert.ok(system.length > 50);
  for (const [name, number] of system) {
    if (name === 'EWOULDBLOCK' || name === 'ENOTSUP') continue; // second names of EAGAIN and EOPNOTSUPP
    assert.equal(ERRNO[name as keyof typeof ERRNO], number, name);
  }
  assert.equal(errnoName(-11), 'EAGAIN');
  assert.equal(errnoName(104), 'ECONNRESET');
  assert.equal(errnoName(-4000), 'errno 4000');
});

test('every function of the declarations is there, and no other', () => {
  const names = Object.keys(addon).sort();
  assert.deepEqual(Object.keys(native).sort(), names);
  for (const name of names) assert.equal(typeof addon[name as keyof typeof addon], 'function', name);
});

test('a missing or broken addon is an error that says what to do', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'kedge-native-'));
  try {
    // A copy of the loader with no addon beside it.
    const loader = join(folder, 'index.mjs');
    copyFileSync(new URL('../../native/index.js', import.meta.url), loader);
    const missing = await rejection(import(pathToFileURL(loader).href));
    assert.match(missing.message, /is missing.*make native/);
    assert.equal(missing.code, 'KEDGE_NATIVE_MISSING');

    writeFileSync(join(folder, `kedge.linux-${process.arch}-gnu.node`), 'not a library');
    const broken = await rejection(import(`${pathToFileURL(loader).href}?again`));
    assert.match(broken.message, /cannot be loaded.*make native/);
    assert.ok(broken.cause instanceof Error);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

async function rejection(promise: Promise<unknown>): Promise<Error & { code?: unknown; cause?: unknown }> {
  try {
    await promise;
  } catch (error) {
    if (error instanceof Error) return error;
  }
  return assert.fail('it was loaded');
}
