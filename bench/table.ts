/**
 * Writes the figures of bench/results/*.json as tables into README.md and documents, between their markers:
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

function read<Result>(name: string): Result {
  return JSON.parse(readFileSync(join(PROJECT, 'bench', 'results', `${name}.json`), 'utf8')) as Result;
}

type Cost = Measured & {
  readonly worst: { readonly program: string; readonly value: number };
  readonly asyncifyWithLoopPolls?: number;
};

/** What stable points cost. */
function costTable(): string {
  const rows = [
    ['time on V8', 'slowdown-v8'],
    ['time on WAMR', 'slowdown-wamr'],
    ['time on V8 when resumed with the hot loop on the stack', 'slowdown-resumed'],
    ['bytes', 'code-size'],
  ].map(([what, name = '']) => {
    const { ours, worst, asyncifyWithLoopPolls } = read<Cost>(name);
    return `| ${what} (\`${name}.json\`) | ${ours} | ${worst.value}, ${worst.program} | ${asyncifyWithLoopPolls ?? 'not measured'} |\n`;
  });
  return `| | stable points | the worst | Asyncify with loop polls |\n| --- | --- | --- | --- |\n${rows.join('')}`;
}

type Policies = {
  readonly policies: readonly {
    readonly policy: string;
    readonly time: number;
    readonly size: number;
    readonly stops: { readonly p50: number; readonly p99: number; readonly max: number } | null;
    readonly notInTime: number;
  }[];
};

/** What each policy costs, and how soon guests stop under it. */
function policyTable(): string {
  const milliseconds = (value: number | null | undefined): string =>
    typeof value === 'number' ? `${(value / 1000).toPrecision(2)} ms` : 'never';
  const rows = read<Policies>('policies').policies.map(({ policy, time, size, stops, notInTime }) => {
    const spread = [stops?.p50, stops?.p99, stops?.max].map(milliseconds);
    return `| \`${policy}\` | ${[time, size, ...spread, `${(notInTime * 100).toFixed(0)} %`].join(' | ')} |\n`;
  });
  return (
    '| policy | time | bytes | request to stopped, p50 | p99 | longest | not within 100 ms |\n' +
    `| --- | --- | --- | --- | --- | --- | --- |\n${rows.join('')}`
  );
}

/** Where which table is shown. */
export const SHOWN: readonly { readonly document: string; readonly marker: string; readonly table: () => string }[] = [
  { document: 'README.md', marker: 'bench', table: benchTable },
  { document: 'docs/benchmarks.md', marker: 'bench', table: benchTable },
  { document: 'docs/stable-points.md', marker: 'costs', table: costTable },
  { document: 'docs/stable-points.md', marker: 'policies', table: policyTable },
];

/** Puts the tables into them. */
export function writeTables(): void {
  for (const { document, marker, table } of SHOWN) {
    const file = join(PROJECT, document);
    writeFileSync(file, withGenerated(readFileSync(file, 'utf8'), marker, table()));
  }
}

if (import.meta.main) writeTables();
