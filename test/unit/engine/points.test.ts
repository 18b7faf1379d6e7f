/** What beyond memory and numbers goes along to another engine, and that frames belong to no policy. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Engine, HostImports, Outcome, Policy } from '../../../src/engine/engine.ts';
import { hasPlaces, instrument, instrumentFor } from '../../../src/engine/points/instrument.ts';
import { decodeStack, encodeStack } from '../../../src/engine/points/stack.ts';
import { parseModule } from '../../../src/engine/wasm/module.ts';
import { v8Engine } from '../../../src/engine/v8/engine.ts';
import { wamrEngine } from '../../../src/engine/wamr/engine.ts';
import { copyState, host, makeInstance, scriptedStop, wat } from './support.ts';

/** Tables that are set, grown, copied and emptied, references in locals and globals, passive segments, a tail call. */
const REFERENCES = wat(
  `(module
    (import "t" "out" (func $out (param i32)))
    (type $f (func (param i32) (result i32)))
    (memory 1) (data $d "abcdef")
    (table $t 3 20 funcref) (table $x 2 externref)
    (elem $e func $two $three $host)
    (elem declare func $one $two $three $out)
    (global $g (mut funcref) (ref.null func))
    (func $one (param i32) (result i32) (i32.add (local.get 0) (i32.const 1)))
    (func $two (param i32) (result i32) (i32.mul (local.get 0) (i32.const 2)))
    (func $three (param i32) (result i32) (return_call $one (i32.mul (local.get 0) (i32.const 3))))
    (func $host (param i32) (result i32) (call $out (local.get 0)) (i32.const 0))
    (func $apply (param $at i32) (param $n i32) (result i32)
      (loop $turn (br_if $turn (i32.gt_s (local.tee $n (i32.sub (local.get $n) (i32.const 1))) (i32.const 5))))
      (call_indirect $t (type $f) (local.get $n) (local.get $at)))
    (func (export "_start") (local $r funcref) (local $n i32) (local $none externref)
      (table.set $t (i32.const 0) (ref.func $one))
      (local.set $r (table.get $t (i32.const 0)))
      (loop $again
        (call $out (call $apply (i32.const 0) (i32.const 10)))
        (br_if $again (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 3))))
      (table.init $t $e (i32.const 0) (i32.const 0) (i32.const 3))
      (elem.drop $e)
      (memory.init $d (i32.const 10) (i32.const 2) (i32.const 3))
      (data.drop $d)
      (global.set $g (table.get $t (i32.const 1)))
      (call $out (call $apply (i32.const 0) (i32.const 9)))
      (call $out (call $apply (i32.const 1) (i32.const 9)))
      (drop (call $apply (i32.const 2) (i32.const 9)))
      (call $out (table.grow $t (local.get $r) (i32.const 4)))
      (call $out (table.grow $x (ref.null extern) (i32.const 2)))
      (call $out (call $apply (i32.const 6) (i32.const 9)))
      (call $out (ref.is_null (local.get $none)))
      (table.set $t (i32.const 2) (global.get $g))
      (call $out (call $apply (i32.const 2) (i32.const 9)))
      (call $out (table.size $t))
      (call $out (table.size $x))
      (call $out (i32.load8_u (i32.const 11)))
      ;; A dropped segment is empty.
      (memory.init $d (i32.const 0) (i32.const 0) (i32.const 0))
      (call $out (call $apply (i32.const 5) (i32.const 9)))
      (memory.init $d (i32.const 0) (i32.const 0) (i32.const 1))))`,
  '--enable-tail-call',
);

const EXPECTED = [6, 6, 6, 10, 16, 5, 3, 2, 6, 1, 16, 7, 4, 100, 6];
const END = { kind: 'trapped', message: 'out of bounds memory access' };

type Place = { readonly engine: Engine; readonly policy: Policy };

const V8: Place = { engine: v8Engine, policy: 'loop-all' };
const WAMR: Place = { engine: wamrEngine, policy: 'loop-all' };

/** Runs a module that goes from place to place, at every so many asks. */
function run(module: Uint8Array, route: readonly Place[], everyAsk: number) {
  const said: number[] = [];
  const imports = (): HostImports => ({
    t: {
      out: host<[number]>('(i)', (value) => {
        said.push(value);
        return undefined;
      }),
    },
  });
  let asks = 0;
  const make = (n: number, frames: Uint8Array = new Uint8Array()): ReturnType<typeof makeInstance> => {
    const { engine, policy } = route[n % route.length] ?? V8;
    const form = instrumentFor(frames, module, policy, engine.flag);
    return makeInstance(
      form,
      imports,
      scriptedStop(() => (asks += 1) % everyAsk === 0),
      engine,
    );
  };
  let { instance } = make(0);
  let outcome: Outcome = instance.start();
  let moves = 0;
  while (outcome.kind === 'stopped') {
    moves += 1;
    const state = copyState(instance.capture());
    assert.deepEqual(encodeStack(decodeStack(state.frames.bytes)), new Uint8Array(state.frames.bytes));
    ({ instance } = make(moves, state.frames.bytes));
    instance.restore(state, parseModule(module));
    const again = instance.capture();
    assert.deepEqual({ ...again, frames: { ...again.frames, policy: state.frames.policy } }, state, 'the same state');
    outcome = instance.resume();
  }
  return { outcome, said, moves };
}

