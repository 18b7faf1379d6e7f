import type { HostCallContext, HostFunction } from '../engine/engine.ts';
import { ERRNO, type Errno, errnoOf } from './errno.ts';
import { GuestMemory } from './memory.ts';

/** Parameters as a signature's letters give them: `I` is a bigint, all else a number. */
export type WasiArguments = readonly (number | bigint)[];

/**
 * Makes one WASI function. The body gets the guest's memory as it is in this call, then the arguments; it returns nothing
 * for success, or an error number, or throws: `WasiError` and errors of `node:fs` become error numbers, and nothing that
 * a guest passes can make anything else.
 */
export function defineFunction<Arguments extends WasiArguments>(
  context: HostCallContext,
  signature: string,
  body: (memory: GuestMemory, ...args: Arguments) => Errno | undefined,
): HostFunction {
  const call = (...args: Arguments): number => {
    try {
      return body(new GuestMemory(context.memory(), context.watch), ...args) ?? ERRNO.SUCCESS;
    } catch (error) {
      const errno = errnoOf(error);
      if (errno === undefined) {
        throw error;
      }
      return errno;
    }
  };
  // The signature, checked against the import's type, is what makes the arguments right.
  return { signature, call: call as unknown as HostFunction['call'] };
}
