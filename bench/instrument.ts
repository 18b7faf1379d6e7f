/**
 * How fast the stable-point pass is: megabytes of SQLite's module that it instruments in a second of wall-clock time.
 *
 *     bin/node bench/instrument.ts [--rounds N]
 *
 * Beside it, in turns and on the same bytes: Binaryen's Asyncify, which does the same job (in every fifth turn: it takes half a minute),
 * and V8, which validates them and compiles them. Writes bench/results/instrument.json.
 */
import process from 'node:process';
import { parseArgs } from 'node:util';
import { source, withAsyncify, withPoints } from './guest/programs.ts';
import { median, QUICK, report, result } from './harness.ts';

const PROGRAM = QUICK ? 'nbody' : 'sqlite';
/** Rounds that are not counted. */
const WARM = QUICK ? 0 : 2;
const ASYNCIFY_EVERY = 5;

type Work = { readonly name: string; readonly run: () => unknown; readonly speeds: number[] };

/** Megabytes per second of one run. */
async function speed(bytes: number, run: () => unknown): Promise<number> {
  const start = performance.now();
  await run();
  return bytes / 1000 / (performance.now() - start);
}

/** Measures and writes `instrument.json`. */
export async function instrumentBenchmark(rounds = QUICK ? 1 : 15): Promise<void> {
  const module = source(PROGRAM);
  const work = (name: string, run: () => unknown): Work => ({ name, run, speeds: [] });
  const ours = work('ours', () => withPoints(module, 'loop', 'memory'));
  const asyncify = work('asyncify', () => withAsyncify(module));
  const others = [
    work('validatedByV8', () => WebAssembly.validate(module)),
    work('compiledByV8', () => new WebAssembly.Module(module)),
  ];
  let cpu = 0;
  for (let round = -WARM; round < rounds; round += 1) {
    for (const { run, speeds } of [ours, asyncify, ...others]) {
      if (run === asyncify.run && (round < 0 || round % ASYNCIFY_EVERY !== 0)) continue;
      const before = process.cpuUsage();
      const measured = await speed(module.length, run);
      if (round < 0) continue;
      speeds.push(measured);
      const { user, system } = process.cpuUsage(before);
      if (run === ours.run) cpu += (user + system) / 1000 / rounds;
    }
  }
  const rounded = (value: number): number => Number(value.toPrecision(4));
  await report(
    'instrument',
    result(
      {
        name: `instrumenting ${PROGRAM} (policy loop)`,
        unit: 'MB/s',
        baselineName: "Binaryen's Asyncify",
      },
      ours.speeds,
      asyncify.speeds,
      {
        bytes: module.length,
        processorMilliseconds: rounded(cpu),
        ...Object.fromEntries(others.map(({ name, speeds }) => [name, rounded(median(speeds))])),
        series: { ours: ours.speeds.map(rounded), baseline: asyncify.speeds.map(rounded) },
      },
    ),
  );
}

if (import.meta.main) {
  const { values } = parseArgs({ options: { rounds: { type: 'string' } } });
  await instrumentBenchmark(values.rounds === undefined ? undefined : Number(values.rounds));
}
