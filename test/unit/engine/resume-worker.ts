/** Restores a guest in this thread, whose stack may be small, and says how going on came out. */
import { parentPort, workerData } from 'node:worker_threads';
import type { ComputeState, InstrumentedModule } from '../../../src/engine/engine.ts';
import { KedgeError } from '../../../src/errors.ts';
import { makeInstance, scriptedStop } from './support.ts';

const { module, state } = workerData as { readonly module: InstrumentedModule; readonly state: ComputeState };
const { instance } = makeInstance(
  module,
  () => ({}),
  scriptedStop(() => true),
);
let result: string;
try {
  instance.restore(state);
  result = instance.resume().kind;
} catch (error) {
  result = error instanceof KedgeError ? error.code : String(error);
}
parentPort?.postMessage(result);
