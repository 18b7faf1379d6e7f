/** Guests that are stopped, captured and continued in another instance compute what they would have computed anyway. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import fc from 'fast-check';
import {
  GuestExit,
  type HostCallContext,
  type HostImports,
  type Outcome,
  type StopSignal,
} from '../../../../src/engine/engine.ts';
import { parseModule } from '../../../../src/engine/wasm/module.ts';
import { createStopSignal } from '../../../../src/engine/stop.ts';
import { copyState, host, scriptedStop, wat } from '../support.ts';
import { make, placeAfter, type Route } from './subjects.ts';

/** Loops, calls, indirect recursion, every kind of global, a start function that loops, memory that grows, data. */
const EVERYTHING = `(module
  (import "t" "out" (func $out (param i64)))
  (import "t" "block" (func $block (param i32 i64 f64) (result i64)))
  (memory 1 10)
  (data (i32.const 100) "hello")
  (global $f (mut f64) (f64.const 1.5))
  (global $nan (mut f32) (f32.const nan:0x200001))
  (global $i (mut i64) (i64.const 7))
  (global $constant i32 (i32.const 3))
  (table 2 funcref)
  (elem (i32.const 0) $fib $fib)
  (func $start (local $n i32)
    (loop $again
      (global.set $i (i64.add (global.get $i) (i64.const 1)))
      (br_if $again (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 5)))))
  (start $start)
  (func $fib (param i32) (result i64)
    (if (result i64) (i32.lt_u (local.get 0) (i32.const 2))
      (then (i64.extend_i32_u (local.get 0)))
      (else (i64.add
        (call_indirect (param i32) (result i64) (i32.sub (local.get 0) (i32.const 1)) (i32.const 0))
        (call $fib (i32.sub (local.get 0) (i32.const 2)))))))
  (func (export "_start") (local $n i32) (local $h f32)
    (local.set $h (f32.const -nan:0x300003))
    (loop $again
      (global.set $f (f64.mul (global.get $f) (f64.const 1.25)))
      (i32.store (i32.const 200) (i32.add (i32.load (i32.const 200)) (local.get $n)))
      (i32.store8 (i32.const 100) (local.get $n))
      (br_if $again (i32.lt_u (local.tee $n (i32.add (local.get $n) (global.get $constant))) (i32.const 50))))
    (drop (memory.grow (i32.const 2)))
    (i32.store (i32.const 140000) (i32.const 77))
    (call $out (call $fib (i32.const 9)))
    (call $out (call $block (i32.const -5) (i64.const -6) (f64.const 2.5)))
    (call $out (i64.reinterpret_f64 (global.get $f)))
    (call $out (i64.extend_i32_u (i32.reinterpret_f32 (global.get $nan))))
    (call $out (i64.extend_i32_u (i32.reinterpret_f32 (local.get $h))))
    (call $out (global.get $i))
    (call $out (i64.load32_u (i32.const 200)))
    (call $out (i64.load32_u (i32.const 140000)))
    (call $out (i64.load (i32.const 100)))
    (call $out (i64.extend_i32_u (memory.size)))))`;

/** What the module says, and a host whose `block` suspends at its first issue if asked to. */
function world(suspends: boolean): { said: bigint[]; imports: (context: HostCallContext) => HostImports } {
  const said: bigint[] = [];
  const imports = (context: HostCallContext): HostImports => ({
    t: {
      out: host<[bigint]>('(I)', (value) => {
        said.push(BigInt.asUintN(64, value));
        return undefined;
      }),
      block: host<[number, bigint, number]>('(iIF)I', (a, b, c) => {
        if (suspends && !context.resumed) {
          context.pending = { left: a };
          context.suspend();
          return 99n;
        }
        assert.equal(context.resumed, suspends);
        assert.deepEqual(context.pending, suspends ? { left: -5 } : undefined);
        return BigInt(a) * 1000n + b * 10n + BigInt(c * 2);
      }),
    },
  });
  return { said, imports };
}

const EXPECTED = [
  34n,
  BigInt.asUintN(64, -5055n),
  new BigUint64Array(new Float64Array([1.5 * 1.25 ** 17]).buffer)[0] ?? 0n,
  0x7fa0_0001n,
  0xffb0_0003n,
  12n,
  408n,
  77n,
  BigInt(48 | (0x65 << 8) | (0x6c << 16)) | (0x6cn << 24n) | (0x6fn << 32n),
  3n,
];

/** Stops at those asks that `at` names, counted over the whole life of the guest. */
function stopsAt(at: (ask: number) => boolean): () => StopSignal {
  let asks = 0;
  let stopped = false;
  return () =>
    scriptedStop(() => {
      // Some encodings ask once more where the guest stopped, when it goes on; a guest that always stops makes no progress.
      if (stopped) {
        stopped = false;
        return false;
      }
      asks += 1;
      stopped = at(asks);
      return stopped;
    });
}

