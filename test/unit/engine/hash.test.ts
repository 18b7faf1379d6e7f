/** The hash of a guest's state is the same on both engines at every instruction. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ComputeState, Engine } from '../../../src/engine/engine.ts';
import { ENGINES } from '../../../src/engine/engines.ts';
import { stateHash } from '../../../src/engine/hash.ts';
import { instrument } from '../../../src/engine/points/instrument.ts';
import { copyState, makeInstance, scriptedStop, wat } from './support.ts';

/** Floats among them NaNs of both signs, a table that changes, calls, memory. */
const MODULE = wat(`(module (memory 1) (global $g (mut f64) (f64.const 0)) (global $n (mut i32) (i32.const 0))
  (table $t 2 funcref) (elem declare func $f)
  (func $f (param f64) (result f64) (f64.sqrt (f64.sub (local.get 0) (f64.const 2))))
  (func (export "_start") (local $x f32) (local $i i32)
    (loop $again
      (global.set $g (f64.add (call $f (f64.convert_i32_s (local.get $i))) (f64.const 1)))
      (local.set $x (f32.div (f32.convert_i32_s (local.get $i)) (f32.const 0)))
      (local.set $x (f32.sub (local.get $x) (local.get $x)))
      (i32.store (i32.shl (local.get $i) (i32.const 2)) (i32.trunc_sat_f32_s (local.get $x)))
      (table.set $t (i32.and (local.get $i) (i32.const 1)) (ref.func $f))
      (global.set $n (i32.add (global.get $n) (i32.const 3)))
      (br_if $again (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 4))))))`);

function states(engine: Engine): readonly ComputeState[] {
  // Every other ask: the one after a stop is of the next instruction, and it goes on there.
  const stop = scriptedStop(() => true);
  const { instance } = makeInstance(instrument(MODULE, 'instruction', engine.flag), () => ({}), stop, engine);
  const all: ComputeState[] = [copyState(instance.capture())];
  for (let outcome = instance.start(); outcome.kind === 'stopped'; outcome = instance.resume()) {
    all.push(copyState(instance.capture()));
  }
  return all;
}

test('equal at equal points on every engine, and different at different points', () => {
  const [first, ...others] = Object.values(ENGINES).map((engine) => states(engine).map(stateHash));
  assert.ok(first !== undefined && first.length > 80 && others.length > 0, `${first?.length} states`);
  for (const other of others) assert.deepEqual(other, first);
  assert.equal(new Set(first).size, first.length);
});

test('everything that a state is made of is in it, and nothing else', () => {
  const state = states(ENGINES.v8)[40];
  assert.ok(state !== undefined);
  const hash = stateHash(state);
  const memory = state.memory.slice();
  memory[65_535] = 1;
  const globals = state.globals.with(1, { type: 'i32', bits: 77n });
  const changed = [
    { ...state, originalHash: '0'.repeat(64) },
    { ...state, memory },
    { ...state, memory: state.memory.slice(1) },
    { ...state, globals },
    { ...state, frames: { ...state.frames, bytes: states(ENGINES.v8)[41]?.frames.bytes ?? state.frames.bytes } },
  ];
  for (const other of changed) assert.notEqual(stateHash(other), hash);
  assert.equal(stateHash({ ...state, frames: { ...state.frames, policy: 'loop' } }), hash);
  // A NaN is a NaN.
  const nan = (bits: bigint): string => stateHash({ ...state, globals: state.globals.with(0, { type: 'f64', bits }) });
  assert.equal(nan(0x7ff8_0000_0000_0001n), nan(0xfff0_0000_0000_0001n));
  assert.notEqual(nan(0x7ff0_0000_0000_0000n), nan(0x7ff8_0000_0000_0000n));
});

test('a memory of more than Node digests at once is in the hash to its end', () => {
  // Pages that nobody has written to are one page of zeros.
  const memory = new Uint8Array(2 ** 31 + 65_536);
  const hash = (): string =>
    stateHash({
      originalHash: '',
      memory,
      globals: [],
      frames: { encoding: '', policy: 'loop', bytes: new Uint8Array() },
    });
  const before = hash();
  memory[memory.length - 1] = 1;
  assert.notEqual(hash(), before);
});
