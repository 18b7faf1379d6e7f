/**
 * A comparison in a thread of its own: host calls of the guest block it, and its stack is as large as that of every guest.
 * Engines are named, because they cannot be sent to another thread.
 */
import { Worker } from 'node:worker_threads';
import type { EngineName } from '../engine/engines.ts';
import { isErrorCode, KedgeError } from '../errors.ts';
import type { Verdict } from './verdict.ts';
import type { VerifyOptions } from './verify.ts';

export type Job = Omit<VerifyOptions, 'engines' | 'stdio' | 'progress'> & {
  readonly engines: readonly [first: EngineName, second: EngineName];
  /** What the guest prints goes nowhere; otherwise to standard error. */
  readonly quiet: boolean;
};

export interface Progress {
  readonly points: number;
  readonly calls: number;
}

export type JobMessage =
  | { readonly kind: 'progress'; readonly done: Progress }
  | { readonly kind: 'verdict'; readonly verdict: Verdict }
  | { readonly kind: 'failed'; readonly code: string; readonly message: string; readonly hint: string | undefined };

/** Rejects with what `verify` throws, and with KEDGE_GUEST_CRASHED when the thread died. */
export async function runJob(job: Job, progress: (done: Progress) => void): Promise<Verdict> {
  const suffix = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
  const worker = new Worker(new URL(`./worker.${suffix}`, import.meta.url), { workerData: job });
  const result = Promise.withResolvers<Verdict>();
  const died = (why: string): void =>
    result.reject(new KedgeError('KEDGE_GUEST_CRASHED', `the thread of the comparison died: ${why}`));
  worker.on('message', (message: JobMessage) => {
    if (message.kind === 'progress') progress(message.done);
    else if (message.kind === 'verdict') result.resolve(message.verdict);
    else {
      const { code, message: text, hint } = message;
      result.reject(new KedgeError(isErrorCode(code) ? code : 'KEDGE_INTERNAL', text, { hint }));
    }
  });
  worker.on('error', (error: Error) => died(error.stack ?? error.message));
  worker.on('exit', () => died('it ended'));
  try {
    return await result.promise;
  } finally {
    await worker.terminate();
  }
}
