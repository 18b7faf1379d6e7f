import { native } from '../native.ts';
import type { PointCount, StopHandle, StopSignal } from './engine.ts';

/** The 32-bit word behind the flag's cache line that names a second flag, inside a guest's own globals; 0 while there is none. */
const SECOND = 16;
/** Behind it: the number by which the guest's code can be ended where it is; 0 while there is none, or no need of one. */
const END = 17;

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
  const words = new Int32Array(shared, 0, END + 1);
  return {
    handle,
    shared,
    request: () => {
      Atomics.store(words, 0, 1);
      Atomics.notify(words, 0);
      const second = Atomics.load(words, SECOND);
      if (second !== 0) native.wamrWriteFlag(second, 1);
    },
    clear: () => void Atomics.store(words, 0, 0),
    requested: () => Atomics.load(words, 0) !== 0,
    end: () => {
      const number = Atomics.load(words, END);
      if (number !== 0) native.wamrEnd(number);
    },
  };
}

/** The signal of a guest whose polls count: it stops when `count.left` of them have been passed, and for nothing else. */
export function createCountedStop(): StopSignal & { readonly count: PointCount } {
  return { ...createStopSignal(), requested: () => true, count: { left: 0 } };
}

/**
 * Lets a signal also raise a flag that an engine shares with other threads under a number, because its guest cannot read
 * the shared memory. The flag follows the signal from here on: `settle` makes it so, and is called again after the signal was
 * cleared. A request at the same time is not lost: whoever comes second finds what the first has written.
 */
export function followSignal(signal: StopSignal, flag: number): { readonly settle: () => void } {
  const words = new Int32Array(signal.shared, 0, SECOND + 1);
  Atomics.store(words, SECOND, flag);
  return {
    settle: () => {
      native.wamrWriteFlag(flag, 0);
      if (Atomics.load(words, 0) !== 0) native.wamrWriteFlag(flag, 1);
    },
  };
}

/** Lets a signal's `end` end the code of a guest that no termination of its thread would interrupt. */
export function endBySignal(signal: StopSignal, number: number): void {
  Atomics.store(new Int32Array(signal.shared, 0, END + 1), END, number);
}
