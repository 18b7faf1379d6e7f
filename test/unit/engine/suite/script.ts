/** The scripts of the WebAssembly core test suite as `native/examples/test-modules` writes them (`scripts.rs` there says what a step is). */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** Letter or lanes of a type and the bits of each slot or lane in decimal, or what a NaN or a reference has to be. */
export type Expected = readonly [kind: string, ...bits: string[]];

export interface ModuleStep {
  readonly module: string | null;
  /** Why there is none. */
  readonly why?: string;
  /** The global where the results of calls are left, an i64 for each, two for a vector. */
  readonly first?: number;
  /** Types of the results of each call; null for one that cannot be made. */
  readonly results?: readonly (string | null)[];
  /** It imports from another module of the script. */
  readonly linked?: boolean;
}

export interface CallStep {
  readonly call: number;
  readonly of: number;
  readonly line: number;
  readonly returns?: readonly (readonly Expected[])[];
  readonly traps?: string;
}

/** A module whose instantiation traps. */
export interface TrapStep {
  readonly module: string;
  readonly traps: string;
  readonly line: number;
  readonly linked: boolean;
}

export type Step =
  | CallStep
  | TrapStep
  | ModuleStep
  | { readonly register: string }
  | { readonly skipped: string; readonly line: number };

export interface Script {
  readonly name: string;
  readonly steps: readonly Step[];
}

export function readScripts(directory: string): readonly Script[] {
  return readdirSync(directory)
    .filter((file) => file.endsWith('.json'))
    .toSorted()
    .map((file) => {
      const { steps } = JSON.parse(readFileSync(join(directory, file), 'utf8')) as Pick<Script, 'steps'>;
      return { name: file.slice(0, -'.json'.length), steps };
    });
}

/** Slots that a result of a type takes. */
function slotsOf(letter: string): number {
  return letter === 'v' ? 2 : 1;
}

/** What is wrong with the results of a call; `slot` gives the bits in a slot. */
export function wrongResults(
  types: string,
  expected: readonly (readonly Expected[])[],
  slot: (index: number) => bigint,
): string | undefined {
  let at = 0;
  for (const [n, letter] of [...types].entries()) {
    const bits = Array.from({ length: slotsOf(letter) }, (_, i) => slot(at + i));
    at += bits.length;
    if (!(expected[n] ?? []).some((alternative) => fits(alternative, bits))) {
      return `result ${n} is ${letter} ${bits.join(' ')}, not ${JSON.stringify(expected[n])}`;
    }
  }
  return expected.length === types.length ? undefined : `${types.length} results, not ${expected.length}`;
}

function fits([kind, ...wanted]: Expected, bits: readonly bigint[]): boolean {
  switch (kind) {
    case 'null':
      return bits[0] === 1n;
    case 'ref':
      return bits[0] === 0n;
    case 'f':
    case 'F':
      return fitsFloat(wanted[0] ?? '', bits[0] ?? 0n, kind === 'f' ? 32n : 64n);
    case 'f64x2':
      return wanted.every((lane, n) => fitsFloat(lane, bits[n] ?? 0n, 64n));
    case 'f32x4':
      return wanted.every((lane, n) =>
        fitsFloat(lane, BigInt.asUintN(32, (bits[n >> 1] ?? 0n) >> BigInt((n & 1) * 32)), 32n),
      );
    default:
      return wanted.every((lane, n) => BigInt(lane) === bits[n]);
  }
}

function fitsFloat(wanted: string, bits: bigint, size: bigint): boolean {
  const quiet = size === 32n ? 0x7fc0_0000n : 0x7ff8_0000_0000_0000n;
  if (wanted === 'canonical') return BigInt.asUintN(Number(size) - 1, bits) === quiet;
  if (wanted === 'arithmetic') return (bits & quiet) === quiet;
  return BigInt(wanted) === bits;
}

/** Traps that have one text here and several in the specification, by what a message of either begins with. */
const SAME: readonly (readonly [RegExp, string])[] = [
  [/^(undefined element|out of bounds table access)/u, 'table'],
  [/^(uninitialized element|indirect call|undefined element)/u, 'indirect call'],
  [/^(integer overflow|invalid conversion to integer)/u, 'integer'],
];

function kinds(message: string): ReadonlySet<string> {
  const known = SAME.filter(([pattern]) => pattern.test(message)).map(([, kind]) => kind);
  return new Set(known.length > 0 ? known : [message]);
}

export function sameTrap(expected: string, message: string): boolean {
  const [a, b] = [kinds(expected), kinds(message)];
  return !a.isDisjointFrom(b) || message.startsWith(expected);
}
