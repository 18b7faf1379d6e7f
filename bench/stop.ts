/**
 * How long guests take to stop: from the request in the agent's thread until that thread knows that the guest stands still, all its
 * frames being with the host. Guests as an agent keeps them, each in a worker thread; those that compute, and those that are
 * blocked in a host call. On V8 and on WAMR, policy `loop`.
 *
 *     bin/node bench/stop.ts [--stops N] [--only NAME,NAME]
 *
 * Beside it, in turns with the stops: a thread that sleeps in `Atomics.wait`, is woken, and sends a message. Writes
 * bench/results/time-to-stop-{v8,wamr}.json.
 */
import { once } from 'node:events';
import { setTimeout as pause } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { Worker } from 'node:worker_threads';
import type { EngineName } from '../src/engine/engines.ts';
import { type Hosted, host } from './guest/hosted.ts';
import { LONG, source } from './guest/programs.ts';
import { median, percentile, QUICK, report } from './harness.ts';
import { rounded } from './slowdown.ts';

/** Milliseconds that a guest runs until it is asked to stop: at least, and how much more at most. */
const LEAST = 1;
const MORE = 8;
const CALLS = ['accept', 'recv', 'poll'] as const;

/** Something to compare a stop with. */
export class Answering {
  readonly #word = new Int32Array(new SharedArrayBuffer(4));
  readonly #worker = new Worker(new URL('guest/answering.ts', import.meta.url), { workerData: this.#word.buffer });

  /** Microseconds from waking the thread until its message is here. */
  async ask(): Promise<number> {
    const start = performance.now();
    Atomics.store(this.#word, 0, 1);
    Atomics.notify(this.#word, 0);
    await once(this.#worker, 'message');
    return (performance.now() - start) * 1000;
  }

  async end(): Promise<void> {
    const ended = once(this.#worker, 'exit');
    Atomics.store(this.#word, 0, 2);
    Atomics.notify(this.#word, 0);
    await ended;
  }
}

/** Microseconds of each stop; Infinity when the guest did not stop within its limit. */
export async function stops(hosted: Hosted, count: number, between: () => Promise<void>): Promise<number[]> {
  const times: number[] = [];
  while (times.length < count) {
    const guest = await host(hosted);
    try {
      // A program that has ended starts anew.
      while (times.length < count && guest.state.name === 'running') {
        await pause(LEAST + Math.random() * MORE);
        const start = performance.now();
        const how = await guest.stop().catch(() => 'stuck' as const);
        const elapsed = (performance.now() - start) * 1000;
        if (how === 'ended') break;
        times.push(how === 'stopped' ? elapsed : Infinity);
        await between();
        if (how === 'stopped') await guest.resume();
      }
    } finally {
      await guest.destroy();
    }
  }
  return times;
}

export type Spread = { readonly p50: number; readonly p99: number; readonly max: number };

export function spread(times: readonly number[]): Spread {
  return {
    p50: rounded(percentile(times, 0.5)),
    p99: rounded(percentile(times, 0.99)),
    max: rounded(percentile(times, 1)),
  };
}

async function stopsOn(engine: EngineName, count: number, only: readonly string[] | undefined): Promise<void> {
  const answering = new Answering();
  await answering.ask();
  const answers: number[] = [];
  const between = async (): Promise<void> => {
    answers.push(await answering.ask());
  };
  const rows: { readonly guest: string; readonly times: readonly number[] }[] = [];
  const measure = async (guest: string, hosted: Omit<Hosted, 'engine' | 'policy'>): Promise<void> => {
    if (only !== undefined && !only.includes(guest)) return;
    const times = await stops({ engine, policy: 'loop', ...hosted }, count, between);
    rows.push({ guest, times });
    process.stdout.write(`${engine} ${guest}: ${JSON.stringify(spread(times))}\n`);
  };
  for (const [name, size] of LONG) await measure(name, { module: source(name), args: [String(size)] });
  const running = rows.flatMap(({ times }) => times);
  for (const call of CALLS) await measure(call, { module: source('blocked'), args: [call], until: 'waiting' });
  const blocked = rows.flatMap(({ guest, times }) => ((CALLS as readonly string[]).includes(guest) ? times : []));
  await answering.end();
  const all = rows.flatMap(({ times }) => times);
  const ours = percentile(all, 0.99);
  const baseline = percentile(answers, 0.99);
  await report(`time-to-stop-${engine}`, {
    name: `request to stopped (policy loop) on ${engine}, 99th percentile`,
    unit: 'µs',
    runs: all.length,
    ours: rounded(ours),
    baseline: rounded(baseline),
    baselineName: 'a sleeping thread is woken and sends a message, 99th percentile',
    ratio: rounded(ours / baseline),
    running: spread(running),
    blocked: spread(blocked),
    /** Of each guest the first, when nothing is warm. */
    first: rounded(median(rows.map(({ times }) => times[0] ?? NaN))),
    answers: spread(answers),
    guests: rows.map(({ guest, times }) => ({ guest, ...spread(times) })),
  });
}

export async function stopBenchmark(
  count = QUICK ? 3 : 100,
  only = QUICK ? ['nbody', 'poll'] : undefined,
): Promise<void> {
  await stopsOn('v8', count, only);
  await stopsOn('wamr', count, only);
}

if (import.meta.main) {
  const { values } = parseArgs({ options: { stops: { type: 'string', default: '100' }, only: { type: 'string' } } });
  await stopBenchmark(Number(values.stops), values.only?.split(','));
}
