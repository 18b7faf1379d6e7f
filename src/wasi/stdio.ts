/** The guest's three standard streams, as the host supplies them. They are not part of an image: each host has its own. */
import { readSync, writeSync } from 'node:fs';
import { ERRNO, errnoOf } from './errno.ts';

/**
 * Where standard input comes from. `none` is at its end from the start. `descriptor` is one of the host's. `callback`
 * gives at most `limit` bytes at once and never waits; none at all is the end.
 */
export type Input =
  | { readonly kind: 'none' }
  | { readonly kind: 'descriptor'; readonly fd: number }
  | { readonly kind: 'callback'; readonly read: (limit: number) => Uint8Array };

/** Takes all that is written. The bytes are the callee's own. */
export type Output = (bytes: Uint8Array) => void;

export interface Stdio {
  readonly input: Input;
  readonly output: Output;
  readonly errors: Output;
}

/** Writes everything to a descriptor of the host, waiting while a pipe is full. */
export function descriptorOutput(fd: number): Output {
  const pause = new Int32Array(new SharedArrayBuffer(4));
  return (bytes) => {
    let done = 0;
    while (done < bytes.length) {
      try {
        done += writeSync(fd, bytes, done);
      } catch (error) {
        if (errnoOf(error) !== ERRNO.EAGAIN) {
          throw error;
        }
        Atomics.wait(pause, 0, 0, 5);
      }
    }
  };
}

/** Reads what there is; the caller has made sure that a descriptor is readable. 0 is the end. */
export function readInput(input: Input, buffers: readonly Uint8Array[]): number {
  const buffer = buffers.find((candidate) => candidate.length > 0);
  if (buffer === undefined || input.kind === 'none') {
    return 0;
  }
  if (input.kind === 'descriptor') {
    return readSync(input.fd, buffer);
  }
  const bytes = input.read(buffer.length).subarray(0, buffer.length);
  buffer.set(bytes);
  return bytes.length;
}

/** Writes buffers as one piece; returns how many bytes that was. */
export function writeOutput(output: Output, buffers: readonly Uint8Array[]): number {
  const bytes = Buffer.concat(buffers);
  if (bytes.length > 0) {
    output(new Uint8Array(bytes));
  }
  return bytes.length;
}
