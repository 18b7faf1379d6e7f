import type { StopHandle, StopSignal } from './engine.ts';

/** A new stop flag, not requested. Make it in any thread and post its `handle` to the guest's. */
export function createStopSignal(): StopSignal {
  return stopSignalOf(new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true }));
}

/** The signal over a handle that another thread made. */
export function stopSignalOf(handle: StopHandle): StopSignal {
  const shared = handle.buffer;
  if (!(shared instanceof SharedArrayBuffer)) {
    throw new TypeError('the handle of a stop signal is a shared memory');
  }
  const words = new Int32Array(shared, 0, 1);
  return {
    handle,
    shared,
    request: () => {
      Atomics.store(words, 0, 1);
      Atomics.notify(words, 0);
    },
    clear: () => void Atomics.store(words, 0, 0),
    requested: () => Atomics.load(words, 0) !== 0,
  };
}
