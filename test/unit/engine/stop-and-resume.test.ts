import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import fc from 'fast-check';
import type { HostCallContext, HostImports, StopSignal } from '../../../src/engine/engine.ts';
import { instrument } from '../../../src/engine/instrument/instrument.ts';
import { createStopSignal } from '../../../src/engine/stop.ts';
import { host, makeInstance, runMoving, scriptedStop, wat } from './support.ts';

/** Loops, calls, indirect recursion, every kind of global, vectors, a start function, memory that grows, data. */
const EVERYTHING = wat(`(module
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
  (func $start (global.set $i (i64.add (global.get $i) (i64.const 1))))
  (start $start)
  (func $fib (param i32) (result i64)
    (if (result i64) (i32.lt_u (local.get 0) (i32.const 2))
      (then (i64.extend_i32_u (local.get 0)))
      (else (i64.add
        (call_indirect (param i32) (result i64) (i32.sub (local.get 0) (i32.const 1)) (i32.const 0))
        (call $fib (i32.sub (local.get 0) (i32.const 2)))))))
  (func (export "_start") (local $n i32) (local $v v128)
    (local.set $v (v128.const i32x4 1 2 3 4))
    (loop $again
      (global.set $f (f64.mul (global.get $f) (f64.const 1.25)))
      (local.set $v (i32x4.add (local.get $v) (i32x4.splat (local.get $n))))
      (i32.store (i32.const 200) (i32.add (i32.load (i32.const 200)) (local.get $n)))
      (i32.store8 (i32.const 100) (local.get $n))
      (br_if $again (i32.lt_u (local.tee $n (i32.add (local.get $n) (global.get $constant))) (i32.const 50))))
    (drop (memory.grow (i32.const 2)))
    (i32.store (i32.const 140000) (i32.const 77))
    (call $out (call $fib (i32.const 9)))
    (call $out (i64.extend_i32_u (i32x4.extract_lane 2 (local.get $v))))
    (call $out (call $block (i32.const -5) (i64.const -6) (f64.const 2.5)))
    (call $out (i64.reinterpret_f64 (global.get $f)))
    (call $out (i64.extend_i32_u (i32.reinterpret_f32 (global.get $nan))))
    (call $out (global.get $i))
    (call $out (i64.load32_u (i32.const 200)))
    (call $out (i64.load32_u (i32.const 140000)))
    (call $out (i64.load (i32.const 100)))
    (call $out (i64.extend_i32_u (memory.size)))))`);

