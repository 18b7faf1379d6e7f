/**
 * What an engine has to be able to do with one instance of an instrumented module; the rest of a guest's life is the same everywhere
 * and stands in `guest.ts`.
 */
import type { HostValue } from '../engine.ts';

export type HostCall = (...args: HostValue[]) => HostValue | undefined;

/** The host's side of all imports. */
export interface HostSide {
  /** For the imports of the original module, in their order. */
  readonly imports: readonly HostCall[];
  /** What instrumented code calls in module `kedge`, by name. */
  readonly own: Readonly<Record<string, (...args: never[]) => unknown>>;
}

export interface Machine {
  /** How many linear memories there are beyond the first. */
  readonly otherMemories: number;
  /** The index of the one that host functions read and write. */
  readonly hostMemory: number;
  /** How much the guest's frames may take, bytes. */
  readonly stackBytes: number;
  /** A linear memory as it is now, empty if there is none. The same view until it grows. */
  memory(index: number): Uint8Array;
  /** Adds pages; false when the memory cannot have so many. */
  grow(index: number, pages: number): boolean;
  /** Calls an export. Throws what a host function threw, or what `trapOf` knows. */
  call(name: string, ...args: readonly HostValue[]): unknown;
  /** How many parameters an exported function has. */
  parameters(name: string): number;
  /** Writes `kedge:unwind`; false when the module has no stable point. */
  setUnwinding(value: 0 | 1): boolean;
  /** Number of elements of an exported table. */
  tableSize(name: string): number;
  /** An element of an exported table of functions: a reference as host functions get it, or null. */
  tableGet(name: string, at: number): unknown;
  /** Makes the flag that the guest's polls read equal to the stop signal. */
  settle(): void;
  /** Reads and writes what the guest's polls count down; undefined when the module has no stable point. */
  count(): number | undefined;
  setCount(left: number): void;
  /** Gives back what it holds outside of the collector's sight; nothing of it may be used any more. */
  dispose(): void;
  /** The trap that an error of `call` stands for, in the words of the specification. */
  trapOf(error: unknown): string | undefined;
}

/** Makes the instance. Throws KEDGE_MODULE_INVALID when that fails. */
export type MakeMachine = (host: HostSide) => Machine;
