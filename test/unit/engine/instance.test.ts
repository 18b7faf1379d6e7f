import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import type { ComputeState, HostImports } from '../../../src/engine/engine.ts';
import { instrument } from '../../../src/engine/instrument/instrument.ts';
import { createStopSignal } from '../../../src/engine/stop.ts';
import { copyState, host, makeInstance, scriptedStop, wat } from './support.ts';

const NONE = (): HostImports => ({});
const LOOP = '(module (memory 1) (global (mut i32) (i32.const 1)) (func (export "_start") (loop (br 0))))';

async function stopped(): Promise<ComputeState> {
  const { instance } = makeInstance(
    await instrument(wat(LOOP), 'loop-all'),
    NONE,
    scriptedStop(() => true),
  );
  assert.deepEqual(instance.start(), { kind: 'stopped' });
  return copyState(instance.capture());
}

test('calls in the wrong state are refused', async () => {
  const module = await instrument(wat(LOOP), 'loop-all');
  const state = await stopped();
  const { instance } = makeInstance(
    module,
    NONE,
    scriptedStop(() => true),
  );
  instance.start();
  assert.throws(() => instance.start(), { code: 'KEDGE_ENGINE_STATE' });
  assert.throws(() => instance.restore(state), { code: 'KEDGE_ENGINE_STATE' });
  const ended = makeInstance(await instrument(wat('(module (func (export "_start")))'), 'loop-all'), NONE).instance;
  ended.start();
  assert.throws(() => ended.capture(), { code: 'KEDGE_ENGINE_STATE' });
  assert.throws(() => ended.resume(), { code: 'KEDGE_ENGINE_STATE' });
});

test('state of another module, policy, encoding or shape is refused', async () => {
  const state = await stopped();
  const module = await instrument(wat(LOOP), 'loop-all');
  const restore = (changed: ComputeState) => (): void => makeInstance(module, NONE).instance.restore(changed);
  const mismatches: readonly ComputeState[] = [
    { ...state, originalHash: '0'.repeat(64) },
    { ...state, frames: { ...state.frames, encoding: 'asyncify-2' } },
    { ...state, frames: { ...state.frames, policy: 'none' } },
    { ...state, frames: { ...state.frames, moduleHash: '0'.repeat(64) } },
    { ...state, globals: [] },
    { ...state, globals: [{ type: 'f64', bits: 0n }] },
    { ...state, memoryPages: 3 },
    { ...state, memory: state.memory.slice(1) },
    { ...state, frames: { ...state.frames, bytes: new Uint8Array(0) }, call: { module: 't', name: 'x', args: [] } },
  ];
  for (const changed of mismatches) {
    assert.throws(restore(changed), { code: 'KEDGE_FRAMES_MISMATCH' });
  }
  assert.throws(restore({ ...state, memoryPages: 70_000 }), { code: 'KEDGE_RESTORE_MEMORY' });
  assert.doesNotThrow(restore(state));
  // Bits may have become numbers on the way through CBOR.
  assert.doesNotThrow(restore({ ...state, globals: [{ type: 'i32', bits: 1 as unknown as bigint }] }));
});

test('damaged frames are an error and never a crash', async () => {
  const state = await stopped();
  const module = await instrument(wat(LOOP), 'loop-all');
  let refused = 0;
  for (let at = 0; at < state.frames.bytes.length; at += 1) {
    for (const flip of [0x01, 0x80]) {
      const bytes = state.frames.bytes.slice();
      bytes[at] = (bytes[at] ?? 0) ^ flip;
      const { instance } = makeInstance(
        module,
        NONE,
        scriptedStop(() => true),
      );
      instance.restore({ ...state, frames: { ...state.frames, bytes } });
      try {
        instance.resume();
      } catch (error) {
        refused += 1;
        assert.ok(error instanceof Error && 'code' in error && error.code === 'KEDGE_FRAMES_CORRUPT', String(error));
      }
    }
  }
  assert.ok(refused > 0);
  for (const bytes of [state.frames.bytes.slice(4), state.frames.bytes.slice(0, -4), new Uint8Array(400)]) {
    const { instance } = makeInstance(
      module,
      NONE,
      scriptedStop(() => true),
    );
    instance.restore({ ...state, frames: { ...state.frames, bytes } });
    assert.throws(() => instance.resume(), { code: 'KEDGE_FRAMES_CORRUPT' });
  }
  const moved = makeInstance(
    module,
    NONE,
    scriptedStop(() => true),
  ).instance;
  moved.restore({ ...state, call: { module: 't', name: 'elsewhere', args: [] } });
  assert.throws(() => moved.resume(), { code: 'KEDGE_FRAMES_CORRUPT' });
});

