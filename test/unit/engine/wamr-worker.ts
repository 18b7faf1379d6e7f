/** Runs a guest that never ends of itself, calls its host and grows its memory; says so when it runs. */
import { parentPort, workerData } from 'node:worker_threads';
import { native } from '../../../src/native.ts';

const { bytes, grow } = workerData as { readonly bytes: Uint8Array; readonly grow: boolean };
const instance = new native.WamrInstance(new native.WamrModule(bytes), 1 << 16);
let calls = 0;
instance.call(
  'run',
  [grow ? 1 : 0],
  [
    () => {
      calls += new Uint8Array(instance.memory()).length > 0 ? 1 : 0;
      if (calls === 10) parentPort?.postMessage('runs');
    },
  ],
);
