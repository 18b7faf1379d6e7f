/** Guests whose stack is as good as used up stop and go on as all do. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ENGINES, type EngineName } from '../../../src/engine/engines.ts';
import { instrument } from '../../../src/engine/points/instrument.ts';
import { Guest } from '../../../src/guest/guest.ts';
import { wat } from '../engine/support.ts';

const MODULE = wat(`(module
  (memory (export "memory") 1)
  (data (i32.const 0) "DEPTHSPINS")
  (global $sum (mut i32) (i32.const 0))
  (func $down (param $left i32)
    (if (local.get $left)
      (then (call $down (i32.sub (local.get $left) (i32.const 1))))
      (else (loop $spin (br_if $spin (i32.load (i32.const 5))))))
    (global.set $sum (i32.add (global.get $sum) (local.get $left))))
  (func (export "_start") (call $down (i32.load (i32.const 0)))))`);
const DATA = Buffer.from(MODULE).indexOf('DEPTHSPINS');

/** Calls itself so deeply, and stays there or returns. (The byte between the words ends nothing: both are read unaligned.) */
function recursion(depth: number, spins: boolean): Uint8Array {
  const module = Buffer.from(MODULE);
  module.fill(0, DATA, DATA + 10);
  module.writeUInt32LE(depth, DATA);
  module[DATA + 5] = spins ? 1 : 0;
  return new Uint8Array(module);
}

async function started(engine: EngineName, module: Uint8Array): Promise<Guest> {
  const guest = new Guest({
    engine,
    instrumented: instrument(module, 'loop', ENGINES[engine].flag),
    module,
    address: 0x7f000001,
    args: ['deep'],
    environ: [],
    preopens: [],
    onLog: () => undefined,
    onState: () => undefined,
  });
  await guest.start();
  return guest;
}

/** As deep as a guest in a thread of its own can go and exit, less at most 31 calls. */
async function deepest(engine: EngineName, least: number): Promise<number> {
  let [low, high] = [least, 4 * least];
  while (high - low >= 32) {
    const middle = Math.floor((low + high) / 2);
    const guest = await started(engine, recursion(middle, false));
    if ((await guest.codeEnded).kind === 'exited') low = middle;
    else high = middle;
    await guest.destroy();
  }
  return low;
}

for (const [engine, least] of [
  ['v8', 100_000],
  ['wamr', 40_000],
] as const) {
  test(`a guest on ${engine} stops at the very end of its stack`, { timeout: 120_000 }, async () => {
    const most = await deepest(engine, least);
    assert.ok(most > least, `${most} frames`);
    for (const margin of [100, 2]) {
      const guest = await started(engine, recursion(most - margin, true));
      try {
        assert.equal(await guest.stop(), 'stopped', `${margin} frames before`);
        await guest.resume();
        assert.equal(guest.state.name, 'running');
      } finally {
        await guest.destroy();
      }
    }
  });
}
