/**
 * What stable points cost: time of programs and bytes of code, beside the same programs as they were compiled. Engine: V8.
 *
 *     bin/node bench/slowdown.ts [--rounds N] [--only NAME,NAME]
 *
 * A time is what the thread spent on a run, which a busy machine disturbs least; forms take turns. Writes
 * bench/results/{slowdown-v8,code-size}.json.
 */
import process from 'node:process';
import { parseArgs } from 'node:util';
import { Guest, Program } from './guest/guest.ts';
import { PROGRAMS, source, withAsyncify, withPoints } from './guest/programs.ts';
import { median, QUICK, report, type Result } from './harness.ts';

/** Milliseconds that a form runs before it is measured, so that all that is hot is optimised. */
const WARM = QUICK ? 0 : 500;

type Form = { readonly name: string; readonly bytes: number; readonly program: Program; readonly times: number[] };
type Expected = { output: string | undefined };

const never = new Int32Array(new SharedArrayBuffer(4));

/**
 * What this thread has used of a processor. The kernel answers with what it booked when it last looked at the thread, and at one that
 * runs on it looks once in a tick (4 ms here): a short sleep makes it look.
 */
function used(): { user: number; system: number } {
  Atomics.wait(never, 0, 0, 0.1);
  return process.threadCpuUsage();
}

/** Milliseconds that this thread spends on something. */
export function spent(work: () => void): number {
  const start = used();
  work();
  const end = used();
  return (end.user - start.user + end.system - start.system) / 1000;
}

/** One run: its time in milliseconds. Every form must print the same. */
function run({ name, program }: Form, size: number, expected: Expected): number {
  const guest = new Guest(program, [String(size)]);
  const elapsed = spent(() => guest.start());
  expected.output ??= guest.output;
  if (guest.output !== expected.output) throw new Error(`${name}: ${guest.output} instead of ${expected.output}`);
  return elapsed;
}

function warm(form: Form, size: number, expected: Expected): void {
  const end = performance.now() + WARM;
  for (let runs = 0; runs < (QUICK ? 0 : 3) || performance.now() < end; runs += 1) run(form, size, expected);
}

export function geometricMean(values: readonly number[]): number {
  return Math.exp(values.reduce((sum, value) => sum + Math.log(value), 0) / values.length);
}

export function rounded(value: number): number {
  return Number(value.toPrecision(4));
}

/** Of one program, by form: time and bytes over those of the plain module. */
type Row = {
  readonly program: string;
  readonly milliseconds: number;
  readonly time: Readonly<Record<string, number>>;
  readonly size: Readonly<Record<string, number>>;
};

/** Measures one program in all its forms, in turns. */
async function measure(name: string, size: number, rounds: number): Promise<Row> {
  const plain = source(name);
  const form = (label: string, bytes: Uint8Array<ArrayBuffer>): Form => ({
    name: label,
    bytes: bytes.length,
    program: new Program(bytes),
    times: [],
  });
  const base = form('plain', plain);
  const others = [
    form('memory', withPoints(plain, 'loop', 'memory')),
    form('global', withPoints(plain, 'loop', 'global')),
    form('asyncify', await withAsyncify(plain)),
  ];
  const forms = [base, ...others];
  const expected: Expected = { output: undefined };
  for (const each of forms) warm(each, size, expected);
  for (let round = 0; round < rounds; round += 1) for (const each of forms) each.times.push(run(each, size, expected));
  const ratios = (of: (form: Form) => number): Record<string, number> =>
    Object.fromEntries(others.map((other) => [other.name, rounded(of(other) / of(base))]));
  const time = ratios(({ times }) => median(times));
  const row = {
    program: name,
    milliseconds: rounded(median(base.times)),
    time,
    size: ratios(({ bytes }) => bytes),
  };
  process.stdout.write(`${name}: ${JSON.stringify(row)}\n`);
  return row;
}

/** A result whose figures are ratios to the plain module. */
export function toPlain(
  name: string,
  rows: readonly { readonly program: string; readonly value: number }[],
  runs: number,
  details: Readonly<Record<string, unknown>>,
): Result {
  const mean = rounded(geometricMean(rows.map(({ value }) => value)));
  return {
    name,
    unit: '× the plain module',
    runs,
    ours: mean,
    baseline: 1,
    baselineName: 'not instrumented',
    ratio: mean,
    worst: rows.reduce((worst, row) => (row.value > worst.value ? row : worst)),
    ...details,
  };
}

/** Measures all programs and writes `slowdown-v8.json` and `code-size.json`. */
export async function slowdownBenchmark(
  rounds = QUICK ? 1 : 9,
  only: readonly string[] = QUICK ? ['fib'] : [],
): Promise<void> {
  const rows: Row[] = [];
  for (const [name, size] of PROGRAMS)
    if (only.length === 0 || only.includes(name)) rows.push(await measure(name, size, rounds));
  const column = (kind: 'time' | 'size', form: string): { program: string; value: number }[] =>
    rows.map((row) => ({ program: row.program, value: row[kind][form] ?? NaN }));
  const mean = (kind: 'time' | 'size', form: string): number =>
    rounded(geometricMean(column(kind, form).map(({ value }) => value)));
  await report(
    'slowdown-v8',
    toPlain(
      'time of programs with stable points (policy loop) on V8, geometric mean',
      column('time', 'memory'),
      rounds,
      {
        flagInGlobal: mean('time', 'global'),
        asyncifyWithLoopPolls: mean('time', 'asyncify'),
        programs: rows.map(({ program, milliseconds, time }) => ({ program, milliseconds, ...time })),
      },
    ),
  );
  await report(
    'code-size',
    toPlain('bytes of programs with stable points (policy loop), geometric mean', column('size', 'memory'), 1, {
      flagInGlobal: mean('size', 'global'),
      asyncifyWithLoopPolls: mean('size', 'asyncify'),
      programs: rows.map(({ program, size }) => ({ program, ...size })),
    }),
  );
}

if (import.meta.main) {
  const { values } = parseArgs({ options: { rounds: { type: 'string', default: '9' }, only: { type: 'string' } } });
  await slowdownBenchmark(Number(values.rounds), values.only?.split(','));
}
