/** A thread that asks for stops: at each message it waits a while, notes the time, and sets the flag. */
import process from 'node:process';
import { parentPort, workerData } from 'node:worker_threads';

const { flag, asked } = workerData as { flag: WebAssembly.Memory; asked: SharedArrayBuffer };
const word = new Int32Array(flag.buffer);
const time = new BigInt64Array(asked);
const nothing = new Int32Array(new SharedArrayBuffer(4));

parentPort?.on('message', (milliseconds: number) => {
  Atomics.wait(nothing, 0, 0, milliseconds);
  Atomics.store(time, 0, process.hrtime.bigint());
  Atomics.store(word, 0, 1);
});