function run(
  route: Route,
  text: string,
  imports: (context: HostCallContext) => HostImports,
  stop: () => StopSignal,
): { readonly outcome: Outcome; readonly moves: number } {
  let { instance } = make(route[0], text, imports, stop());
  let outcome = instance.start();
  let moves = 0;
  while (outcome.kind === 'stopped') {
    moves += 1;
    const state = copyState(instance.capture());
    ({ instance } = make(placeAfter(route, moves), text, imports, stop()));
    instance.restore(state, parseModule(wat(text, '--enable-all')));
    outcome = instance.resume();
  }
  return { outcome, moves };
}

export function moving(route: Route): void {
  const subject = route[0];

  test('a guest that moves at every other ask', { timeout: 60_000 }, () => {
    const { said, imports } = world(true);
    const { outcome, moves } = run(
      route,
      EVERYTHING,
      imports,
      stopsAt(() => true),
    );
    assert.deepEqual(outcome, { kind: 'exited', code: 0 });
    assert.deepEqual(said, EXPECTED);
    assert.ok(moves > 40, `only ${moves} moves`);
  });

  test('a guest that moves at any asks', { timeout: 60_000 }, () => {
    fc.assert(
      fc.property(fc.uniqueArray(fc.integer({ min: 1, max: 120 }), { maxLength: 12 }), (places) => {
        const { said, imports } = world(true);
        const { outcome } = run(
          route,
          EVERYTHING,
          imports,
          stopsAt((ask) => places.includes(ask)),
        );
        assert.deepEqual(outcome, { kind: 'exited', code: 0 });
        assert.deepEqual(said, EXPECTED);
      }),
      { numRuns: 20 },
    );
  });

  test('a stop that is taken back goes on in the same instance', () => {
    const { said, imports } = world(true);
    const { instance } = make(subject, EVERYTHING, imports, stopsAt((ask) => ask % 3 === 0)());
    let outcome = instance.start();
    let stops = 0;
    while (outcome.kind === 'stopped') {
      stops += 1;
      instance.capture();
      outcome = instance.resume();
    }
    assert.ok(stops > 5, `only ${stops} stops`);
    assert.deepEqual(outcome, { kind: 'exited', code: 0 });
    assert.deepEqual(said, EXPECTED);
  });

  test('an interrupted call is recorded with its arguments and issued again with them', () => {
    const text = `(module
      (import "t" "wait" (func $wait (param i32 i64 f32 f64) (result i64)))
      (memory 1)
      (func (export "_start")
        (i64.store (i32.const 8) (call $wait (i32.const -1) (i64.const -2) (f32.const 1.5) (f64.const -0.25)))))`;
    const calls: unknown[] = [];
    let suspensions = 3;
    const imports = (context: HostCallContext): HostImports => ({
      t: {
        wait: host<[number, bigint, number, number]>('(iIfF)I', (...args) => {
          calls.push([context.resumed, context.pending, ...args]);
          if (suspensions > 0) {
            context.pending = [suspensions, 'left'];
            suspensions -= 1;
            context.suspend();
            return 0n;
          }
          return 42n;
        }),
      },
    });
    let moves = 0;
    let { instance } = make(subject, text, imports);
    let outcome = instance.start();
    while (outcome.kind === 'stopped') {
      const state = copyState(instance.capture());
      assert.deepEqual(state.call?.args, [0xffff_ffffn, 0xffff_ffff_ffff_fffen, 0x3fc0_0000n, 0xbfd0_0000_0000_0000n]);
      assert.equal(state.call?.name, 'wait');
      moves += 1;
      ({ instance } = make(placeAfter(route, moves), text, imports));
      instance.restore(state, parseModule(wat(text, '--enable-all')));
      outcome = instance.resume();
    }
    const args = [-1, -2n, 1.5, -0.25];
    assert.deepEqual(calls, [
      [false, undefined, ...args],
      [true, [3, 'left'], ...args],
      [true, [2, 'left'], ...args],
      [true, [1, 'left'], ...args],
    ]);
    assert.equal(new DataView(instance.memory().buffer).getBigInt64(8, true), 42n);
  });

  test('another thread stops a tight loop, again and again', { timeout: 60_000 }, async () => {
    const text = `(module (import "t" "out" (func $out (param i64))) (memory 1)
      (func (export "_start") (local $n i64)
        (loop $again
          (local.set $n (i64.add (local.get $n) (i64.const 1)))
          (br_if $again (i32.eqz (i32.load (i32.const 0)))))
        (call $out (local.get $n))))`;
    const stop = createStopSignal();
    // Asks for a stop a few milliseconds after the last was taken back, until word 1 is set.
    const worker = new Worker(new URL('./stopper.ts', import.meta.url), { workerData: stop.handle });
    try {
      const { said, imports } = world(false);
      const { instance } = make(subject, text, imports, stop);
      let outcome = instance.start();
      for (let round = 0; round < 20; round += 1) {
        assert.equal(outcome.kind, 'stopped');
        stop.clear();
        outcome = instance.resume();
      }
      instance.memory()[0] = 1;
      while (outcome.kind === 'stopped') {
        stop.clear();
        outcome = instance.resume();
      }
      assert.deepEqual(outcome, { kind: 'exited', code: 0 });
      assert.ok((said[0] ?? 0n) > 1000n);
    } finally {
      Atomics.store(new Int32Array(stop.shared), 1, 1);
      await worker.terminate();
    }
  });

  test('a deep stack moves whole', () => {
    const text = `(module
      (import "t" "out" (func $out (param i64)))
      (func $sum (param $n i64) (result i64)
        (if (result i64) (i64.eqz (local.get $n)) (then (i64.const 0))
          (else (i64.add (local.get $n) (call $sum (i64.sub (local.get $n) (i64.const 1)))))))
      (func (export "_start") (call $out (call $sum (i64.const 1000)))))`;
    const { said, imports } = world(false);
    const { outcome, moves } = run(
      route,
      text,
      imports,
      stopsAt((ask) => ask === 990),
    );
    assert.equal(moves, 1);
    assert.deepEqual(outcome, { kind: 'exited', code: 0 });
    assert.deepEqual(said, [500500n]);
  });

  test('traps and exits of a guest that moved are outcomes', () => {
    const text = (end: string): string => `(module (import "t" "end" (func $end)) (memory 1)
      (func (export "_start") (local $n i32)
        (loop $again (br_if $again (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 9))))
        ${end}))`;
    const imports = (): HostImports => ({
      t: {
        end: host('()', () => {
          throw new GuestExit(9);
        }),
      },
    });
    const trapped = run(
      route,
      text('unreachable'),
      imports,
      stopsAt((ask) => ask === 4),
    );
    assert.deepEqual(trapped, { outcome: { kind: 'trapped', message: 'unreachable' }, moves: 1 });
    const exited = run(
      route,
      text('(call $end)'),
      imports,
      stopsAt((ask) => ask === 4),
    );
    assert.deepEqual(exited, { outcome: { kind: 'exited', code: 9 }, moves: 1 });
  });

  test('calls in the wrong state are refused', () => {
    const text = '(module (memory 1) (func (export "_start") (loop (br 0))))';
    const { instance } = make(subject, text, undefined, stopsAt(() => true)());
    assert.deepEqual(instance.start(), { kind: 'stopped' });
    const state = copyState(instance.capture());
    assert.throws(() => instance.start(), { code: 'KEDGE_ENGINE_STATE' });
    assert.throws(() => instance.restore(state), { code: 'KEDGE_ENGINE_STATE' });
    const ended = make(subject, '(module (func (export "_start")))').instance;
    ended.start();
    assert.throws(() => ended.capture(), { code: 'KEDGE_ENGINE_STATE' });
    assert.throws(() => ended.resume(), { code: 'KEDGE_ENGINE_STATE' });
  });

  test('recursion without loops stops too', () => {
    const text = `(module
      (func $down (param i32) (result i32)
        (if (result i32) (i32.eqz (local.get 0)) (then (i32.const 1))
          (else (i32.add (call $down (i32.sub (local.get 0) (i32.const 1)))
                         (call $down (i32.sub (local.get 0) (i32.const 1)))))))
      (func (export "_start") (drop (call $down (i32.const 60)))))`;
    const { instance } = make(subject, text, undefined, stopsAt((ask) => ask > 1000)());
    assert.deepEqual(instance.start(), { kind: 'stopped' });
    assert.ok(instance.capture().frames.bytes.length > 60 * 4);
  });

  test('damaged frames are an error and never a crash', () => {
    const text = '(module (memory 1) (global (mut i32) (i32.const 1)) (func (export "_start") (loop (br 0))))';
    const last = route.at(-1) ?? subject;
    const { instance } = make(subject, text, undefined, stopsAt(() => true)());
    assert.deepEqual(instance.start(), { kind: 'stopped' });
    const state = copyState(instance.capture());
    const codes = new Set<unknown>();
    const attempt = (bytes: Uint8Array): void => {
      const damaged = make(
        last,
        text,
        undefined,
        scriptedStop(() => true),
      ).instance;
      try {
        damaged.restore({ ...state, frames: { ...state.frames, bytes } });
        damaged.resume();
      } catch (error) {
        codes.add(error instanceof Error && 'code' in error ? error.code : String(error));
      }
    };
    for (let at = 0; at < state.frames.bytes.length; at += 1) {
      for (const flip of [0x01, 0x80]) {
        const bytes = state.frames.bytes.slice();
        bytes[at] = (bytes[at] ?? 0) ^ flip;
        attempt(bytes);
      }
    }
    attempt(state.frames.bytes.slice(4));
    attempt(new Uint8Array(400));
    assert.deepEqual([...codes], ['KEDGE_FRAMES_CORRUPT']);
    const lost = make(
      last,
      text,
      undefined,
      scriptedStop(() => true),
    ).instance;
    const call = { module: 't', name: 'elsewhere', args: [] };
    assert.throws(() => lost.restore({ ...state, call }), { code: 'KEDGE_FRAMES_CORRUPT' });
  });
}
