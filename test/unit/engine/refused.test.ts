/** What of a state from elsewhere is refused by `restore`, before a guest is handed over. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { ComputeState, Engine, HostCallContext, Policy } from '../../../src/engine/engine.ts';
import { instrument } from '../../../src/engine/points/instrument.ts';
import { decodeStack, encodeStack, type Frame, type Stack } from '../../../src/engine/points/stack.ts';
import { createStopSignal } from '../../../src/engine/stop.ts';
import { parseModule } from '../../../src/engine/wasm/module.ts';
import { v8Engine } from '../../../src/engine/v8/engine.ts';
import { wamrEngine } from '../../../src/engine/wamr/engine.ts';
import { copyState, host, makeInstance, scriptedStop, wat } from './support.ts';

/** Stops in a loop of a function with a result, below `_start`. The table changes, and two segments may be dropped. */
const COMPUTES = wat(`(module
  (memory 1) (data $d "abc") (elem $e func $inner)
  (table $t 2 4 funcref) (global $g (mut funcref) (ref.null func))
  (elem declare func $inner)
  (func $inner (param $a i32) (param $b i64) (param $dead i32) (param $r funcref) (result i32)
    (loop $again
      (local.set $b (i64.add (local.get $b) (i64.const 3)))
      (br_if $again (local.get $a)))
    (i32.wrap_i64 (i64.add (local.get $b) (i64.extend_i32_u (ref.is_null (local.get $r))))))
  (func (export "_start")
    (table.set $t (i32.const 1) (ref.func $inner))
    (global.set $g (ref.func $inner))
    (i32.store (i32.const 0) (i32.add (i32.const 40)
      (call $inner (i32.const 1) (i64.const 2) (i32.const 9) (ref.func $inner))))
    (data.drop $d) (elem.drop $e)))`);

const ARGUMENTS = '(i32.const 7) (f32.const nan:0x200001)';

/** Stands in a host call, that it makes itself or through a table. */
const CALLS = (how: string): Uint8Array =>
  wat(
    `(module (import "t" "wait" (func $first (param i32 f32) (result i32))) (import "t" "other" (func $other))
    (import "t" "wait" (func $wait (param i32 f32) (result i32)))
    (table 1 funcref) (elem (i32.const 0) $wait) (type $f (func (param i32 f32) (result i32)))
    (func $tail (result i32) (return_call $wait ${ARGUMENTS}))
    (func (export "_start") (drop (i32.add (i32.const 5) ${how})) (call $other)))`,
    '--enable-tail-call',
  );

const ENGINES: readonly Engine[] = [v8Engine, wamrEngine];

function make(module: Uint8Array, engine: Engine, policy: Policy, stop = createStopSignal()) {
  const imports = (context: HostCallContext) => ({
    t: {
      wait: host('(if)i', () => {
        if (stop.requested()) context.suspend();
        return 1;
      }),
      other: host('()', () => undefined),
    },
  });
  return makeInstance(instrument(module, policy, engine.flag), imports, stop, engine).instance;
}

function stopped(module: Uint8Array, engine: Engine, policy: Policy): ComputeState {
  const instance = make(
    module,
    engine,
    policy,
    scriptedStop(() => true),
  );
  assert.deepEqual(instance.start(), { kind: 'stopped' });
  return copyState(instance.capture());
}

type Change = (stack: Stack) => Partial<Stack>;

/** The same state with other frames. */
function changed(state: ComputeState, change: Change): ComputeState {
  const stack = decodeStack(state.frames.bytes);
  return { ...state, frames: { ...state.frames, bytes: encodeStack({ ...stack, ...change(stack) }) } };
}

/** Changes the innermost frame. */
function innermost(change: (frame: Frame) => Partial<Frame>): Change {
  return ({ frames }) => ({
    frames: frames.map((frame, n) => (n === frames.length - 1 ? { ...frame, ...change(frame) } : frame)),
  });
}

