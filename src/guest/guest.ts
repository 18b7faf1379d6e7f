/**
 * A guest as its host's agent keeps it: one worker thread, and the states of a life.
 *
 *     preparing ──start──▶ running ──stop──▶ stopped ──resume──▶ running
 *         │                   │                 └────destroy──▶ ended
 *         └─restore─▶ restored┴─release─▶ running ──exit, trap──▶ lingering ──▶ ended
 *
 * `ended` is final. A guest that lingers has no code left to run, but connections whose peers lack bytes; it can still move.
 */
import type { Worker } from 'node:worker_threads';
import type { InstrumentedModule, Outcome, StopSignal } from '../engine/engine.ts';
import { createStopSignal } from '../engine/stop.ts';
import { KedgeError, isErrorCode } from '../errors.ts';
import { failed, native } from '../native.ts';
import type { WakeFd } from '../native.ts';
import { closeLeft, createAccount } from './descriptors.ts';
import { AT_REST, createWords, LOG_OUTSTANDING, logCost, REST_STOPPED } from './protocol.ts';
import type {
  Requests,
  SavedGuest,
  StandingGuest,
  WorkerBegin,
  WorkerError,
  WorkerMessage,
  WorkerStart,
} from './protocol.ts';
import { startWorker } from './spare.ts';

/**
 * How long the keeper's thread waits for a guest to stop before it looks after others, milliseconds: most take less. The first part of it
 * awake, for a core that has gone to sleep takes longer to wake up than most guests that compute take to stop.
 */
const PATIENCE = 1;
const AWAKE = 0.04;

/** How a guest's code ended. */
export type GuestEnd =
  | { readonly kind: 'exited'; readonly code: number }
  | { readonly kind: 'trapped'; readonly message: string }
  /** The worker thread itself died. */
  | { readonly kind: 'crashed'; readonly message: string }
  /** It was destroyed: stopped for good, or it lives elsewhere now. */
  | { readonly kind: 'destroyed' };

export type GuestState =
  | { readonly name: 'preparing' | 'restored' | 'running' | 'stopped' }
  | { readonly name: 'lingering'; readonly end: GuestEnd }
  | { readonly name: 'ended'; readonly end: GuestEnd };

export type GuestOptions = Omit<WorkerStart, 'stop' | 'wakeFd' | 'descriptors' | 'words' | 'instrumented'> & {
  readonly instrumented: InstrumentedModule;
  /** What it returns settles when there is room for more: the guest waits for that once it has printed much. */
  readonly onLog: (stream: 'stdout' | 'stderr', bytes: Uint8Array) => Promise<void> | undefined;
  /** Called on every change of state. */
  readonly onState: (state: GuestState) => void;
  /** A worker of a `SpareWorker`; without it the guest waits for a new one. */
  readonly worker?: Worker;
  /** How long a stop may take before the guest counts as stuck, milliseconds. */
  readonly stopLimit?: number;
};

type Waiting = {
  readonly resolve: (value: never) => void;
  readonly reject: (error: Error) => void;
  /** Called when the reply comes, before any message behind it is looked at. */
  readonly done: () => void;
};

const STOP_LIMIT = 10_000;
/** Bytes of a lent section that are asked for at a time. */
const LENT_PIECE = 4 * 1024 * 1024;

function errorOf({ code, message, hint }: WorkerError): KedgeError {
  return new KedgeError(isErrorCode(code) ? code : 'KEDGE_INTERNAL', message, { hint });
}

