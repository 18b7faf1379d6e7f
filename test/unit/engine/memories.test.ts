/** Guests with several linear memories, on the engine that can have them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ComputeState, HostCallContext, HostImports, Instance, StopSignal } from '../../../src/engine/engine.ts';
import { ENGINES } from '../../../src/engine/engines.ts';
import { stateHash } from '../../../src/engine/hash.ts';
import { instrument } from '../../../src/engine/points/instrument.ts';
import { createStopSignal } from '../../../src/engine/stop.ts';
import { initialMemories, PAGE_SIZE } from '../../../src/engine/wasm/initial-memory.ts';
import { applyDeltas, collectDeltas } from '../../../src/image/memory-delta.ts';
import { copyState, host, makeInstance, scriptedStop, wat } from './support.ts';

/** Each turn copies, fills, fills from a segment and stores in all three; two of them grow. Host functions see the second. */
const MODULE = wat(
  `(module (import "t" "see" (func $see (param i32) (result i32)))
    (memory $a 1) (memory $b (export "memory") 1 8) (memory $c 2 9)
    (data (memory $a) (i32.const 8) "first") (data (memory $c) (i32.const 65540) "third") (data $d "segment")
    (func (export "_start") (local $i i32)
      (loop $again
        (memory.copy $b $a (i32.add (local.get $i) (i32.const 64)) (i32.const 8) (i32.const 5))
        (memory.copy $c $b (i32.mul (local.get $i) (i32.const 4096)) (i32.const 60) (i32.const 16))
        (memory.init $a $d (i32.add (i32.const 8) (local.get $i)) (local.get $i) (i32.const 2))
        (memory.fill $b (i32.const 4096) (i32.add (local.get $i) (i32.const 1)) (i32.const 10))
        (i32.store $c (i32.const 70000) (call $see (i32.const 4096)))
        (drop (memory.grow $b (i32.const 1)))
        (if (i32.and (local.get $i) (i32.const 1)) (then (drop (memory.grow $c (i32.const 2)))))
        (i32.store8 $a (i32.add (local.get $i) (i32.const 100)) (memory.size $c))
        (br_if $again (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 4))))
      (data.drop $d)))`,
  '--enable-multi-memory',
);
const FORM = instrument(MODULE, 'instruction', 'memory');

function make(stop: StopSignal = createStopSignal()): Instance {
  const imports = (context: HostCallContext): HostImports => ({
    t: { see: host<[number]>('(i)i', (at) => context.memory()[at] ?? -1) },
  });
  return makeInstance(FORM, imports, stop).instance;
}

function memories(instance: Instance): readonly Uint8Array[] {
  return [0, 1, 2].map((index) => instance.memory(index).slice());
}

/** What an image keeps of a state, put into a fresh instance. */
function moved(state: ComputeState, stop: StopSignal): Instance {
  const all = [state.memory, ...(state.otherMemories ?? [])];
  const delta = collectDeltas(all, initialMemories(MODULE));
  const pages = all.map(({ length }) => length / PAGE_SIZE);
  const instance = make(stop);
  const [memory = new Uint8Array(), ...otherMemories] = pages.map((count, n) => instance.growMemory(count, n));
  applyDeltas(delta, [memory, ...otherMemories], pages);
  instance.restore({ ...state, memory, otherMemories });
  return instance;
}

test('they move with the guest, whatever it does between them', () => {
  const plain = make();
  assert.deepEqual(plain.start(), { kind: 'exited', code: 0 });
  const expected = memories(plain);
  assert.deepEqual(
    expected.map(({ length }) => length / PAGE_SIZE),
    [1, 5, 6],
  );
  let stops = 0;
  for (const step of [1, 7]) {
    let asked = 0;
    const signal = (): StopSignal => scriptedStop(() => (asked += 1) % (step + 1) === 0);
    let instance = make(signal());
    let outcome = instance.start();
    for (; outcome.kind === 'stopped'; outcome = instance.resume()) {
      stops += 1;
      instance = moved(copyState(instance.capture()), signal());
    }
    assert.deepEqual(outcome, { kind: 'exited', code: 0 });
    assert.deepEqual(memories(instance), expected);
  }
  assert.ok(stops > 100, `${stops} stops`);
});

test('every one of them is in the hash, and all must be there', () => {
  const instance = make(scriptedStop(() => true));
  assert.deepEqual(instance.start(), { kind: 'stopped' });
  const state = copyState(instance.capture());
  const { otherMemories = [] } = state;
  assert.equal(otherMemories.length, 2);
  const hash = stateHash(state);
  for (const n of [0, 1]) {
    const changed = otherMemories.map((memory) => memory.slice());
    changed[n]?.fill(1, 5, 6);
    assert.notEqual(stateHash({ ...state, otherMemories: changed }), hash);
    const resized = otherMemories.with(n, new Uint8Array(3 * PAGE_SIZE));
    assert.notEqual(stateHash({ ...state, otherMemories: resized }), hash);
  }
  for (const wrong of [[], otherMemories.slice(1), [...otherMemories, new Uint8Array()]]) {
    const fresh = make();
    assert.throws(() => fresh.restore({ ...state, otherMemories: wrong }), { code: 'KEDGE_FRAMES_MISMATCH' });
  }
});

test('an engine that has only one refuses them by name', () => {
  const { wamr } = ENGINES;
  const form = instrument(MODULE, 'loop', wamr.flag);
  assert.throws(() => wamr.compile(form), {
    code: 'KEDGE_MODULE_UNSUPPORTED',
    message: 'WAMR cannot run the module: it uses multiple memories',
  });
});