test('frames larger than their memory are refused', async () => {
  const state = await stopped();
  const { instance } = makeInstance(await instrument(wat(LOOP), 'loop-all'), NONE);
  const bytes = new Uint8Array(64 * 2 ** 20);
  assert.throws(() => instance.restore({ ...state, frames: { ...state.frames, bytes } }), {
    code: 'KEDGE_STACK_TOO_DEEP',
  });
});

test('a stack that does not fit here is an error with a code', { timeout: 20_000 }, async () => {
  const module = await instrument(
    wat(`(module
      (func $down (param $n i32) (result i32)
        (if (result i32) (i32.eqz (local.get $n)) (then (loop (br 0)) (unreachable))
          (else (i32.add (local.get $n) (call $down (i32.sub (local.get $n) (i32.const 1)))))))
      (func (export "_start") (drop (call $down (i32.const 5000)))))`),
    'loop-all',
  );
  let polls = 0;
  const { instance } = makeInstance(
    module,
    NONE,
    scriptedStop(() => (polls += 1) > 6000),
  );
  assert.deepEqual(instance.start(), { kind: 'stopped' });
  const workerData = { module, state: copyState(instance.capture()) };
  const results: unknown[] = [];
  for (const stackSizeMb of [0.5, 4]) {
    const worker = new Worker(new URL('./resume-worker.ts', import.meta.url), {
      workerData,
      resourceLimits: { stackSizeMb },
    });
    const [result] = (await once(worker, 'message')) as unknown[];
    results.push(result);
    await worker.terminate();
  }
  assert.deepEqual(results, ['KEDGE_STACK_TOO_DEEP', 'stopped']);
});

test('memory may be filled in place', async () => {
  const state = await stopped();
  const { instance } = makeInstance(
    await instrument(wat(LOOP), 'loop-all'),
    NONE,
    scriptedStop(() => true),
  );
  const memory = instance.growMemory(state.memoryPages);
  memory.set(state.memory);
  memory[77] = 5;
  instance.restore({ ...state, memory });
  assert.equal(instance.memory()[77], 5);
  assert.deepEqual(instance.resume(), { kind: 'stopped' });
});

test('an interrupted call is recorded with its arguments and issued again with them', async () => {
  const module = await instrument(
    wat(`(module
      (import "t" "wait" (func $wait (param i32 i64 f32 f64) (result i64)))
      (memory 1)
      (func (export "_start")
        (i64.store (i32.const 8) (call $wait (i32.const -1) (i64.const -2) (f32.const 1.5) (f64.const -0.25)))))`),
    'loop-all',
  );
  const calls: unknown[] = [];
  let suspensions = 3;
  const make = (): ReturnType<typeof makeInstance> =>
    makeInstance(module, (context) => ({
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
    }));
  let { instance } = make();
  let outcome = instance.start();
  while (outcome.kind === 'stopped') {
    const state = copyState(instance.capture());
    assert.deepEqual(state.call?.args, [0xffff_ffffn, 0xffff_ffff_ffff_fffen, 0x3fc0_0000n, 0xbfd0_0000_0000_0000n]);
    assert.equal(state.call?.name, 'wait');
    instance = make().instance;
    instance.restore(state);
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

test('a stop signal is one word that threads share', () => {
  const signal = createStopSignal();
  assert.equal(signal.requested(), false);
  signal.request();
  assert.equal(signal.requested(), true);
  assert.equal(new Int32Array(signal.shared)[0], 1);
  signal.clear();
  assert.equal(signal.requested(), false);
});
