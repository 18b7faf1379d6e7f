/** Asks a guest to stop a few milliseconds after the last request was taken back, until word 1 of the shared memory is set. */
import { workerData } from 'node:worker_threads';
import type { StopHandle } from '../../../../src/engine/engine.ts';
import { stopSignalOf } from '../../../../src/engine/stop.ts';

const stop = stopSignalOf(workerData as StopHandle);
const words = new Int32Array(stop.shared, 0, 2);
while (Atomics.load(words, 1) === 0) {
  Atomics.wait(words, 1, 0, 3);
  stop.request();
}
