/**
 * A worker thread that waits for its guest. Starting one takes half a second of a core, most of it to load and rehearse; with one
 * kept in store a guest is taken in at once.
 */
import { Worker } from 'node:worker_threads';
import { KedgeError } from '../errors.ts';
import { native } from '../native.ts';
import { compileBehindGuests } from './compilers.ts';

/** For the frames of a guest on V8. Pages that no frame reaches cost nothing. */
const STACK_MIB = 16;

let first = true;

/** The thread that keeps guests goes before others when one has stopped, and those that compile go behind. */
function giveWay(): void {
  compileBehindGuests();
  native.shortenSlices();
}

/** Starts the thread of one guest. Throws KEDGE_GUEST_CRASHED. */
export function startWorker(): Worker {
  if (first) giveWay();
  first = false;
  const suffix = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
  try {
    return new Worker(new URL(`./worker.${suffix}`, import.meta.url), { resourceLimits: { stackSizeMb: STACK_MIB } });
  } catch (cause) {
    throw new KedgeError('KEDGE_GUEST_CRASHED', `no thread could be started for the guest: ${String(cause)}`, {
      cause,
    });
  }
}

/** Milliseconds. */
const REFILL_AFTER = 250;

export class SpareWorker {
  readonly #startOne: () => Worker;
  readonly #afterMs: number;
  #worker: Worker | undefined;
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  /** `afterMs`: how long after `refill` it is started. */
  constructor(start: () => Worker = startWorker, afterMs = REFILL_AFTER) {
    this.#startOne = start;
    this.#afterMs = afterMs;
  }

  /** The one in store, or a new one. Throws KEDGE_GUEST_CRASHED. */
  take(): Worker {
    const worker = this.#worker;
    if (worker === undefined) return this.#startOne();
    this.#worker = undefined;
    worker.removeAllListeners();
    worker.ref();
    return worker;
  }

  /** Has one in store again, soon: its start takes a core, and a guest that has just come has other use for it. */
  refill(): void {
    if (this.#worker !== undefined || this.#closed) return;
    this.#timer ??= setTimeout(() => this.#start(), this.#afterMs).unref();
  }

  #start(): void {
    this.#timer = undefined;
    if (this.#worker !== undefined || this.#closed) return;
    let worker: Worker;
    try {
      worker = this.#startOne();
    } catch {
      // Whoever takes one tries again, and hears of it.
      return;
    }
    const lost = (): void => {
      if (this.#worker === worker) this.#worker = undefined;
    };
    worker.on('error', lost);
    worker.on('exit', lost);
    worker.unref();
    this.#worker = worker;
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    await this.#worker?.terminate();
  }
}
