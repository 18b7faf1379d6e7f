/** What is particular to V8, and the stop signal; what all engines have in common is in `compliance`. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import type { HostImports } from '../../../src/engine/engine.ts';
import { instrument } from '../../../src/engine/points/instrument.ts';
import { createStopSignal } from '../../../src/engine/stop.ts';
import { copyState, makeInstance, scriptedStop, wat } from './support.ts';

const NONE = (): HostImports => ({});

test('a stack that does not fit here is an error with a code', { timeout: 20_000 }, async () => {
  const module = instrument(
    wat(`(module
      (func $down (param $n i32) (result i32)
        (if (result i32) (i32.eqz (local.get $n)) (then (loop (br 0)) (unreachable))
          (else (i32.add (local.get $n) (call $down (i32.sub (local.get $n) (i32.const 1)))))))
      (func (export "_start") (drop (call $down (i32.const 5000)))))`),
    'loop-all',
    'memory',
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
  for (const stackSizeMb of [0.3, 8]) {
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

test('a stop signal is one word that threads share', () => {
  const signal = createStopSignal();
  assert.equal(signal.requested(), false);
  signal.request();
  assert.equal(signal.requested(), true);
  assert.equal(new Int32Array(signal.shared)[0], 1);
  signal.clear();
  assert.equal(signal.requested(), false);
});
