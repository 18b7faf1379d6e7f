/**
 * How fast resumed code is: a program is stopped early on, while its hot loop is on the stack, and what remains of it is
 * timed beside the whole run of the plain module. Engine: V8. Writes bench/results/slowdown-resumed.json.
 *
 *     bin/node bench/resumed.ts [--rounds N]
 */
import process from 'node:process';
import { parseArgs } from 'node:util';
import { Guest, Program } from './guest/guest.ts';
import { PROGRAMS, source, withPoints } from './guest/programs.ts';
import { median, QUICK, report } from './harness.ts';
import { toPlain, rounded, spent } from './slowdown.ts';

/** Those whose hot loop is in a function that runs from the beginning to the end. */
const HOT = new Set(QUICK ? ['nbody'] : ['nbody', 'fannkuch', 'mandelbrot', 'matmul', 'sieve', 'mix', 'sha256', 'lua']);
/** The poll at which they stop: past the start of the program, and a tiny part of its run. */
const POLL = 2000;
const WARM = QUICK ? 1 : 5;

/** Stops at the poll, and gives the time that the rest takes. */
function resumed(program: Program, size: number, expected: string): number {
  const guest = new Guest(program, [String(size)]);
  let polls = 0;
  guest.onPoll = () => (polls += 1) === POLL;
  guest.request(true);
  if (guest.start()) throw new Error('the program ended before it was stopped');
  guest.request(false);
  const elapsed = spent(() => guest.resume());
  if (guest.output !== expected) throw new Error(`${guest.output} instead of ${expected}`);
  return elapsed;
}

export async function resumedBenchmark(rounds = QUICK ? 1 : 9): Promise<void> {
  const rows: { program: string; value: number; milliseconds: number }[] = [];
  for (const [name, size] of PROGRAMS.filter(([program]) => HOT.has(program))) {
    const plain = new Program(source(name));
    const instrumented = new Program(withPoints(source(name), 'loop', 'memory'));
    let output = '';
    const whole = (): number => {
      const guest = new Guest(plain, [String(size)]);
      const elapsed = spent(() => guest.start());
      ({ output } = guest);
      return elapsed;
    };
    const times: [number[], number[]] = [[], []];
    for (let round = -WARM; round < rounds; round += 1) {
      const base = whole();
      const ours = resumed(instrumented, size, output);
      if (round < 0) continue;
      times[0].push(base);
      times[1].push(ours);
    }
    const [base, ours] = times.map(median);
    rows.push({ program: name, value: rounded((ours ?? NaN) / (base ?? NaN)), milliseconds: rounded(base ?? NaN) });
    process.stdout.write(`${name}: ${rows.at(-1)?.value}\n`);
  }
  const name = 'time of programs resumed with their hot loop on the stack on V8, geometric mean';
  await report('slowdown-resumed', toPlain(name, rows, rounds, { programs: rows }));
}

if (import.meta.main) {
  const { values } = parseArgs({ options: { rounds: { type: 'string', default: '9' } } });
  await resumedBenchmark(Number(values.rounds));
}
