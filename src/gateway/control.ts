/** The main thread's end of the pump: starts it, and carries verbs to it one message each. */
import { Worker } from 'node:worker_threads';
import { KedgeError, isErrorCode } from '../errors.ts';
import { failed, native } from '../native.ts';
import type { WakeFd } from '../native.ts';
import type { ControlVerbs, ErrorBody } from './admin/schema.ts';
import type { Arena } from './arena.ts';
import type { PlaneSettings } from './context.ts';
import type { FastDevices } from './fast-record.ts';
import type { Ipv4 } from '../rewrite/numbers.ts';

export type PumpOptions = {
  readonly arena: Arena;
  /** Open TUNs of the legs; the index is the leg's number in the arena. */
  readonly legs: readonly { readonly name: string; readonly fd: number }[];
  readonly outsideFd: number;
  readonly outsideAddress: Ipv4;
  readonly pool: { readonly base: number; readonly prefix: number };
  /** Of all the gateway's devices, bytes. */
  readonly mtu: number;
  /** How long the pump looks again before it sleeps, microseconds. */
  readonly spinUs: number;
  readonly fastPath?: KernelPath;
};

/** The kernel's part of the fast path, open: descriptors of its maps, and indices of devices. */
export type KernelPath = { readonly keysFd: number; readonly flowsFd: number; readonly devices: FastDevices };

/** What the worker gets. */
export type PumpData = {
  readonly arena: SharedArrayBuffer;
  readonly legs: readonly { readonly name: string; readonly fd: number }[];
  readonly outsideFd: number;
  readonly settings: PlaneSettings;
  readonly spinUs: number;
  readonly fastPath: KernelPath | undefined;
  readonly wakeFd: number;
  /** One word that is 1 while a message waits. */
  readonly flag: SharedArrayBuffer;
};

type VerbRequest = {
  [V in keyof ControlVerbs]: { readonly id: number; readonly verb: V; readonly args: ControlVerbs[V]['args'] };
}[keyof ControlVerbs];
export type PumpRequest = VerbRequest | { readonly id: number; readonly verb: 'stop' };
export type PumpReply =
  | { readonly id: number; readonly result: ControlVerbs[keyof ControlVerbs]['result'] }
  | { readonly id: number; readonly error: ErrorBody };

type Waiting = { readonly resolve: (value: never) => void; readonly reject: (error: Error) => void };

export class PumpClient {
  readonly #worker: Worker;
  readonly #wake: WakeFd;
  readonly #flag: Int32Array;
  readonly #waiting = new Map<number, Waiting>();
  #nextId = 1;
  #crashed: Error | undefined;
  #stopping = false;
  #onCrash: ((error: Error) => void) | undefined;

  private constructor(worker: Worker, wake: WakeFd, flag: SharedArrayBuffer) {
    this.#worker = worker;
    this.#wake = wake;
    this.#flag = new Int32Array(flag);
    worker.on('message', (reply: PumpReply) => this.#reply(reply));
    worker.on('error', (error: Error) => this.#crash(error));
    worker.on('exit', (code) => {
      if (!this.#stopping) this.#crash(new Error(`the pump ended with code ${code}`));
    });
  }

  /** Starts the pump; resolves when it reads its devices. The devices stay the caller's to close, after `stop`. */
  static async start(options: PumpOptions): Promise<PumpClient> {
    const wake = native.wakeCreate();
    if (failed(wake)) throw new KedgeError('KEDGE_PUMP_FAILED', `no wake descriptor: errno ${-wake}`);
    const flag = new SharedArrayBuffer(4);
    const { arena, legs, outsideFd, outsideAddress, pool, mtu, spinUs, fastPath } = options;
    const workerData: PumpData = {
      arena: arena.buffer,
      legs,
      outsideFd,
      settings: { outsideAddress, pool, mtu },
      spinUs,
      fastPath,
      wakeFd: wake,
      flag,
    };
    // The same file runs from the sources and from dist/.
    const suffix = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
    const worker = new Worker(new URL(`./pump.${suffix}`, import.meta.url), { workerData });
    const client = new PumpClient(worker, wake, flag);
    await new Promise<void>((resolve, reject) => client.#waiting.set(0, { resolve: () => resolve(), reject }));
    return client;
  }

  /** Carries out a verb between two batches. Rejects with the verb's KedgeError, or KEDGE_PUMP_FAILED when the pump died. */
  call<V extends keyof ControlVerbs>(verb: V, args: ControlVerbs[V]['args']): Promise<ControlVerbs[V]['result']> {
    return new Promise<ControlVerbs[V]['result']>((resolve, reject) => {
      if (this.#crashed !== undefined || this.#stopping) {
        reject(new KedgeError('KEDGE_PUMP_FAILED', 'the pump is not running', { cause: this.#crashed }));
        return;
      }
      const id = this.#nextId++;
      this.#waiting.set(id, { resolve: resolve, reject });
      this.#send({ id, verb, args } as VerbRequest);
    });
  }

  #send(request: PumpRequest): void {
    this.#worker.postMessage(request);
    Atomics.store(this.#flag, 0, 1);
    native.wakeSignal(this.#wake);
  }

  #reply(reply: PumpReply): void {
    const waiting = this.#waiting.get(reply.id);
    this.#waiting.delete(reply.id);
    if (waiting === undefined) return;
    if ('result' in reply) waiting.resolve(reply.result as never);
    else {
      const { code, message, hint } = reply.error;
      waiting.reject(new KedgeError(isErrorCode(code) ? code : 'KEDGE_INTERNAL', message, { hint }));
    }
  }

  #crash(cause: Error): void {
    if (this.#crashed !== undefined) return;
    this.#crashed = cause;
    const error = new KedgeError('KEDGE_PUMP_FAILED', `the pump died: ${cause.message}`, { cause });
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
    this.#onCrash?.(error);
  }

  /** Called at most once, when the pump dies by itself. */
  onCrash(callback: (error: Error) => void): void {
    this.#onCrash = callback;
  }

  /** Lets the pump finish its batch and end. */
  async stop(): Promise<void> {
    if (this.#stopping) return;
    this.#stopping = true;
    if (this.#crashed === undefined) {
      const ended = new Promise<void>((resolve) => this.#worker.once('exit', () => resolve()));
      this.#send({ id: 0, verb: 'stop' });
      await ended;
    }
    native.fdClose(this.#wake);
  }
}
