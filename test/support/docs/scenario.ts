/** Runs all commands of a document, in its order, in the terminals it names. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from '../process.ts';
import { PROJECT, Topology, type Place } from '../topology.ts';
import { waitFor } from '../wait.ts';
import { blocksOf } from './markdown.ts';
import { Desk, type Terminal } from './terminal.ts';
import { linesOf, sameOutput, stepsOf, type Step } from './transcript.ts';

/** For one command, on a machine that does much else, milliseconds. */
const PATIENCE = 60_000;

const TWO_HOSTS = join(PROJECT, 'netns-scripts', 'two-hosts.sh');

/** Terminals of these names are in the topology; others are on the machine itself. */
const NAMES: Readonly<Record<string, Place>> = { gateway: 'gw', 'host A': 'a', 'host B': 'b', peer: 'peer' };

export type Ran = {
  readonly step: Step;
  /** What it printed this time. */
  readonly printed: readonly string[];
};

/**
 * Runs a document. Throws when a command ends otherwise than it should, or prints something else than is shown; with
 * `record` only the former, for whoever wants to show what it prints now.
 */
export async function runDocument(
  name: string,
  markdown: string,
  options: { readonly record?: boolean } = {},
): Promise<Ran[]> {
  const blocks = blocksOf(markdown);
  const terminals = new Set(blocks.flatMap(({ directive: d }) => (d?.kind === 'run' ? [d.terminal] : [])));
  await using stack = new AsyncDisposableStack();
  const topology = [...terminals].some((terminal) => terminal in NAMES) ? stack.use(await Topology.up()) : undefined;
  const desk = stack.use(await Desk.open());
  stack.defer(() => run([TWO_HOSTS, 'down', desk.topologyName]).then(() => undefined));
  const open = new Map<string, Terminal>();
  const terminal = (label: string): Terminal => {
    const place = NAMES[label];
    const found = open.get(label) ?? desk.terminal(place === undefined ? [] : topology?.command(place, []));
    open.set(label, found);
    return found;
  };
  const ran: Ran[] = [];
  for (const { text, line, directive } of blocks) {
    if (directive?.kind === 'file')
      await writeFile(join(desk.directory, 'work', directive.name), desk.here(`${text}\n`));
    if (directive?.kind !== 'run') continue;
    const steps = stepsOf(text, line);
    for (const [index, step] of steps.entries()) {
      const exit = index === steps.length - 1 ? directive.exit : 0;
      try {
        const printed = await typeStep(desk, terminal(directive.terminal), step, exit);
        if (options.record !== true) mustShow(step, printed);
        ran.push({ step, printed });
      } catch (error) {
        throw new Error(`${name}:${step.line}: ${String(error)}`, { cause: error });
      }
    }
  }
  return ran;
}

/** Without the empty line that may stand before the next command. */
function shownBy({ output }: Step): readonly string[] {
  return output.at(-1) === '' ? output.slice(0, -1) : output;
}

function mustShow(step: Step, printed: readonly string[]): void {
  const shown = shownBy(step);
  if (sameOutput(shown, printed)) return;
  assert.fail(`${step.command}\nprinted\n${printed.join('\n')}\nwhere the document shows\n${shown.join('\n')}`);
}

/** Types one command; returns the lines it printed. */
async function typeStep(desk: Desk, shell: Terminal, step: Step, exit: number): Promise<string[]> {
  const { code, printed } = await shell.type(desk.here(step.command), PATIENCE);
  assert.equal(code, exit, `${step.command}\nended with ${code}:\n${printed}`);
  const shown = shownBy(step);
  if (!step.background || shown.length === 0) return linesOf(desk.asSeen(printed));
  const all = (): string => printed + shell.printed;
  // One that goes on prints in its own time; a difference is told by whoever compares.
  await waitFor(() => linesOf(all()).length >= shown.length, { timeout: PATIENCE, what: step.command, explain: all });
  return linesOf(desk.asSeen(printed + shell.take()));
}
