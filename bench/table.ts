/**
 * Writes the figures of bench/results/*.json as a table into README.md and docs/benchmarks.md, between their markers:
 *
 *     bin/node bench/table.ts
 *
 * Nothing stands in it that is not in the files, but for what was asked for.
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { withGenerated } from '../test/support/docs/markdown.ts';
import { PROJECT } from '../test/support/topology.ts';

type Measured = {
  readonly name: string;
  readonly unit: string;
  readonly runs: number;
  readonly ours: number;
  readonly baseline: number;
  readonly baselineName: string;
  readonly ratio: number;
  readonly machine: string;
};

/** What was asked for, by the name of the file. */
const ASKED: Readonly<Record<string, { readonly text: string; readonly reached: (result: Measured) => boolean }>> = {
  throughput: { text: 'ratio ≥ 0.70', reached: ({ ratio }) => ratio >= 0.7 },
  'slowdown-v8': { text: '≤ 1.15', reached: ({ ratio }) => ratio <= 1.15 },
  'slowdown-resumed': { text: '≤ 1.20', reached: ({ ratio }) => ratio <= 1.2 },
  'code-size': { text: '≤ 2.5', reached: ({ ratio }) => ratio <= 2.5 },
  'slowdown-wamr': { text: '≤ 1.25', reached: ({ ratio }) => ratio <= 1.25 },
  'time-to-stop-v8': { text: '≤ 1000 µs', reached: ({ ours }) => ours <= 1000 },
  'time-to-stop-wamr': { text: '≤ 1000 µs', reached: ({ ours }) => ours <= 1000 },
  checkpoint: { text: '≤ 1 ms', reached: ({ ours }) => ours <= 1 },
  restore: { text: '≤ 1 ms', reached: ({ ours }) => ours <= 1 },
  'image-size': { text: '≤ 16 KiB', reached: ({ ours }) => ours <= 16 },
  'image-size-heap': { text: 'ratio ≤ 1.05', reached: ({ ratio }) => ratio <= 1.05 },
  'snapshot-throughput': { text: '≥ 1.5 GB/s', reached: ({ ours }) => ours >= 1.5 },
  instrument: { text: '≥ 20 MB/s', reached: ({ ours }) => ours >= 20 },
  blackout: { text: '≤ 30 ms', reached: ({ ours }) => ours <= 30 },
};

function row(file: string, result: Measured): string {
  const { name, unit, runs, ours, baseline, baselineName, ratio } = result;
  const asked = ASKED[file];
  const judged = asked === undefined ? '' : `${asked.text}: ${asked.reached(result) ? 'reached' : '**not reached**'}`;
  const cells = [name, `${ours} ${unit}`, `${baseline} ${unit}, ${baselineName}`, String(ratio), judged, String(runs)];
  return `| ${cells.join(' | ')} |\n`;
}

/** The table as Markdown. */
export function benchTable(directory = join(PROJECT, 'bench', 'results')): string {
  const files = readdirSync(directory).filter((name) => name.endsWith('.json'));
  const results = files.toSorted().map((name) => {
    const result = JSON.parse(readFileSync(join(directory, name), 'utf8')) as Measured;
    return { file: name.replace('.json', ''), result };
  });
  const machines = [...new Set(results.map(({ result }) => result.machine))];
  return (
    '| what | Kedge | beside it | ratio | asked for | runs |\n| --- | --- | --- | --- | --- | --- |\n' +
    results.map(({ file, result }) => row(file, result)).join('') +
    `\nMedians. Measured on: ${machines.join('; ')}.\n`
  );
}

/** Documents that show the table. */
export const SHOWN_IN = ['README.md', 'docs/benchmarks.md'] as const;

/** Puts the table into them. */
export function writeTables(): void {
  for (const name of SHOWN_IN) {
    const file = join(PROJECT, name);
    writeFileSync(file, withGenerated(readFileSync(file, 'utf8'), 'bench', benchTable()));
  }
}

if (import.meta.main) writeTables();
