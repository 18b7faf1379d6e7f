/**
 * Waiting for conditions, never for time: every wait has a bound and says, when it is over, what it waited for and what it saw last.
 */
import { setTimeout as delay } from 'node:timers/promises';

export interface WaitOptions {
  /** Upper bound in milliseconds; default 30 000. */
  readonly timeout?: number;
  /** Milliseconds between two looks; default 10. */
  readonly interval?: number;
  /** What is waited for, in words: the message of the error. */
  readonly what?: string;
  /** Called when the wait fails: more to say (a log, a state). */
  readonly explain?: () => string | Promise<string>;
}

type Truthy<T> = Exclude<T, false | 0 | '' | null | undefined>;

/**
 * Calls `condition` until it gives a true value and returns that value. A condition that throws is a condition that does not
 * hold yet; what it threw last is in the error when time is up.
 */
export async function waitFor<T>(condition: () => T | Promise<T>, options: WaitOptions = {}): Promise<Truthy<T>> {
  const timeout = options.timeout ?? 30_000;
  const deadline = performance.now() + timeout;
  let last: unknown;
  for (;;) {
    try {
      const value = await condition();
      if (value) return value as Truthy<T>;
      last = value;
    } catch (error) {
      last = error;
    }
    if (performance.now() >= deadline) break;
    await delay(options.interval ?? 10);
  }
  const seen = last instanceof Error ? last.message : JSON.stringify(last);
  const more = options.explain === undefined ? '' : `\n${await options.explain()}`;
  throw new Error(`waited ${timeout} ms for ${options.what ?? 'a condition'}; last seen: ${seen}${more}`, {
    cause: last,
  });
}

/** A time that is itself what a test is about, as in "frozen for 10 s", milliseconds. Not a way to wait for something. */
export async function elapsed(milliseconds: number): Promise<void> {
  const start = performance.now();
  await waitFor(() => performance.now() - start >= milliseconds, { timeout: milliseconds + 10_000, interval: 50 });
}

/** The promise, or an error that says what took longer than `timeout` milliseconds. */
export async function within<T>(promise: Promise<T>, timeout: number, what: string): Promise<T> {
  const { promise: expired, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => {
    reject(new Error(`${what} took longer than ${timeout} ms`));
  }, timeout);
  try {
    return await Promise.race([promise, expired]);
  } finally {
    clearTimeout(timer);
  }
}
