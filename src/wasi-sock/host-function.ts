/** What all `sock_*` functions have in common. */
import type { HostCallContext, HostFunction } from '../engine/engine.ts';
import { AbiMemory, SocketFault } from './abi.ts';
import { INTERRUPTED, WASI } from './errno.ts';
import type { SocketHandle } from './handle.ts';
import type { SocketTable } from './table.ts';

/** Parameters as a signature's letters give them: `I` is a bigint, all else a signed number. */
export type SocketArguments = readonly (number | bigint)[];

/**
 * Makes a host function of a body, which gets the guest's memory and the arguments. Its result is not negative for success, a
 * negative WASI errno, or INTERRUPTED: then the guest unwinds and the call is issued again. A SocketFault is its errno.
 */
export function socketFunction<Arguments extends SocketArguments>(
  context: HostCallContext,
  signature: string,
  body: (memory: AbiMemory, ...args: Arguments) => number,
): HostFunction {
  const call = (...args: Arguments): number => {
    try {
      const result = body(new AbiMemory(context.memory(), context.watch), ...args);
      if (result >= 0) return WASI.SUCCESS;
      if (result !== INTERRUPTED) return -result;
      context.suspend();
      return WASI.SUCCESS;
    } catch (error) {
      if (error instanceof SocketFault) return error.errno;
      throw error;
    }
  };
  // The signature, checked against the import's type, is what makes the arguments right.
  return { signature, call: call as unknown as HostFunction['call'] };
}

/**
 * Runs a call that may wait: as long as the guest lets the handle wait, or, issued again, as long as the earlier issue had left.
 * An INTERRUPTED one leaves its time in the context.
 */
export function issue(
  context: HostCallContext,
  table: SocketTable,
  handle: SocketHandle,
  direction: 'receive' | 'send',
  call: (timeoutMs: number) => number,
): number {
  const { resumed, pending } = context;
  const timeoutMs = resumed && typeof pending === 'number' ? pending : table.patience(handle, direction);
  const began = table.now();
  const result = call(timeoutMs);
  if (result === INTERRUPTED) {
    context.pending = timeoutMs < 0 ? -1 : Math.max(0, timeoutMs - (table.now() - began));
  }
  return result;
}
