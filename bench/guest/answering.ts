/** A thread that sleeps until a word is set, clears it, and sends a message: no stop of a thread takes less. */
import { parentPort, workerData } from 'node:worker_threads';

const word = new Int32Array(workerData as SharedArrayBuffer);
for (;;) {
  Atomics.wait(word, 0, 0);
  if (Atomics.exchange(word, 0, 0) === 2) break;
  parentPort?.postMessage(0);
}
