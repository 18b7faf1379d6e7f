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

/** Bytes of output that are given on at once. */
const PIECE = 64 * 1024;

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

/**
 * Writes the buffers, in pieces; returns how many bytes that was: all, as a pipe or a file takes them, unless the guest is to stop
 * meanwhile. Each piece is a copy that waits for its reader in the host's memory, and a guest may say the same buffer many times over.
 */
export function writeOutput(output: Output, buffers: readonly Uint8Array[], stopRequested: () => boolean): number {
  let done = 0;
  for (let left = buffers; left.length > 0;) {
    const piece = takePiece(left);
    if (piece.bytes.length > 0) output(piece.bytes);
    done += piece.bytes.length;
    left = piece.rest;
    if (stopRequested()) break;
  }
  return done;
}

/** A copy of the beginning, and the buffers that are left. */
function takePiece(buffers: readonly Uint8Array[]): {
  readonly bytes: Uint8Array;
  readonly rest: readonly Uint8Array[];
} {
  const length = buffers.reduce((sum, buffer) => sum + buffer.length, 0);
  const bytes = new Uint8Array(Math.min(length, PIECE));
  let at = 0;
  for (const [n, buffer] of buffers.entries()) {
    const part = buffer.subarray(0, bytes.length - at);
    bytes.set(part, at);
    at += part.length;
    if (part.length < buffer.length) return { bytes, rest: [buffer.subarray(part.length), ...buffers.slice(n + 1)] };
  }
  return { bytes, rest: [] };
}
