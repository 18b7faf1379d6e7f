/**
 * Writes what programs print into the documents, where it has changed:
 *
 *     bin/node test/support/docs/record.ts demo           docs/recording.txt and README.md, from a run of `make demo`
 *     bin/node test/support/docs/record.ts README.md …    what the commands of these documents print
 *
 * Look at the difference before you keep it.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from '../process.ts';
import { PROJECT } from '../topology.ts';
import { withGenerated } from './markdown.ts';
import { runDocument } from './scenario.ts';

/** The block of README.md that holds a recording. */
export function recordingBlock(recording: string): string {
  return `\`\`\`text\n${recording}\`\`\`\n`;
}

async function recordDemo(): Promise<void> {
  const recording = await run(['make', '--no-print-directory', 'demo'], { cwd: PROJECT, timeout: 300_000 });
  await writeFile(join(PROJECT, 'docs', 'recording.txt'), recording);
  const readme = join(PROJECT, 'README.md');
  await writeFile(readme, withGenerated(await readFile(readme, 'utf8'), 'recording', recordingBlock(recording)));
}

/** The document with what its commands print now. */
export async function recordedDocument(name: string, markdown: string): Promise<string> {
  const lines: (string | undefined)[] = markdown.split('\n');
  const insert = new Map<number, readonly string[]>();
  for (const { step, printed } of await runDocument(name, markdown, { record: true })) {
    // A part was left out by somebody who knows why.
    if (step.output.some((line) => line.trim() === '…')) continue;
    const first = step.line - 1 + step.command.split('\n').length;
    step.output.forEach((_, i) => (lines[first + i] = undefined));
    insert.set(first - 1, [...printed, ...(step.output.at(-1) === '' ? [''] : [])]);
  }
  return lines.flatMap((line, i) => [...(line === undefined ? [] : [line]), ...(insert.get(i) ?? [])]).join('\n');
}

async function recordDocument(name: string): Promise<void> {
  const file = join(PROJECT, name);
  await writeFile(file, await recordedDocument(name, await readFile(file, 'utf8')));
}

if (import.meta.main)
  for (const what of process.argv.slice(2)) await (what === 'demo' ? recordDemo() : recordDocument(what));
