/** What a guest's keeper (main thread) and its worker thread say to each other. Everything here is structured-clonable. */
import type { CallState, FramesState, GlobalState, InstrumentedModule, Outcome, StopHandle } from '../engine/engine.ts';
import type { EngineName } from '../engine/engines.ts';
import type { StoredSection } from '../image/memory-section.ts';
import type { DrainReport } from '../wasi-sock/drain.ts';
import type { Refused } from '../wasi-sock/restore.ts';
import type { FlowReport } from '../wasi-sock/save.ts';
import type { SavedSockets } from '../wasi-sock/saved.ts';
import type { SavedWasi } from '../wasi/saved.ts';

/** Which guest a worker is to be. */
export type WorkerStart = {
  readonly engine: EngineName;
  /** For this engine. */
  readonly instrumented: InstrumentedModule;
  /** The original module: its own data segments are the memory an image leaves out. */
  readonly module: Uint8Array;
  /** IPv4, host-order u32. */
  readonly address: number;
  readonly args: readonly string[];
  /** `NAME=value` each. */
  readonly environ: readonly string[];
  readonly preopens: readonly { readonly guestPath: string; readonly hostPath: string }[];
  readonly stop: StopHandle;
  readonly wakeFd: number;
  /** From `createAccount`. */
  readonly descriptors: SharedArrayBuffer;
  /** Words that thread and keeper share, see `createWords`. */
  readonly words: SharedArrayBuffer;
};

/** How much output is on its way to the keeper; see `logCost`. */
export const LOG_OUTSTANDING = 0;
/** How the guest's code came to rest: 0 while it runs. */
export const AT_REST = 1;
/** It stands at a stable point. The message that says so is still on its way. */
export const REST_STOPPED = 1;
/** A message says how. */
export const REST_OTHER = 2;

export function createWords(): Int32Array<SharedArrayBuffer> {
  return new Int32Array(new SharedArrayBuffer(8));
}

/** Output on its way above which the guest waits for its keeper, so that one that prints in a loop fills no memory. */
export const LOG_LIMIT = 1024 * 1024;

/** What a piece of output counts: its bytes, and what a message costs. */
export function logCost(bytes: Uint8Array): number {
  return bytes.length + 512;
}

/** The handles section of an image. */
export type SavedHandles = {
  readonly version: 1;
  /** Exit code of a guest that has ended while connections of it linger; null for one that goes on. */
  readonly exited: number | null;
  readonly wasi: SavedWasi | null;
  readonly sockets: SavedSockets;
};

/** A stopped guest, in parts an image is made of. Its memory is a copy. */
export type SavedGuest = {
  readonly frames: FramesState;
  readonly call: CallState | undefined;
  readonly globals: readonly GlobalState[];
  /** From `collectDeltas`. */
  readonly memory: Uint8Array;
  readonly memoryPages: number;
  /** Pages of memories 1 and up. */
  readonly otherMemories: readonly number[];
  readonly handles: SavedHandles;
};

/** One whose memory is read from where it is, which is possible as long as it stands still. */
export type StandingGuest = Omit<SavedGuest, 'memory'> & { readonly memory: StoredSection };

/** A section that the guest's thread has; `memory` requests give its bytes. */
export type LentSection = { readonly length: number; readonly digest: Uint8Array };

/** The same with handles as an image has them: for `checkHandles`. */
export type RestoredGuest = Omit<SavedGuest, 'handles'> & { readonly handles: Uint8Array };

export type Requests = {
  /** Runs the module from its beginning. */
  start: { args: null; result: null };
  /**
   * Takes the kernel's queues over; see `SocketTable.drain`. Only while stopped. `stays`: the guest will stand still until its image
   * is stored or sent, so that a large memory need not be copied.
   */
  drain: { args: { readonly stays: boolean }; result: DrainReport };
  save: {
    args: { readonly flows: readonly FlowReport[] };
    result: Omit<SavedGuest, 'memory'> & { readonly memory: Uint8Array | LentSection };
  };
  /** Bytes of a lent section from `at` on, in `into`, which comes back as far as it was filled. */
  memory: { args: { readonly at: number; readonly into: Uint8Array }; result: Uint8Array };
  /** Gives up a move: the guest goes on with what it has. */
  resume: { args: null; result: null };
  /** Fills a fresh worker from an image; the guest stands still until `release`. */
  restore: {
    args: { readonly saved: RestoredGuest; readonly flows: readonly FlowReport[] | 'without-flows' };
    result: { readonly refused: readonly Refused[] };
  };
  /** The restore was committed: unacknowledged bytes are written and the guest runs. */
  release: { args: null; result: null };
  /** Ends all sockets by RST and closes all files. */
  destroy: { args: null; result: null };
};

export type WorkerRequest = {
  [K in keyof Requests]: { readonly id: number; readonly do: K; readonly args: Requests[K]['args'] };
}[keyof Requests];

/** The first message to a worker. */
export type WorkerBegin = { readonly do: 'begin'; readonly args: WorkerStart };

export type WorkerError = { readonly code: string; readonly message: string; readonly hint: string | undefined };

export type WorkerMessage =
  /** The module is compiled; requests are answered without delay from here on. */
  | { readonly kind: 'ready' }
  /** The module cannot run here; the thread ends. */
  | { readonly kind: 'refused'; readonly error: WorkerError }
  | { readonly kind: 'reply'; readonly id: number; readonly result: Requests[keyof Requests]['result'] }
  | { readonly kind: 'error'; readonly id: number; readonly error: WorkerError }
  /** The guest's code returned. After `exited` and `trapped`, `lingering` connections still have bytes to deliver. */
  | { readonly kind: 'outcome'; readonly outcome: Outcome; readonly lingering: number }
  /** The guest's code can go on no more, by no fault of its own; nothing of it is left. */
  | { readonly kind: 'crashed'; readonly message: string }
  /** The last lingering connection of an ended guest is done. */
  | { readonly kind: 'lingered' }
  | { readonly kind: 'log'; readonly stream: 'stdout' | 'stderr'; readonly bytes: Uint8Array };
