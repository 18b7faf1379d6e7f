/**
 * The one interface behind which a guest's code runs. An engine executes an instrumented module, stops it at a stable
 * point when another thread asks for it, hands out its whole compute state, and continues from such a state.
 *
 * Theory of operation: everything here is synchronous and belongs to one thread, the guest's. Only `StopSignal.request`
 * is called from elsewhere. `start` and `resume` return when the guest exits, traps, or has unwound to a stable point;
 * after `stopped` the state may be captured (any number of times) and the same instance may go on with `resume`.
 *
 * A host call that blocks asks for the unwinding itself: it calls `context.suspend()` and returns at once (its result is
 * ignored). After `resume`, here or in another instance on another machine, the same call is issued again with the same
 * arguments and with `context.resumed === true`; what it left in `context.pending` is there again.
 */
import type { ModuleInfo } from './wasm/module.ts';

/** Numeric value types of WebAssembly that can cross the host boundary. */
export type ValueType = 'i32' | 'i64' | 'f32' | 'f64';

/** The type of a function import or export. */
export interface FunctionType {
  readonly params: readonly ValueType[];
  readonly results: readonly ValueType[];
}

/** What an i32, f32 or f64 (number) or an i64 (bigint) is on the host's side. i32 arrives signed: use `>>> 0`. */
export type HostValue = number | bigint;

/**
 * One function that the host offers to the guest. `signature` is written in WAMR's letters, `(iI*~$)i`: i = i32, I = i64,
 * f = f32, F = f64; `*`, `~` and `$` are i32 too (pointer, length of the pointer before it, pointer to a string).
 * No letter after the parenthesis: no result.
 */
export interface HostFunction {
  readonly signature: string;
  readonly call: (...args: never[]) => HostValue | undefined;
}

/** All that the host offers: module name -> function name -> function. */
export type HostImports = Readonly<Record<string, Readonly<Record<string, HostFunction>>>>;

/** What an interrupted host call may leave for its next issue. Plain data: it becomes part of the image (CBOR). */
export type PendingState =
  number | string | boolean | null | readonly PendingState[] | { readonly [key: string]: PendingState };

/**
 * The view that a host function has of the call it is serving. One object per guest, reused for every call; the caller
 * makes it with `createHostCallContext()` before the imports exist and passes it to `Engine.instantiate`.
 */
export interface HostCallContext {
  /** True when an interrupted call is issued again (after a restore or after an aborted stop). */
  readonly resumed: boolean;
  /** State of the interrupted issue, undefined at the first issue. Set it before `suspend()` to keep something. */
  pending: PendingState | undefined;
  /** Unwind the guest: the call is to be issued again later. The caller returns at once; its result is ignored. */
  suspend(): void;
  /** True once another thread has asked the guest to stop: a call that could block should suspend instead. */
  stopRequested(): boolean;
  /**
   * The linear memory that the guest exports as `memory`, as it is now; the first where it exports none by that name. Fetch it again
   * in every call: it moves when the guest grows it.
   */
  memory(): Uint8Array;
  /** Told of all that host functions do with guest memory, when somebody wants to know. */
  readonly watch?: MemoryWatch;
}

/** Learns which bytes of guest memory a host function reads or writes. */
export interface MemoryWatch {
  /** Comes before the access; the bytes are inside the memory. */
  touch(at: number, length: number): void;
}

/** Asks a running guest to stop. `handle` may be posted to another thread and made a signal again by `stopSignalOf`. */
export interface StopSignal {
  /** Structured-clonable; both sides then share the flag. */
  readonly handle: StopHandle;
  /** The shared bytes; the flag is the 32-bit word at byte offset 0. */
  readonly shared: SharedArrayBuffer;
  request(): void;
  clear(): void;
  requested(): boolean;
  /**
   * Ends code that reaches no stable point, wherever it is: for good, by a trap that nobody hears of. For a guest whose thread is being
   * terminated; on V8 that is enough by itself.
   */
  end(): void;
  /** Of a signal for guests whose polls count (`FlagKind`). */
  readonly count?: PointCount;
}

/** How many polls are left until the guest stops, 1 to 2^31 - 1. Read when it begins to run, written when it has returned. */
export interface PointCount {
  left: number;
}

/** The transferable half of a StopSignal: a shared `WebAssembly.Memory` of one page. */
export type StopHandle = WebAssembly.Memory;

/** Why the guest's code returned to the host. */
export type Outcome =
  | { readonly kind: 'exited'; readonly code: number }
  | { readonly kind: 'stopped' }
  | { readonly kind: 'trapped'; readonly message: string };

/** Where a guest that computes can be stopped; `docs/stable-points.md` says what each costs. `none` cannot be stopped at all. */
export const POLICIES = ['call', 'function', 'loop', 'loop-all', 'instruction', 'none'] as const;
export type Policy = (typeof POLICIES)[number];

/**
 * How a poll knows that it shall stop the guest: by a flag that another thread raises, in a shared memory or in a global of the guest,
 * as the engine has it; or by a count of polls, which every engine has.
 */
export type FlagKind = 'memory' | 'global' | 'count';

