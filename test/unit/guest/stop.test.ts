/** A guest stops whenever it is asked to, in particular at once after it was let go on. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { instrument } from '../../../src/engine/points/instrument.ts';
import { Guest } from '../../../src/guest/guest.ts';
import { wat } from '../engine/support.ts';

const ROUNDS = 300;

test('a stop that comes right behind a resume is not lost', async () => {
  const module = wat('(module (memory (export "memory") 1) (func (export "_start") (loop $again (br $again))))');
  const guest = new Guest({
    engine: 'v8',
    instrumented: instrument(module, 'loop', 'memory'),
    module,
    address: 0x64400001,
    args: ['busy'],
    environ: [],
    preopens: [],
    onLog: () => undefined,
    onState: () => undefined,
  });
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