export class Guest {
  readonly #worker: Worker;
  readonly #stop: StopSignal;
  readonly #wake: WakeFd;
  readonly #descriptors = createAccount();
  readonly #options: GuestOptions;
  readonly #waiting = new Map<number, Waiting>();
  readonly #ended = Promise.withResolvers<GuestEnd>();
  readonly #codeEnded = Promise.withResolvers<GuestEnd>();
  readonly #ready = Promise.withResolvers<void>();
  readonly #words = createWords();
  #nextId = 1;
  /** How often it was let go. */
  #runs = 0;
  #closed = false;
  /** Its guest is known to have stopped, by the shared word; the message that says so comes later. */
  #aheadOfMessage = false;
  /** Settles when the thread has answered the last request to let guest code run. */
  #letGo: Promise<unknown> = Promise.resolve();
  #state: GuestState = { name: 'preparing' };
  #onStopped: ((result: 'stopped' | 'ended') => void)[] = [];

  /** Its worker compiles the module at once. Nothing runs until `start` or `restore`. Throws KEDGE_GUEST_CRASHED. */
  constructor(options: GuestOptions) {
    const wake = native.wakeCreate();
    if (failed(wake)) throw new KedgeError('KEDGE_INTERNAL', `no wake descriptor: errno ${-wake}`);
    this.#wake = wake;
    this.#stop = createStopSignal();
    this.#options = options;
    // Whoever cares awaits it; nobody has to.
    this.#ready.promise.catch(() => undefined);
    try {
      this.#worker = options.worker ?? startWorker();
    } catch (error) {
      native.fdClose(wake);
      throw error;
    }
    this.#worker.on('message', (message: WorkerMessage) => this.#take(message));
    this.#worker.on('error', (error: Error) => this.#gone({ kind: 'crashed', message: error.message }));
    this.#worker.on('exit', () => this.#gone({ kind: 'crashed', message: 'the worker thread ended' }));
    const { engine, instrumented, module, address, args, environ, preopens } = options;
    const begin: WorkerBegin = {
      do: 'begin',
      args: {
        engine,
        instrumented,
        module,
        address,
        args,
        environ,
        preopens,
        stop: this.#stop.handle,
        wakeFd: wake,
        descriptors: this.#descriptors,
        words: this.#words.buffer,
      },
    };
    this.#worker.postMessage(begin);
  }

  get state(): GuestState {
    return this.#state;
  }

  /**
   * Settles when the worker has compiled the module. Rejects with what the engine says of a module that it cannot run, and with
   * KEDGE_GUEST_CRASHED when the worker died.
   */
  get ready(): Promise<void> {
    return this.#ready.promise;
  }

  /** Settles when nothing of the guest is left here. */
  get ended(): Promise<GuestEnd> {
    return this.#ended.promise;
  }

  /** Settles when the guest's code has ended; connections may still linger. */
  get codeEnded(): Promise<GuestEnd> {
    return this.#codeEnded.promise;
  }

