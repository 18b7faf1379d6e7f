import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { Worker } from 'node:worker_threads';
import type { InstrumentedModule, Outcome } from '../../../src/engine/engine.ts';
import type { EngineName } from '../../../src/engine/engines.ts';
import { instrument } from '../../../src/engine/points/instrument.ts';
import { v8Engine } from '../../../src/engine/v8/engine.ts';
import { createStopSignal } from '../../../src/engine/stop.ts';
import { failed, native } from '../../../src/native.ts';
import type { GuestWorkerData, GuestWorkerMessage } from './guest-worker.ts';

const ROOT = new URL('../../../', import.meta.url).pathname;

let compiled = false;

/** The bytes of an example guest, compiled when that was not done yet. */
export function exampleModule(name: string): Uint8Array {
  if (!compiled) {
    execFileSync('make', ['-s', '-C', `${ROOT}examples`], { stdio: ['ignore', 'ignore', 'pipe'] });
    compiled = true;
  }
  return new Uint8Array(readFileSync(`${ROOT}build/examples/${name}.wasm`));
}

/** A loopback address of this process's own, so that tests at the same time do not meet. */
let lastAddress = 0;
export function ownAddress(): { readonly text: string; readonly number: number } {
  lastAddress += 1;
  const number = (0x7f << 24) | ((process.pid & 0xffff) << 8) | lastAddress;
  return { number: number >>> 0, text: [24, 16, 8, 0].map((shift) => (number >>> shift) & 0xff).join('.') };
}

/** Where a guest can be: an engine, and how modules are prepared for it. */
export interface ExampleHost {
  readonly engine: { readonly name: EngineName };
  readonly instrument: (module: Uint8Array) => InstrumentedModule;
}

const ON_V8: ExampleHost = { engine: v8Engine, instrument: (module) => instrument(module, 'loop-all', 'memory') };

/** An example guest in a worker thread, on a loopback address of its own. */
export class ExampleGuest implements AsyncDisposable {
  readonly address: string;
  output = '';
  moves = 0;
  readonly ended: Promise<Outcome>;
  readonly #worker: Worker;
  readonly #move: () => void;
  readonly #wake: number;
  #watchers: (() => void)[] = [];

  private constructor(worker: Worker, address: string, wake: number, move: () => void) {
    this.#worker = worker;
    this.#move = move;
    this.#wake = wake;
    this.address = address;
    this.ended = new Promise((resolve, reject) => {
      worker.on('error', reject);
      worker.on('message', (message: GuestWorkerMessage) => {
        if (message.kind === 'output') {
          this.output += message.text;
        } else if (message.kind === 'moved') {
          this.moves += 1;
        } else {
          resolve(message.outcome);
        }
        for (const watcher of this.#watchers.splice(0)) {
          watcher();
        }
      });
    });
    this.ended.catch(() => {});
  }

  static start(name: string, ...args: readonly string[]): ExampleGuest {
    return ExampleGuest.startOn([ON_V8], name, ...args);
  }

  static startOn(route: readonly ExampleHost[], name: string, ...args: readonly string[]): ExampleGuest {
    const original = exampleModule(name);
    const stop = createStopSignal();
    const wake = native.wakeCreate();
    if (failed(wake)) {
      throw new Error(`no wake descriptor: ${wake}`);
    }
    const address = ownAddress();
    const workerData: GuestWorkerData = {
      hosts: route.map((host) => ({ engine: host.engine.name, module: host.instrument(original) })),
      args: [name, ...args],
      address: address.number,
      stop: stop.handle,
      wakeFd: wake,
    };
    const worker = new Worker(new URL('./guest-worker.ts', import.meta.url), { workerData });
    return new ExampleGuest(worker, address.text, wake, () => {
      stop.request();
      native.wakeSignal(wake);
    });
  }

  /** Stops the guest and waits until it goes on in a new instance. */
  async move(): Promise<void> {
    const before = this.moves;
    this.#move();
    await this.until(() => this.moves > before);
  }

  /** Waits until something is true of the guest's messages, or it has failed. */
  async until(condition: () => boolean): Promise<void> {
    while (!condition()) {
      await Promise.race([
        new Promise<void>((resolve) => this.#watchers.push(resolve)),
        this.ended.then((outcome) => {
          if (!condition()) {
            throw new Error(`the guest ended (${JSON.stringify(outcome)}) and said: ${this.output}`);
          }
        }),
      ]);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // A thread that is blocked in the kernel ends only when it is woken.
    const terminated = this.#worker.terminate();
    this.#move();
    await terminated;
    native.fdClose(this.#wake as Parameters<typeof native.fdClose>[0]);
  }
}

/** A connection whose bytes are read by waiting for them. */
export class Peer {
  readonly socket: Socket;
  /** What has come and was not taken. */
  received = Buffer.alloc(0);
  ended = false;
  #error: Error | undefined;
  #watchers: (() => void)[] = [];

  constructor(socket: Socket) {
    this.socket = socket;
    const wake = (): void => {
      for (const watcher of this.#watchers.splice(0)) {
        watcher();
      }
    };
    socket.on('data', (chunk: Buffer) => {
      this.received = Buffer.concat([this.received, chunk]);
      wake();
    });
    socket.on('end', () => {
      this.ended = true;
      wake();
    });
    socket.on('error', (error) => {
      this.#error = error;
      wake();
    });
  }

  static to(address: string, port: number): Promise<Peer> {
    return new Promise((resolve, reject) => {
      const socket = connect({ host: address, port, allowHalfOpen: true });
      socket.once('error', reject);
      socket.once('connect', () => {
        socket.off('error', reject);
        resolve(new Peer(socket));
      });
    });
  }

  write(data: string | Uint8Array): Promise<void> {
    return new Promise((resolve, reject) => {
      this.socket.write(data, (error) => (error ? reject(error) : resolve()));
    });
  }

  /** Waits for a whole line and takes it, without its end. */
  async line(): Promise<string> {
    await this.#until(() => this.received.includes(0x0a));
    const end = this.received.indexOf(0x0a);
    const text = this.received.subarray(0, end).toString();
    this.received = this.received.subarray(end + 1);
    return text;
  }

  async bytes(count: number): Promise<Buffer> {
    await this.#until(() => this.received.length >= count);
    const taken = this.received.subarray(0, count);
    this.received = this.received.subarray(count);
    return taken;
  }

  /** Everything until the other side ends. */
  async rest(): Promise<Buffer> {
    await this.#until(() => this.ended);
    return this.received;
  }

  async #until(condition: () => boolean): Promise<void> {
    while (!condition()) {
      if (this.#error !== undefined) {
        throw this.#error;
      }
      if (this.ended) {
        throw new Error(`the connection ended with ${this.received.toString().slice(0, 200)}`);
      }
      await new Promise<void>((resolve) => this.#watchers.push(resolve));
    }
  }
}
