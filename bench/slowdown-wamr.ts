/**
 * What stable points cost on WAMR's interpreter: the programs of `slowdown.ts` with smaller sizes, as they were compiled beside
 * the form that the product runs there (policy `loop`, flag in a global). Both run in the product's own host.
 *
 *     bin/node bench/slowdown-wamr.ts [--rounds N] [--only NAME,NAME]
 *
 * Writes bench/results/slowdown-wamr.json.
 */
import process from 'node:process';
import { parseArgs } from 'node:util';
import type { Policy } from '../src/engine/engine.ts';
import { LocalGuest, LocalProgram } from './guest/local.ts';
import { SHORT, source } from './guest/programs.ts';
import { median, QUICK, report } from './harness.ts';
import { rounded, spent, toPlain } from './slowdown.ts';

/** One run: its time in milliseconds. Every form must print the same. */
function run(program: LocalProgram, expected: { output: string | undefined }): number {
  const guest = new LocalGuest(program);
  const elapsed = spent(() => {
    const { kind } = guest.instance.start();
    if (kind !== 'exited') throw new Error(`${program.name} ${kind}`);
  });
  guest.close();
  expected.output ??= guest.output;
  if (guest.output !== expected.output) throw new Error(`${guest.output} instead of ${expected.output}`);
  return elapsed;
}

export async function slowdownOnWamr(rounds = QUICK ? 1 : 5, only = QUICK ? ['fib'] : undefined): Promise<void> {
  const rows: { program: string; milliseconds: number; value: number; size: number }[] = [];
  for (const [name, size] of SHORT) {
    if (only !== undefined && !only.includes(name)) continue;
    const module = source(name);
    const form = (policy: Policy): LocalProgram => new LocalProgram('wamr', name, module, [String(size)], policy);
    const [plain, points] = [form('none'), form('loop')];
    const times: [number[], number[]] = [[], []];
    const expected = { output: undefined };
    for (let round = 0; round < rounds; round += 1) {
      times[0].push(run(plain, expected));
      times[1].push(run(points, expected));
    }
    const [base, ours] = times.map(median);
    const row = {
      program: name,
      milliseconds: rounded(base ?? NaN),
      value: rounded((ours ?? NaN) / (base ?? NaN)),
      size: rounded(points.compiled.module.bytes.length / plain.compiled.module.bytes.length),
    };
    rows.push(row);
    process.stdout.write(`${JSON.stringify(row)}\n`);
  }
  const name = 'time of programs with stable points (policy loop) on WAMR, geometric mean';
  await report('slowdown-wamr', toPlain(name, rows, rounds, { programs: rows }));
}

if (import.meta.main) {
  const { values } = parseArgs({ options: { rounds: { type: 'string', default: '5' }, only: { type: 'string' } } });
  await slowdownOnWamr(Number(values.rounds), values.only?.split(','));
}
