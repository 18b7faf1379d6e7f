import { randomFillSync } from 'node:crypto';
import { GuestExit, type HostCallContext, type HostFunction } from '../engine/engine.ts';
import { defineFunction } from './define.ts';
import { ERRNO } from './errno.ts';
import type { GuestMemory } from './memory.ts';

/** Fills bytes with randomness. Tests give their own. */
export type RandomSource = (bytes: Uint8Array) => void;

export const SYSTEM_RANDOM: RandomSource = (bytes) => {
  // Node fills less than 2 GiB at once.
  for (let at = 0; at < bytes.length; at += MOST_RANDOM) {
    randomFillSync(bytes.subarray(at, at + MOST_RANDOM));
  }
};

const MOST_RANDOM = 2 ** 30;

export interface ProcessOptions {
  /** The program's name first. */
  readonly args: readonly string[];
  /** `NAME=value` each. */
  readonly environ: readonly string[];
  readonly random: RandomSource;
}

/** Arguments, environment, randomness and the end of the guest. */
export function processFunctions(
  context: HostCallContext,
  options: ProcessOptions,
): Readonly<Record<string, HostFunction>> {
  const args = terminated(options.args);
  const environ = terminated(options.environ);
  const sizes = (strings: readonly Uint8Array[]): HostFunction =>
    defineFunction<[number, number]>(context, '(**)i', (memory, count, size) => {
      memory.setU32(count, strings.length);
      memory.setU32(
        size,
        strings.reduce((sum, text) => sum + text.length, 0),
      );
      return undefined;
    });
  const contents = (strings: readonly Uint8Array[]): HostFunction =>
    defineFunction<[number, number]>(context, '(**)i', (memory, pointers, buffer) => {
      putStrings(memory, strings, pointers, buffer);
      return undefined;
    });
  return {
    args_sizes_get: sizes(args),
    args_get: contents(args),
    environ_sizes_get: sizes(environ),
    environ_get: contents(environ),
    random_get: defineFunction<[number, number]>(context, '(*~)i', (memory, pointer, length) => {
      options.random(memory.bytes(pointer, length));
      return undefined;
    }),
    // The guest's loops stop by themselves, so there is nothing to yield to.
    sched_yield: defineFunction<[]>(context, '()i', () => undefined),
    // wasi-libc raises signals inside the guest; none comes here.
    proc_raise: defineFunction<[number]>(context, '(i)i', () => ERRNO.ENOSYS),
    proc_exit: {
      signature: '(i)',
      call: (code: number) => {
        throw new GuestExit(code >>> 0);
      },
    },
  };
}

function terminated(strings: readonly string[]): readonly Uint8Array[] {
  return strings.map((text) => new TextEncoder().encode(`${text}\0`));
}

function putStrings(memory: GuestMemory, strings: readonly Uint8Array[], pointers: number, buffer: number): void {
  let at = buffer >>> 0;
  strings.forEach((text, i) => {
    memory.bytes(at, text.length).set(text);
    memory.setU32((pointers >>> 0) + 4 * i, at);
    at += text.length;
  });
}
