/**
 * How long a running guest takes to stop after another thread asked for it, by policy, and what each policy costs. Engine: V8.
 *
 *     bin/node bench/stop.ts [--stops N]
 *
 * The time is from just before the flag is written to the return of the outermost frame, all frames being with the host by
 * then. Writes bench/results/{time-to-stop,policies}.json.
 */
import process from 'node:process';
import { parseArgs } from 'node:util';
import { Worker } from 'node:worker_threads';
import { Guest, Program, stopMemory } from './guest/guest.ts';
import { type Policy, PROGRAMS, source, withPoints } from './guest/programs.ts';
import { median, report } from './harness.ts';
import { geometricMean, rounded, spent } from './slowdown.ts';

/** `call` has no polls at all, and stops only where a host call does. */
const POLICIES: readonly Policy[] = ['call', 'function', 'loop', 'loop-all', 'instruction'];
/** Too large for a poll at each instruction. */
const LARGE: ReadonlySet<string> = new Set(['lua', 'sqlite']);
/** Milliseconds that a guest runs until it is asked to stop: at least, and how much more at most. */
const LEAST = 1;
const MORE = 10;
const ROUNDS = 3;

/** Asks guests to stop from another thread. */
class Stopper {
  readonly flag = stopMemory();
  readonly #asked = new BigInt64Array(new SharedArrayBuffer(8));
  readonly #worker = new Worker(new URL('guest/stopper.ts', import.meta.url), {
    workerData: { flag: this.flag, asked: this.#asked.buffer },
  });

  ask(): void {
    this.#worker.postMessage(LEAST + Math.random() * MORE);
  }

  /** Microseconds since the flag was set. */
  since(): number {
    return Number(process.hrtime.bigint() - Atomics.load(this.#asked, 0)) / 1000;
  }

  async end(): Promise<void> {
    await this.#worker.terminate();
  }
}

/** Stops a program again and again; it starts anew when it has ended. Microseconds of each stop. */
function stops(program: Program, size: number, stopper: Stopper, count: number): number[] {
  const times: number[] = [];
  let guest = new Guest(program, [String(size)], stopper.flag);
  let fresh = true;
  let asked = false;
  while (times.length < count) {
    if (!asked) stopper.ask();
    asked = true;
    const start = process.hrtime.bigint();
    const ended: boolean = fresh ? guest.start() : guest.resume();
    if (!ended) {
      const since = stopper.since();
      // Asked between two runs: that says nothing about the guest.
      if (since < Number(process.hrtime.bigint() - start) / 1000) times.push(since);
      guest.request(false);
      asked = false;
    }
    fresh = ended;
    if (ended) guest = new Guest(program, [String(size)], stopper.flag);
  }
  return times;
}

function quantile(sorted: readonly number[], share: number): number {
  return rounded(sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? NaN);
}

type Cost = { readonly time: number; readonly size: number; readonly program: Program };

/** Time and size of a program under a policy, over those of the plain module. */
function cost(name: string, size: number, policy: Policy): Cost {
  const plain = source(name);
  const bytes = withPoints(plain, policy, 'memory');
  const forms = [new Program(plain), new Program(bytes)] as const;
  const times: [number[], number[]] = [[], []];
  for (let round = -2; round < ROUNDS; round += 1)
    forms.forEach((form, index) => {
      const elapsed = spent(() => new Guest(form, [String(size)]).start());
      if (round >= 0) times[index]?.push(elapsed);
    });
  return { time: median(times[1]) / median(times[0]), size: bytes.length / plain.length, program: forms[1] };
}

export async function stopBenchmark(count = 100): Promise<void> {
  const stopper = new Stopper();
  const rows: Record<string, unknown>[] = [];
  for (const policy of POLICIES) {
    const times: number[] = [];
    const costs: Cost[] = [];
    const worst: Record<string, number> = {};
    for (const [name, size] of PROGRAMS) {
      if (policy === 'instruction' && LARGE.has(name)) continue;
      const measured = cost(name, size, policy);
      costs.push(measured);
      // Under `function` a program stops only in functions that call themselves.
      if (policy === 'call' || policy === 'function') continue;
      const own = stops(measured.program, size, stopper, count);
      worst[name] = rounded(Math.max(...own));
      times.push(...own);
    }
    const sorted = times.toSorted((a, b) => a - b);
    const figures = {
      p50: quantile(sorted, 0.5),
      p99: quantile(sorted, 0.99),
      most: quantile(sorted, 1),
    };
    const row = {
      policy,
      time: rounded(geometricMean(costs.map(({ time }) => time))),
      size: rounded(geometricMean(costs.map(({ size }) => size))),
      ...(times.length === 0 ? {} : { microseconds: figures, stops: times.length }),
    };
    rows.push(row);
    process.stdout.write(`${JSON.stringify(row)}\n`);
    if (policy !== 'loop') continue;
    await report('time-to-stop', {
      name: 'request to stopped of a guest that computes (policy loop) on V8, 99th percentile',
      unit: 'µs',
      runs: times.length,
      ours: figures.p99,
      baseline: 1000,
      baselineName: 'asked for',
      ratio: rounded(figures.p99 / 1000),
      ...figures,
      worst,
    });
  }
  await stopper.end();
  const loop = rows.find((row) => row['policy'] === 'loop') as { time: number };
  await report('policies', {
    name: 'policies of the stable-point pass on V8 (loop against none)',
    unit: '× the plain module',
    runs: ROUNDS,
    ours: loop.time,
    baseline: 1,
    baselineName: 'not instrumented',
    ratio: loop.time,
    policies: rows,
  });
}

if (import.meta.main) {
  const { values } = parseArgs({ options: { stops: { type: 'string', default: '100' } } });
  await stopBenchmark(Number(values.stops));
}
