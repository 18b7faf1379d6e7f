/** The programs of `bench/programs`, and the forms of each that are measured. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { instrument as pointsOf } from '../../native/index.js';
import { withAsyncify as asyncify } from '../asyncify/instrument.ts';
import { PROJECT } from '../../test/support/topology.ts';

/** Name and size: a run of the plain module takes about a tenth of a second. */
export const PROGRAMS: readonly (readonly [name: string, size: number])[] = [
  ['nbody', 1_000_000],
  ['fannkuch', 10],
  ['mandelbrot', 700],
  ['binary-trees', 15],
  ['matmul', 450],
  ['sieve', 3_000_000],
  ['mix', 1500],
  ['sort', 150_000],
  ['queens', 14],
  ['sha256', 16],
  ['spectral-norm', 900],
  ['fib', 39],
  ['lua', 8],
  ['sqlite', 12_000],
];

/** Sizes with which they run long enough to be stopped a hundred times. */
export const LONG: readonly (readonly [name: string, size: number])[] = [
  ['nbody', 20_000_000],
  ['fannkuch', 11],
  ['mandelbrot', 3000],
  ['binary-trees', 18],
  ['matmul', 1200],
  ['sieve', 40_000_000],
  ['mix', 30_000],
  ['sort', 2_000_000],
  ['queens', 16],
  ['sha256', 300],
  ['spectral-norm', 4000],
  ['fib', 44],
  ['lua', 160],
  ['sqlite', 200_000],
];

/** Sizes for an interpreter: a run of the plain module takes some tenths of a second there. */
export const SHORT: readonly (readonly [name: string, size: number])[] = [
  ['nbody', 100_000],
  ['fannkuch', 9],
  ['mandelbrot', 300],
  ['binary-trees', 12],
  ['matmul', 180],
  ['sieve', 600_000],
  ['mix', 150],
  ['sort', 30_000],
  ['queens', 12],
  ['sha256', 2],
  ['spectral-norm', 260],
  ['fib', 33],
  ['lua', 3],
  ['sqlite', 2500],
];

export type Policy = 'call' | 'function' | 'loop' | 'loop-all' | 'instruction';

export function source(name: string): Uint8Array<ArrayBuffer> {
  return new Uint8Array(readFileSync(join(PROJECT, 'build', 'programs', `${name}.wasm`)));
}

/**
 * A module as the stable-point pass makes it for `kedge run`: any import may suspend, so calls of them are stable points too and
 * count in time and size, though no program here waits in one.
 */
export function withPoints(module: Uint8Array, policy: Policy, flag: 'memory' | 'global'): Uint8Array<ArrayBuffer> {
  return new Uint8Array(pointsOf(module, { policy, flag }));
}

/** A module as Binaryen's Asyncify makes it, with a poll at each loop head and in each cycle of calls. */
export async function withAsyncify(module: Uint8Array): Promise<Uint8Array<ArrayBuffer>> {
  return new Uint8Array(await asyncify(module));
}
