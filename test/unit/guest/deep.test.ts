/** Guests whose stack is nearly used up stop as all do; how deep one may be that goes on. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import type { EngineName } from '../../../src/engine/engines.ts';
import { decodeStack } from '../../../src/engine/points/stack.ts';
import type { Guest } from '../../../src/guest/guest.ts';
import { wat } from '../engine/support.ts';
import { plainGuest } from './support.ts';

/** Calls before the end, of 56 bytes each on V8. */
const MARGIN = 100;

/** The words say how deep it calls itself, and whether it stays there. */
const MODULE = wat(`(module
  (memory (export "memory") 1)
  (data (i32.const 0) "DEEPSTAY")
  (global $sum (mut i32) (i32.const 0))
  (func $down (param $left i32)
    (if (local.get $left)
      (then (call $down (i32.sub (local.get $left) (i32.const 1))))
      (else (loop $stay (br_if $stay (i32.load (i32.const 4))))))
    (global.set $sum (i32.add (global.get $sum) (local.get $left))))
  (func (export "_start") (call $down (i32.load (i32.const 0)))))`);
const DATA = Buffer.from(MODULE).indexOf('DEEPSTAY');

async function started(engine: EngineName, depth: number, stays: boolean): Promise<Guest> {
  const module = Buffer.from(MODULE);
  module.writeUInt32LE(depth, DATA);
  module.writeUInt32LE(stays ? 1 : 0, DATA + 4);
  const guest = plainGuest(new Uint8Array(module), engine);
  await guest.start();
  return guest;
}

/** As deep as a guest in a thread of its own can go and exit, less at most 31 calls. */
async function deepest(engine: EngineName, least: number): Promise<number> {
  let [low, high] = [least, 4 * least];
  while (high - low >= 32) {
    const middle = Math.floor((low + high) / 2);
    const guest = await started(engine, middle, false);
    if ((await guest.codeEnded).kind === 'exited') low = middle;
    else high = middle;
    await guest.destroy();
  }
  return low;
}

/** How many frames a stopped guest has. */
async function frames(guest: Guest): Promise<number> {
  return decodeStack((await guest.save([])).frames.bytes).frames.length;
}

/**
 * A guest that stands at its deepest, where it was stopped for the first time. One that is stopped on its way there is of no use: what
 * stops it has run then, where there was stack enough to compile it. So the next one gets twice as long.
 */
async function stoppedAt(engine: EngineName, depth: number): Promise<Guest> {
  for (let turns = 256; ; turns *= 2) {
    const guest = await started(engine, depth, true);
    let found = false;
    try {
      for (let turn = 0; turn < turns; turn += 1) await setImmediate();
      assert.equal(await guest.stop(), 'stopped', `at ${depth} calls`);
      // With the function that calls the first.
      found = (await frames(guest)) === depth + 2;
    } finally {
      // One that is left running would keep a failed test from ending.
      if (!found) await guest.destroy();
    }
    if (found) return guest;
  }
}

for (const [engine, least, resumed] of [
  ['v8', 100_000, 55_000],
  ['wamr', 40_000, 20_000],
] as const) {
  test(`a guest on ${engine} stops with a few kilobytes of its stack left`, { timeout: 120_000 }, async () => {
    const most = await deepest(engine, least);
    assert.ok(most > least, `${most} frames`);
    const guest = await stoppedAt(engine, most - MARGIN);
    await guest.destroy();
  });

  test(`a guest on ${engine} goes on where it was with as many frames as the document says`, async () => {
    const guest = await stoppedAt(engine, resumed);
    try {
      await guest.resume();
      // Only one that has gone on stops again.
      assert.equal(await guest.stop(), 'stopped');
      assert.equal(await frames(guest), resumed + 2);
    } finally {
      await guest.destroy();
    }
  });
}