const ONE = { type: 'i', bits: 1n } as const;

for (const engine of ENGINES) {
  describe(`${engine.name} refuses`, () => {
    const state = stopped(COMPUTES, engine, 'loop-all');
    const refused = (what: string, wrong: ComputeState, module = COMPUTES): void => {
      const fresh = make(module, engine, 'loop-all');
      assert.throws(() => fresh.restore(wrong, parseModule(module)), { code: 'KEDGE_FRAMES_CORRUPT' }, what);
    };

    test('frames whose values are not those that matter at their points', () => {
      const cases: Readonly<Record<string, Change>> = {
        'a live local is missing': innermost(({ locals }) => ({ locals: locals.slice(1) })),
        'a local of another type': innermost(({ locals }) => ({
          locals: locals.map((local) => (local.index === 0 ? { ...local, type: 'f' } : local)),
        })),
        'a local twice': innermost(({ locals }) => ({ locals: locals.flatMap((local) => [local, local]) })),
        'a local that there is not': innermost(({ locals }) => ({ locals: [...locals, { ...ONE, index: 4 }] })),
        'a reference to what cannot be referred to': innermost(({ locals }) => ({
          locals: locals.map((local) => (local.type === 'r' ? { ...local, bits: 2n } : local)),
        })),
        'an operand too many': innermost(({ operands }) => ({ operands: [...operands, ONE] })),
        'an operand is missing': ({ frames }) => ({
          frames: frames.map((frame, n) => (n === 0 ? { ...frame, operands: [] } : frame)),
        }),
        'an operand of another type': ({ frames }) => ({
          frames: frames.map((frame, n) =>
            n === 0 ? { ...frame, operands: frame.operands.map((value) => ({ ...value, type: 'f' })) } : frame,
          ),
        }),
      };
      for (const [what, change] of Object.entries(cases)) refused(what, changed(state, change));
    });

    test('a stack that does not begin where a guest begins', () => {
      refused(
        'a function with a result',
        changed(state, ({ frames }) => ({ frames: frames.slice(1) })),
      );
      refused(
        'none',
        changed(state, () => ({ frames: [] })),
      );
      refused(
        'a start function',
        changed(state, () => ({ stage: 'start' })),
      );
    });

    test('tables, globals and segments that are not those of the module', () => {
      const [table] = decodeStack(state.frames.bytes).tables;
      assert.ok(table !== undefined);
      const cases: Readonly<Record<string, Change>> = {
        'no table': () => ({ tables: [] }),
        'another table': () => ({ tables: [{ ...table, index: 1 }] }),
        'a table twice': () => ({ tables: [table, table] }),
        'a table that is smaller': () => ({ tables: [{ ...table, elements: [0] }] }),
        'an element that is none': () => ({ tables: [{ ...table, elements: [0, 2] }] }),
        'no global': () => ({ globals: [] }),
        'another global': () => ({ globals: [{ index: 1, bits: 0n }] }),
        'a global of what is no function': () => ({ globals: [{ index: 0, bits: 9n }] }),
        'a data segment that there is not': () => ({ data: [1] }),
        'an element segment twice': () => ({ elements: [0, 0] }),
      };
      for (const [what, change] of Object.entries(cases)) refused(what, changed(state, change));
    });

    test('a host call that its guest does not stand in', () => {
      const call = { module: 't', name: 'wait', args: [7n, 0n] };
      refused('in a module without imports', { ...state, call });
      const looping = wat(`(module (import "t" "wait" (func $wait (param i32 f32) (result i32)))
        (func (export "_start") (loop $again (drop (call $wait (i32.const 7) (f32.const 0))) (br $again))))`);
      const polled = stopped(looping, engine, 'loop-all');
      assert.equal(polled.call, undefined);
      refused('where it computes', { ...polled, call }, looping);
      const indirect = `(call_indirect (type $f) ${ARGUMENTS} (i32.const 0))`;
      for (const how of [`(call $first ${ARGUMENTS})`, `(call $wait ${ARGUMENTS})`, indirect, '(call $tail)']) {
        const module = CALLS(how);
        const standing = stopped(module, engine, 'loop-all');
        const { call: real } = standing;
        assert.ok(real !== undefined);
        refused('another one', { ...standing, call: { module: 't', name: 'other', args: [] } }, module);
        refused('one that there is not', { ...standing, call: { ...real, name: 'nothing' } }, module);
        refused('other arguments', { ...standing, call: { ...real, args: [8n, real.args[1] ?? 0n] } }, module);
        refused('an argument is missing', { ...standing, call: { ...real, args: [7n] } }, module);
        const fresh = make(module, engine, 'loop-all');
        fresh.restore(standing, parseModule(module));
        assert.deepEqual(fresh.resume(), { kind: 'exited', code: 0 });
      }
      const { call: _, ...without } = stopped(
        CALLS(`(call_indirect (type $f) ${ARGUMENTS} (i32.const 0))`),
        engine,
        'loop-all',
      );
      refused('no call', without, CALLS(`(call_indirect (type $f) ${ARGUMENTS} (i32.const 0))`));
    });

    test('frames that do not follow the calls of their module', () => {
      const module = wat(`(module
        (func $gives (param $n i32) (result i32) (loop $again (br_if $again (i32.eqz (local.get $n)))) (local.get $n))
        (func $takes (param $n i32) (loop $again (br_if $again (i32.eqz (local.get $n)))))
        (func (export "_start") (call $takes (call $gives (i32.const 1)))))`);
      const asks: number[] = [];
      const instance = make(
        module,
        engine,
        'loop-all',
        scriptedStop(() => asks.push(0) > 0),
      );
      assert.deepEqual([instance.start().kind, asks.length], ['stopped', 1]);
      const inGives = copyState(instance.capture());
      assert.deepEqual([instance.resume().kind, asks.length], ['stopped', 2]);
      const { frames } = decodeStack(instance.capture().frames.bytes);
      const wrong = changed(inGives, (stack) => ({ frames: [...stack.frames.slice(0, 1), ...frames.slice(1)] }));
      refused('a function without a result', wrong, module);
      // Without the original module it is seen when they enter.
      const fresh = make(module, engine, 'loop-all');
      fresh.restore(wrong);
      assert.throws(() => fresh.resume(), { code: 'KEDGE_FRAMES_CORRUPT' });
    });

    test('nothing of what was stopped, also with locals that do not matter', () => {
      const more = innermost(({ locals }) => ({
        locals: [...locals, { index: 2, ...ONE }].sort((a, b) => a.index - b.index),
      }));
      for (const right of [state, changed(state, more)]) {
        const fresh = make(COMPUTES, engine, 'loop-all');
        fresh.restore(right, parseModule(COMPUTES));
        assert.deepEqual(decodeStack(fresh.capture().frames.bytes).frames.length, 2);
      }
    });
  });
}

test('a stack of more than any engine has is refused while it is read', () => {
  const bytes = (...list: readonly (number | readonly number[])[]): Uint8Array => Uint8Array.from(list.flat());
  const [million, billion] = [
    [0xc0, 0x84, 0x3d],
    [0x80, 0x94, 0xeb, 0xdc, 0x03],
  ];
  const cases: readonly [string, Uint8Array][] = [
    ['frames', bytes(1, 1, million)],
    ['values', bytes(1, 1, 1, 0, 0, billion)],
    ['values', bytes(1, 1, 1, 0, 0, 0, billion)],
    ['elements', bytes(1, 1, 0, billion)],
    ['elements', bytes(1, 1, 0, 0, 1, 0, billion)],
  ];
  for (const [what, stack] of cases)
    assert.throws(() => decodeStack(stack), new RegExp(`they have more ${what} than any guest`), what);
});
