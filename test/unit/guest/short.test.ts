/** A host that has no memory left for a copy of a guest: the request fails, and the guest goes on. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import process from 'node:process';
import { test } from 'node:test';
import { wat } from '../engine/support.ts';
import { plainGuest } from './support.ts';

const MEBIBYTE = 1024 * 1024;
const LARGE = 256 * MEBIBYTE;

/** Its memory is all ones, and the sum of its turns in the first word grows. */
const MODULE = wat(`(module
  (memory (export "memory") ${LARGE / 65_536})
  (func (export "_start")
    (memory.fill (i32.const 0) (i32.const 1) (i32.const ${LARGE}))
    (loop $again
      (i32.store (i32.const 0) (i32.add (i32.load (i32.const 0)) (i32.const 1)))
      (br $again))))`);

/** Leaves this process so much more address space than it has, or all that there is. */
function leave(bytes: number | 'unlimited'): void {
  const pages = Number(readFileSync('/proc/self/statm', 'utf8').split(' ')[0]);
  const limit = bytes === 'unlimited' ? bytes : String(pages * 4096 + bytes);
  execFileSync('prlimit', [`--pid=${process.pid}`, `--as=${limit}:`]);
}

// On WAMR, whose memories are no more than they seem: what V8's collector gives back of them would be room again.
test('a copy that has no room is an error, and the guest goes on', { timeout: 60_000 }, async (t) => {
  const guest = plainGuest(MODULE, 'wamr');
  t.after(() => guest.destroy());
  await guest.start();
  assert.equal(await guest.stop(), 'stopped');
  leave(64 * MEBIBYTE);
  try {
    await guest.drain(false);
    await assert.rejects(guest.save([]), { code: 'KEDGE_OUT_OF_MEMORY' });
  } finally {
    leave('unlimited');
  }
  const { memory } = await guest.save([]);
  assert.ok(memory instanceof Uint8Array && memory.length > LARGE);
  await guest.resume();
  assert.equal(await guest.stop(), 'stopped');
});
