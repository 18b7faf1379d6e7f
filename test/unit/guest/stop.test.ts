/** A guest stops whenever it is asked to, in particular at once after it was let go on. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { wat } from '../engine/support.ts';
import { plainGuest } from './support.ts';

const ROUNDS = 300;

test('a stop that comes right behind a resume is not lost', async () => {
  const module = wat('(module (memory (export "memory") 1) (func (export "_start") (loop $again (br $again))))');
  const guest = plainGuest(module);
  try {
    await guest.start();
    for (let round = 0; round < ROUNDS; round++) {
      // A stop that is lost is noticed after ten seconds.
      assert.equal(await guest.stop(), 'stopped', `round ${round}`);
      await guest.resume();
    }
  } finally {
    await guest.destroy();
  }
});