/** The instrumented form of one module. Plain data: may be posted to another thread or cached on disk. */
export interface InstrumentedModule {
  /** The instrumented module, for the engine. */
  readonly bytes: Uint8Array;
  /** How the frames of a stopped guest are written, e.g. `points-1`. */
  readonly encoding: string;
  readonly policy: Policy;
  readonly flag: FlagKind;
  /** SHA-256 of the module as its author made it, lower-case hex: the identity of the code. */
  readonly originalHash: string;
  /** SHA-256 of `bytes`, lower-case hex: what compiled code is kept by. Frames do not depend on it. */
  readonly hash: string;
  /** Function imports of the original module, in order. */
  readonly imports: readonly ImportedFunction[];
  /** Mutable globals of the original module that hold numbers, in order. */
  readonly globals: readonly ValueType[];
}

export interface ImportedFunction {
  readonly module: string;
  readonly name: string;
  readonly type: FunctionType;
}

/** A mutable global: the bit pattern (never a float, whose NaN bits would not survive), unsigned. */
export interface GlobalState {
  readonly type: ValueType;
  readonly bits: bigint;
}

/**
 * The frames of a stopped guest, in terms of its original module; so they fit every engine. Empty bytes: the guest has not been
 * started yet.
 */
export interface FramesState {
  readonly encoding: string;
  /** Where the guest could be stopped. A form of the module under another policy may lack its place: see `placesOf`. */
  readonly policy: Policy;
  readonly bytes: Uint8Array;
}

/** The host call at which the guest stands, to be issued again. */
export interface CallState {
  readonly module: string;
  readonly name: string;
  /** Arguments as unsigned bit patterns, in order. */
  readonly args: readonly bigint[];
  /** What the call left in `context.pending`. */
  readonly pending?: PendingState;
}

/** Everything that the code of a stopped guest is made of. */
export interface ComputeState {
  /** SHA-256 (hex) of the original module. */
  readonly originalHash: string;
  /** Linear memory. From `capture` it is a live view: copy or write it out before the guest goes on. */
  readonly memory: Uint8Array;
  readonly memoryPages: number;
  /** Memories 1 and up, likewise; absent where the module has no more than one. */
  readonly otherMemories?: readonly Uint8Array[];
  readonly globals: readonly GlobalState[];
  readonly frames: FramesState;
  /** Absent when the guest stopped in its own code. */
  readonly call?: CallState;
}

/** One guest's code and data in one engine. Not usable any more after `exited` or `trapped`. */
export interface Instance {
  /** Linear memory now, the first or the one with this index; fetch it again after every run. Empty if there is none. */
  memory(index?: number): Uint8Array;
  /** All linear memories now, whether the guest goes on or not; an empty one if there is none. */
  memories(): readonly Uint8Array[];
  /**
   * Grows linear memory to at least this many pages and returns it: a restore may fill it in place and then pass it to
   * `restore` as `state.memory` (or among the others), which saves a copy. Throws KEDGE_RESTORE_MEMORY.
   */
  growMemory(pages: number, index?: number): Uint8Array;
  /** Runs the module from its beginning. */
  start(): Outcome;
  /** Goes on after `stopped` or after `restore`. The stop signal must have been cleared before, or it stops again. */
  resume(): Outcome;
  /** The state of a stopped guest. Throws KEDGE_ENGINE_STATE when it is not stopped. */
  capture(): ComputeState;
  /**
   * Makes this fresh instance (never started) equal to the captured one; `resume` then continues it.
   * Throws KEDGE_FRAMES_MISMATCH when the state is of another module or encoding, KEDGE_FRAMES_CORRUPT when its frames are none
   * that this form of the module can have. With the original module they are held against its calls, too; without it, frames that
   * do not follow them are found when they enter, by `resume`.
   */
  restore(state: ComputeState, original?: ModuleInfo): void;
}

/** A module ready to be instantiated. Opaque to all but its engine. */
export interface CompiledModule {
  readonly module: InstrumentedModule;
}

/** An adapter of one engine. */
export interface Engine {
  readonly name: string;
  readonly version: string;
  /** Which flag another thread can raise here. */
  readonly flag: FlagKind;
  /** What its modules may use, for people. */
  readonly features: readonly string[];
  /** Throws KEDGE_MODULE_INVALID, and KEDGE_MODULE_UNSUPPORTED, naming the feature, when the module cannot run here. Cached by hash. */
  compile(module: InstrumentedModule): CompiledModule;
  /**
   * Checks every import before any guest code runs: KEDGE_IMPORT_UNKNOWN, KEDGE_IMPORT_TYPE name it.
   * The context becomes this instance's own.
   */
  instantiate(compiled: CompiledModule, imports: HostImports, stop: StopSignal, context: HostCallContext): Instance;
}

/**
 * Thrown by the host function that ends the guest (`proc_exit`): it passes through the guest's frames and becomes the
 * outcome `exited`. Never visible outside the engine.
 */
export class GuestExit extends Error {
  readonly exitCode: number;
  constructor(exitCode: number) {
    super(`guest exited with code ${exitCode}`);
    this.name = 'GuestExit';
    this.exitCode = exitCode;
  }
}