  #change(state: GuestState): void {
    if (this.#state.name === 'ended') return;
    this.#state = state;
    this.#options.onState(state);
    if (state.name === 'lingering' || state.name === 'ended') this.#codeEnded.resolve(state.end);
    if (state.name === 'ended') this.#ended.resolve(state.end);
    if (state.name === 'stopped') for (const resolve of this.#onStopped.splice(0)) resolve('stopped');
    if (state.name === 'lingering' || state.name === 'ended')
      for (const resolve of this.#onStopped.splice(0)) resolve('ended');
  }

  #take(message: WorkerMessage): void {
    switch (message.kind) {
      case 'reply':
      case 'error': {
        const waiting = this.#waiting.get(message.id);
        this.#waiting.delete(message.id);
        if (message.kind === 'reply') {
          waiting?.done();
          return waiting?.resolve(message.result as never);
        }
        return waiting?.reject(errorOf(message.error));
      }
      case 'refused': {
        const error = errorOf(message.error);
        this.#ready.reject(error);
        for (const { reject } of this.#waiting.values()) reject(error);
        this.#waiting.clear();
        return this.#end({ kind: 'crashed', message: error.message });
      }
      case 'ready':
        return this.#ready.resolve();
      case 'log':
        return this.#log(message.stream, message.bytes);
      case 'lingered':
        if (this.#state.name === 'lingering') this.#end(this.#state.end);
        return;
      case 'outcome':
        return this.#outcome(message.outcome);
      case 'crashed':
        return this.#end({ kind: 'crashed', message: message.message });
    }
  }

  #log(stream: 'stdout' | 'stderr', bytes: Uint8Array): void {
    const taken = (): void => {
      Atomics.sub(this.#words, LOG_OUTSTANDING, logCost(bytes));
      Atomics.notify(this.#words, LOG_OUTSTANDING);
    };
    const room = this.#options.onLog(stream, bytes);
    if (room === undefined) taken();
    else void room.then(taken);
  }

  #outcome(outcome: Outcome): void {
    const known = this.#aheadOfMessage;
    this.#aheadOfMessage = false;
    if (known) return;
    if (outcome.kind !== 'stopped') this.#change({ name: 'lingering', end: outcome });
    else if (this.#onStopped.length > 0) this.#change({ name: 'stopped' });
    // Whoever wanted that has given up: nobody would ever let it go on.
    else this.#goOn('resume').catch(() => undefined);
  }

  #end(end: GuestEnd): void {
    this.#change({ name: 'ended', end });
    void this.#worker.terminate();
    this.#stop.end();
    // A thread that is blocked in a call sees that it is to end only when the call returns.
    native.wakeSignal(this.#wake);
  }

  #gone(end: GuestEnd): void {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#state.name !== 'ended') this.#change({ name: 'ended', end });
    const why = end.kind === 'crashed' ? `: ${end.message}` : '';
    this.#ready.reject(new KedgeError('KEDGE_GUEST_CRASHED', `the thread of the guest died${why}`));
    const error = new KedgeError('KEDGE_GUEST_ENDED', `the guest has ended${why}`);
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
    // A worker that died has left its sockets; one that ended in order has none.
    closeLeft(native, this.#descriptors);
    native.fdClose(this.#wake);
  }

  #ask<K extends keyof Requests>(
    request: K,
    args: Requests[K]['args'],
    done: () => void = () => undefined,
    transfer: ArrayBuffer[] = [],
  ): Promise<Requests[K]['result']> {
    return new Promise((resolve, reject) => {
      if (this.#state.name === 'ended') return reject(new KedgeError('KEDGE_GUEST_ENDED', 'the guest has ended'));
      const id = this.#nextId++;
      this.#waiting.set(id, { resolve, reject, done });
      this.#worker.postMessage({ id, do: request, args }, transfer);
    });
  }

  /** Lets guest code run. The stop flag is cleared here: cleared by the thread, it could be the next stop's that is lost. */
  async #goOn(how: 'start' | 'resume' | 'release'): Promise<void> {
    this.#runs += 1;
    this.#stop.clear();
    Atomics.store(this.#words, AT_REST, 0);
    native.wakeClear(this.#wake);
    const answered = this.#ask(how, null, () => {
      const { name } = this.#state;
      // One whose code has ended only lingers on.
      if (name === 'preparing' || name === 'stopped' || name === 'restored') this.#change({ name: 'running' });
    });
    this.#letGo = answered.catch(() => undefined);
    await answered;
  }

  start(): Promise<void> {
    return this.#goOn('start');
  }

  /**
   * Brings a running guest to a stable point, or tells that its code has ended meanwhile. Throws KEDGE_GUEST_UNSTOPPABLE when it
   * reaches none in time; then it goes on.
   */
  async stop(): Promise<'stopped' | 'ended'> {
    // One that is about to run does not stand still, whatever its state is until the thread has answered.
    await this.#letGo;
    if (this.#state.name === 'stopped') return 'stopped';
    if (this.#state.name !== 'running') return 'ended';
    const reached = new Promise<'stopped' | 'ended'>((resolve) => this.#onStopped.push(resolve));
    this.#stop.request();
    native.wakeSignal(this.#wake);
    if (this.#waitForRest() === REST_STOPPED) {
      this.#aheadOfMessage = true;
      this.#change({ name: 'stopped' });
      return 'stopped';
    }
    let timer: NodeJS.Timeout | undefined;
    const { stopLimit = STOP_LIMIT } = this.#options;
    const limit = new Promise<'stuck'>((resolve) => {
      timer = setTimeout(() => resolve('stuck'), stopLimit);
    });
    const result = await Promise.race([reached, limit]);
    clearTimeout(timer);
    if (result !== 'stuck') return result;
    this.#onStopped = [];
    this.#stop.clear();
    native.wakeClear(this.#wake);
    throw new KedgeError('KEDGE_GUEST_UNSTOPPABLE', `the guest reached no stable point in ${stopLimit} ms`);
  }

  /** How the guest's code came to rest, if it did in this time. */
  #waitForRest(): number {
    const words = this.#words;
    const start = performance.now();
    while (performance.now() - start < AWAKE) {
      const rest = Atomics.load(words, AT_REST);
      if (rest !== 0) return rest;
    }
    // Not awake any longer: a guest that was blocked may have woken up on this very core.
    Atomics.wait(words, AT_REST, 0, PATIENCE);
    return Atomics.load(words, AT_REST);
  }

  /** Takes over what the kernel holds. `stays`: nobody lets the guest go on before its image is stored or sent. */
  drain(stays: boolean): Promise<Requests['drain']['result']> {
    return this.#ask('drain', { stays });
  }

  /** The parts of its image. A large memory of a guest that stays is not among them: it is read from where it is. */
  async save(flows: Requests['save']['args']['flows']): Promise<SavedGuest | StandingGuest> {
    const run = this.#runs;
    const saved = await this.#ask('save', { flows });
    const { memory, ...rest } = saved;
    if (memory instanceof Uint8Array) return { ...rest, memory };
    return { ...rest, memory: { ...memory, read: () => this.#lent(memory.length, run) } };
  }

  /** The bytes of a section that the thread has lent: one piece is filled while the one before is looked at. */
  async *#lent(length: number, run: number): AsyncGenerator<Uint8Array> {
    const ask = (at: number, into: Uint8Array<ArrayBuffer>): Promise<Uint8Array> => {
      // The thread of a guest that runs takes no requests, and its memory is another by now.
      if (run !== this.#runs)
        throw new KedgeError('KEDGE_ENGINE_STATE', 'the guest goes on: its memory is lent no more');
      const piece = this.#ask('memory', { at, into }, undefined, [into.buffer]);
      // Nobody may be there to take it.
      piece.catch(() => undefined);
      return piece;
    };
    let next = ask(0, new Uint8Array(LENT_PIECE));
    let spare = new Uint8Array(LENT_PIECE);
    for (let at = 0; at < length;) {
      const piece = await next;
      at += piece.length;
      if (at < length) next = ask(at, spare);
      yield piece;
      spare = new Uint8Array(piece.buffer as ArrayBuffer);
    }
  }

  /** Goes on after a stop that led nowhere. */
  resume(): Promise<void> {
    return this.#goOn('resume');
  }

  /** Fills a fresh guest. Its memory is given away, if it has its buffer to itself: a copy of it would be one more. */
  restore(args: Requests['restore']['args']): Promise<Requests['restore']['result']> {
    const { buffer, byteLength } = args.saved.memory;
    const own = buffer instanceof ArrayBuffer && buffer.byteLength === byteLength ? [buffer] : [];
    return this.#ask('restore', args, () => this.#change({ name: 'restored' }), own);
  }

  release(): Promise<void> {
    return this.#goOn('release');
  }

  /** Ends everything of the guest here, connections by RST. Works in every state. */
  async destroy(): Promise<void> {
    if (this.#state.name === 'ended') return;
    // A guest that does not stop is ended with its thread; then we close what it had open.
    const stopped = await this.stop().catch(() => 'stuck' as const);
    if (stopped !== 'stuck') await this.#ask('destroy', null).catch(() => undefined);
    this.#end({ kind: 'destroyed' });
  }
}