/** What the module says, and the same for a host whose `block` suspends at its first issue. */
function world(suspends: boolean): { said: bigint[]; imports: (context: HostCallContext) => HostImports } {
  const said: bigint[] = [];
  const imports = (context: HostCallContext): HostImports => ({
    t: {
      out: host<[bigint]>('(I)', (value) => {
        said.push(value);
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

function neverStopped(): Promise<bigint[]> {
  return instrument(EVERYTHING, 'loop-all').then((module) => {
    const { said, imports } = world(false);
    assert.deepEqual(makeInstance(module, imports).instance.start(), { kind: 'exited', code: 0 });
    return said;
  });
}

/** Stops at those polls that `at` names, counted over the whole life of the guest. */
function stopsAt(at: (poll: number) => boolean): () => StopSignal {
  let polls = 0;
  let stopped = false;
  return () =>
    scriptedStop(() => {
      // The poll at which the guest stopped is asked once more when it goes on.
      if (stopped) {
        stopped = false;
        return false;
      }
      polls += 1;
      stopped = at(polls);
      return stopped;
    });
}

test('an instrumented module computes what the original does', async () => {
  const original = await instrument(EVERYTHING, 'none');
  const { said, imports } = world(false);
  assert.deepEqual(makeInstance(original, imports).instance.start(), { kind: 'exited', code: 0 });
  assert.deepEqual(await neverStopped(), said);
  assert.equal(said[0], 34n);
  assert.equal(said[4], 0x7fa00001n);
  assert.equal(said[5], 8n, 'the start function ran once');
});

test('a guest that moves at every single poll computes the same', async () => {
  const module = await instrument(EVERYTHING, 'loop-all');
  const { said, imports } = world(true);
  const { outcome, moves } = runMoving(
    module,
    imports,
    stopsAt(() => true),
  );
  assert.deepEqual(outcome, { kind: 'exited', code: 0 });
  assert.ok(moves > 100, `only ${moves} moves`);
  assert.deepEqual(said, await neverStopped());
});

test('a guest that moves at any polls computes the same', async () => {
  const module = await instrument(EVERYTHING, 'loop-all');
  const expected = await neverStopped();
  fc.assert(
    fc.property(fc.uniqueArray(fc.integer({ min: 1, max: 120 }), { maxLength: 12 }), (points) => {
      const { said, imports } = world(true);
      const { outcome } = runMoving(
        module,
        imports,
        stopsAt((poll) => points.includes(poll)),
      );
      assert.deepEqual(outcome, { kind: 'exited', code: 0 });
      assert.deepEqual(said, expected);
    }),
    { numRuns: 25 },
  );
});

test('a stop that is taken back goes on in the same instance', async () => {
  const module = await instrument(EVERYTHING, 'loop-all');
  const { said, imports } = world(true);
  const { instance } = makeInstance(module, imports, stopsAt((poll) => poll % 3 === 0)());
  let outcome = instance.start();
  let stops = 0;
  while (outcome.kind === 'stopped') {
    stops += 1;
    instance.capture();
    outcome = instance.resume();
  }
  assert.ok(stops > 10);
  assert.deepEqual(outcome, { kind: 'exited', code: 0 });
  assert.deepEqual(said, await neverStopped());
});

const TIGHT_LOOP = `(module
  (import "t" "out" (func $out (param i64)))
  (memory 1)
  (func (export "_start") (local $n i64)
    (loop $again
      (local.set $n (i64.add (local.get $n) (i64.const 1)))
      (br_if $again (i32.eqz (i32.load (i32.const 0)))))
    (call $out (local.get $n))))`;

test('another thread stops a tight loop, again and again, in the same instance', { timeout: 20_000 }, async () => {
  const module = await instrument(wat(TIGHT_LOOP), 'loop-all');
  const stop = createStopSignal();
  // Raises the flag whenever it has been down for a moment, until word 1 is set.
  const worker = new Worker(
    `const { workerData } = require('node:worker_threads');
     const words = new Int32Array(workerData.buffer, 0, 2);
     while (Atomics.load(words, 1) === 0) {
       if (Atomics.wait(words, 0, 0, 3) === 'timed-out') Atomics.store(words, 0, 1);
       else Atomics.wait(words, 1, 0, 1);
     }`,
    { eval: true, workerData: stop.handle },
  );
  try {
    const said: bigint[] = [];
    const imports = (): HostImports => ({
      t: {
        out: host<[bigint]>('(I)', (value) => {
          said.push(value);
          return undefined;
        }),
      },
    });
    const { instance } = makeInstance(module, imports, stop);
    let outcome = instance.start();
    for (let round = 0; round < 20; round += 1) {
      assert.equal(outcome.kind, 'stopped');
      stop.clear();
      outcome = instance.resume();
    }
    assert.equal(outcome.kind, 'stopped');
    instance.memory()[0] = 1;
    stop.clear();
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

test('recursion without loops stops too', async () => {
  const module = await instrument(
    wat(`(module
      (func $down (param i32) (result i32)
        (if (result i32) (i32.eqz (local.get 0)) (then (i32.const 1))
          (else (i32.add (call $down (i32.sub (local.get 0) (i32.const 1)))
                         (call $down (i32.sub (local.get 0) (i32.const 1)))))))
      (func (export "_start") (drop (call $down (i32.const 60)))))`),
    'loop-all',
  );
  let polls = 0;
  const { instance } = makeInstance(
    module,
    () => ({}),
    scriptedStop(() => (polls += 1) > 1000),
  );
  assert.deepEqual(instance.start(), { kind: 'stopped' });
  assert.ok(instance.capture().frames.bytes.length > 60 * 4);
});

test('a deep stack moves whole', async () => {
  const module = await instrument(
    wat(`(module
      (import "t" "out" (func $out (param i64)))
      (func $sum (param $n i64) (result i64)
        (if (result i64) (i64.eqz (local.get $n)) (then (i64.const 0))
          (else (i64.add (local.get $n) (call $sum (i64.sub (local.get $n) (i64.const 1)))))))
      (func (export "_start") (call $out (call $sum (i64.const 2000)))))`),
    'loop-all',
  );
  const said: bigint[] = [];
  const imports = (): HostImports => ({
    t: {
      out: host<[bigint]>('(I)', (value) => {
        said.push(value);
        return undefined;
      }),
    },
  });
  const { outcome, moves } = runMoving(
    module,
    imports,
    stopsAt((poll) => poll === 1990),
  );
  assert.equal(moves, 1);
  assert.deepEqual(outcome, { kind: 'exited', code: 0 });
  assert.deepEqual(said, [2001000n]);
});
