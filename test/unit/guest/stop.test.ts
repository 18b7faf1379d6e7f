/** A guest stops whenever it is asked to, in particular at once after it was let go on. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { ENGINES } from '../../../src/engine/engines.ts';
import { instrument } from '../../../src/engine/points/instrument.ts';
import { Guest } from '../../../src/guest/guest.ts';
import { startWorker } from '../../../src/guest/spare.ts';
import { within } from '../../support/wait.ts';
import { wat } from '../engine/support.ts';
import { PLAIN, plainGuest } from './support.ts';

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

test('a guest that is asked to stop before it was let go stops when it runs', async () => {
  const module = wat('(module (memory (export "memory") 1) (func (export "_start") (loop $again (br $again))))');
  const guest = plainGuest(module);
  const started = guest.start();
  assert.equal(await guest.stop(), 'stopped');
  await started;
  const resumed = guest.resume();
  assert.equal(await guest.stop(), 'stopped');
  await resumed;
  const again = guest.resume();
  await within(guest.destroy(), 5_000, 'the end of a guest that was let go');
  await again.catch(() => undefined);
  assert.equal((await guest.ended).kind, 'destroyed');
});

const LOOP = '(loop $again (br $again))';
const TAIL_CALLS = '(return_call $first)';

// V8 has no look at a tail call; docs/stable-points.md says so.
for (const [engine, bodies] of [
  ['v8', [LOOP]],
  ['wamr', [LOOP, TAIL_CALLS]],
] as const) {
  test(
    `a guest on ${engine} that never comes to a stable point ends with its thread`,
    { timeout: 60_000 },
    async () => {
      for (const body of bodies) {
        const module = wat(
          `(module (memory (export "memory") 1) (func $first (export "_start") ${body}))`,
          '--enable-tail-call',
        );
        const worker = startWorker();
        const left = once(worker, 'exit');
        const guest = new Guest({
          ...PLAIN,
          worker,
          engine,
          module,
          instrumented: instrument(module, 'call', ENGINES[engine].flag),
          stopLimit: 200,
        });
        await guest.start();
        await assert.rejects(guest.stop(), { code: 'KEDGE_GUEST_UNSTOPPABLE' });
        await guest.destroy();
        await left;
      }
    },
  );
}
