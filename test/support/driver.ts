/**
 * Drives a process in a place of the topology by lines of JSON: the near end of drive/json-lines.ts.
 */
import { createInterface } from 'node:readline';
import type { Running } from './process.ts';
import { within } from './wait.ts';

interface Answer {
  readonly ready?: boolean;
  readonly id?: number;
  readonly result?: unknown;
  readonly error?: { readonly message: string; readonly stack?: string; readonly code?: string };
}

/** What a method threw over there; `code` as it was there. */
export class DrivenError extends Error {
  readonly code: string | undefined;

  constructor(message: string, code: string | undefined, remoteStack: string | undefined) {
    super(
      remoteStack === undefined ? message : `${message}\n  there: ${remoteStack.split('\n').slice(0, 6).join('\n  ')}`,
    );
    this.name = 'DrivenError';
    this.code = code;
  }
}

export class Driver {
  readonly running: Running;
  readonly #ready = Promise.withResolvers<undefined>();
  readonly #calls = new Map<number, PromiseWithResolvers<unknown>>();
  #nextId = 1;

  constructor(running: Running) {
    this.running = running;
    createInterface({ input: running.child.stdout }).on('line', (line) => {
      this.#hear(line);
    });
    this.#ready.promise.catch(() => undefined);
    const over = (): void => {
      const error = new Error(`the driver has ended\n${running.describe()}`);
      this.#ready.reject(error);
      for (const call of this.#calls.values()) call.reject(error);
      this.#calls.clear();
    };
    running.ended.then(over, over);
  }

  #hear(line: string): void {
    const answer = JSON.parse(line) as Answer;
    if (answer.ready === true) this.#ready.resolve(undefined);
    const call = this.#calls.get(answer.id ?? 0);
    if (call === undefined) return;
    this.#calls.delete(answer.id ?? 0);
    if (answer.error === undefined) call.resolve(answer.result);
    else call.reject(new DrivenError(answer.error.message, answer.error.code, answer.error.stack));
  }

  /** Calls a method over there. The caller knows what it answers. */
  async call<Result>(method: string, params: unknown = {}, timeout = 20_000): Promise<Result> {
    await within(this.#ready.promise, 10_000, `start of ${this.running.label}`);
    const call = Promise.withResolvers<unknown>();
    const id = this.#nextId++;
    this.#calls.set(id, call);
    this.running.child.stdin.write(`${JSON.stringify({ id, method, params })}\n`);
    try {
      return (await within(call.promise, timeout, `${method} of ${this.running.label}`)) as Result;
    } finally {
      this.#calls.delete(id);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.running.stop();
  }
}
