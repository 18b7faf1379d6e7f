/**
 * What each policy costs, and how soon a guest stops under it. Engine: V8. Time and bytes beside the plain module, in turns, in the
 * small host of `slowdown.ts`; stops of guests that compute, as `stop.ts` measures them.
 *
 *     bin/node bench/policies.ts [--stops N] [--rounds N]
 *
 * Writes bench/results/policies.json.
 */
import process from 'node:process';
import { parseArgs } from 'node:util';
import { Guest, Program } from './guest/guest.ts';
import { LONG, type Policy, PROGRAMS, source, withPoints } from './guest/programs.ts';
import { median, QUICK, report } from './harness.ts';
import { geometricMean, rounded, spent } from './slowdown.ts';
import { type Spread, spread, stops } from './stop.ts';

const POLICIES: readonly Policy[] = ['call', 'function', 'loop', 'loop-all', 'instruction'];
/** Of each kind of program one or two: loops of numbers, calls, memory, an interpreter, a large one. */
const CHOSEN: ReadonlySet<string> = new Set(
  QUICK ? ['fib'] : ['nbody', 'fannkuch', 'binary-trees', 'sort', 'sha256', 'fib', 'lua', 'sqlite'],
);
/** With a poll at each instruction these have functions that V8 optimises for minutes. */
const LARGE: ReadonlySet<string> = new Set(['sha256', 'lua', 'sqlite']);
/** A guest that has not stopped after so many milliseconds counts as one that does not. */
const PATIENCE = 100;

type Row = {
  readonly policy: Policy;
  readonly time: number;
  readonly size: number;
  /** Microseconds, of those that stopped in time. */
  readonly stops: Spread;
  /** Share of all stops. */
  readonly notInTime: number;
  readonly programs: readonly string[];
};

/** Time and bytes of a program under a policy, over those of the plain module. */
function cost(name: string, size: number, policy: Policy, rounds: number): readonly [time: number, size: number] {
  const plain = source(name);
  const bytes = withPoints(plain, policy, 'memory');
  const forms = [new Program(plain), new Program(bytes)] as const;
  const times: readonly [number[], number[]] = [[], []];
  for (let round = -1; round < rounds; round += 1)
    forms.forEach((form, index) => {
      const elapsed = spent(() => new Guest(form, [String(size)]).start());
      if (round >= 0) times[index]?.push(elapsed);
    });
  return [median(times[1]) / median(times[0]), bytes.length / plain.length];
}

async function measure(policy: Policy, rounds: number, count: number): Promise<Row> {
  const names = [...CHOSEN].filter((name) => policy !== 'instruction' || !LARGE.has(name));
  const [sizes, long] = [new Map(PROGRAMS), new Map(LONG)];
  const costs = names.map((name) => cost(name, sizes.get(name) ?? NaN, policy, rounds));
  const times: number[] = [];
  for (const name of names) {
    const guest = { module: source(name), args: [String(long.get(name))] };
    times.push(
      ...(await stops({ engine: 'v8', policy, ...guest, stopLimit: PATIENCE }, count, () => Promise.resolve())),
    );
  }
  const inTime = times.filter((time) => time < Infinity);
  const row = {
    policy,
    time: rounded(geometricMean(costs.map(([time]) => time))),
    size: rounded(geometricMean(costs.map(([, size]) => size))),
    stops: spread(inTime),
    notInTime: rounded(1 - inTime.length / times.length),
    programs: names,
  };
  process.stdout.write(`${JSON.stringify(row)}\n`);
  return row;
}

export async function policiesBenchmark(rounds = QUICK ? 1 : 3, count = QUICK ? 2 : 25): Promise<void> {
  const rows: Row[] = [];
  for (const policy of POLICIES) rows.push(await measure(policy, rounds, count));
  const loop = rows.find(({ policy }) => policy === 'loop');
  await report('policies', {
    name: 'time of programs under the policy loop on V8, geometric mean of the eight that policies are compared by',
    unit: '× the plain module',
    runs: rounds,
    ours: loop?.time ?? NaN,
    baseline: 1,
    baselineName: 'not instrumented',
    ratio: loop?.time ?? NaN,
    policies: rows,
  });
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: { rounds: { type: 'string', default: '3' }, stops: { type: 'string', default: '25' } },
  });
  await policiesBenchmark(Number(values.rounds), Number(values.stops));
}