describe('tables, references, segments and tail calls go along', () => {
  for (const route of [[V8], [WAMR], [V8, WAMR]]) {
    test(route.map(({ engine }) => engine.name).join(' and '), () => {
      const everywhere = route.map(({ engine }): Place => ({ engine, policy: 'instruction' }));
      assert.deepEqual(run(REFERENCES, everywhere, 1_000_000), { outcome: END, said: EXPECTED, moves: 0 });
      for (const everyAsk of [1, 2, 7]) {
        const { outcome, said, moves } = run(REFERENCES, everywhere, everyAsk);
        assert.deepEqual({ outcome, said }, { outcome: END, said: EXPECTED });
        assert.ok(moves > 20, `${moves} moves`);
      }
    });
  }
});

test('a form that has not the points of an image gets them as entries', () => {
  const forms: readonly Policy[] = ['call', 'function', 'loop', 'loop-all', 'instruction'];
  for (const policy of forms) {
    for (const everyAsk of [1, 2, 19, 40, 77, 111, 150, 201]) {
      const route: readonly Place[] = [
        { engine: v8Engine, policy: 'instruction' },
        { engine: wamrEngine, policy },
        { engine: wamrEngine, policy: 'instruction' },
        { engine: v8Engine, policy },
      ];
      const { outcome, said, moves } = run(REFERENCES, route, everyAsk);
      assert.deepEqual({ outcome, said }, { outcome: END, said: EXPECTED }, policy);
      // In its second place a guest may have no points to stop at.
      assert.ok(moves > 0, `${moves} moves under ${policy}`);
    }
  }
  // It is the entries that make it so.
  const { instance } = makeInstance(
    instrument(REFERENCES, 'instruction', 'memory'),
    () => ({ t: { out: host('(i)', () => undefined) } }),
    scriptedStop(() => true),
  );
  instance.start();
  assert.ok(!hasPlaces(instrument(REFERENCES, 'loop', 'memory'), instance.capture().frames.bytes));
});

test('vectors go along, in locals, operands and globals', () => {
  const module = wat(`(module (import "t" "out" (func $out (param i32)))
    (global $v (mut v128) (v128.const i32x4 1 2 3 4))
    (func $more (param $n i32) (result v128)
      (loop $again (br_if $again (i32.gt_s (local.tee $n (i32.sub (local.get $n) (i32.const 1))) (i32.const 5))))
      (i32x4.splat (local.get $n)))
    (func (export "_start") (local $w v128)
      (local.set $w (v128.const i32x4 10 20 30 40))
      (global.set $v (i32x4.add (i32x4.add (global.get $v) (local.get $w)) (call $more (i32.const 9))))
      (call $out (i32x4.extract_lane 0 (global.get $v)))
      (call $out (i32x4.extract_lane 3 (global.get $v)))
      (call $out (i32x4.extract_lane 2 (local.get $w)))))`);
  for (const everyAsk of [1, 3]) {
    const { said, moves } = run(module, [{ engine: v8Engine, policy: 'instruction' }], everyAsk);
    assert.deepEqual(said, [16, 49, 30]);
    assert.ok(moves > 10, `${moves} moves`);
  }
});

for (const { engine } of [V8, WAMR]) {
  test(`${engine.name}: a frame is in the terms of the original module`, () => {
    const module = wat(`(module (import "t" "out" (func $out (param i32))) (memory 1)
      (func $inner (param $a i32) (param $dead i64) (result i32) (loop (br_if 0 (local.get $a))) (i32.const 1))
      (func (export "_start") (call $out (i32.add (i32.const 40) (call $inner (i32.const 2) (i64.const 3))))))`);
    const { instance } = makeInstance(
      instrument(module, 'loop-all', engine.flag),
      () => ({ t: { out: host('(i)', () => undefined) } }),
      scriptedStop(() => true),
      engine,
    );
    instance.start();
    const { frames, stage } = decodeStack(instance.capture().frames.bytes);
    assert.equal(stage, 'main');
    assert.deepEqual(
      frames.map(({ function: index, stand, locals, operands }) => ({ index, stand, locals, operands })),
      [
        { index: 2, stand: 'in', locals: [], operands: [{ type: 'i', bits: 40n }] },
        { index: 1, stand: 'at', locals: [{ index: 0, type: 'i', bits: 2n }], operands: [] },
      ],
    );
    // The instructions at these places of the original: a call, and the first of the loop's body.
    assert.equal(module[frames[0]?.offset ?? 0], 0x10);
    assert.equal(module[frames[1]?.offset ?? 0], 0x20);
  });
}
