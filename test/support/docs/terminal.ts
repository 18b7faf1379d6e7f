/**
 * Terminals in which the commands of a document are typed.
 *
 * Commands run as the reader sees them but for names that would meet something else on the machine of the tests: `/run/kedge…` is a
 * directory of the run, and the topology `try` has a name of its own. What is printed is read with the names of the document.
 */
import { randomBytes } from 'node:crypto';
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Running } from '../process.ts';
import { PROJECT } from '../topology.ts';
import { unprivileged } from '../unprivileged.ts';
import { waitFor } from '../wait.ts';

/** How the documents have somebody without privilege run a command, and who owns that one's directories. */
const AS_NOBODY = 'setpriv --reuid nobody --regid nogroup --clear-groups';
const OWNER = 'install -d -o nobody';

/** What the reader sees, and what stands for it here. */
type Stand = readonly [seen: RegExp, here: string, back: string];

export class Desk {
  /** Of the run, for everybody: `run` stands for /run, `work` is where all terminals begin and looks like the clone. */
  readonly directory = mkdtempSync(join(tmpdir(), 'kedge-docs-'));
  /** Of the topology that the document calls `try`. */
  readonly topologyName = `kt${process.pid}-${randomBytes(3).toString('hex')}`;
  readonly #stands: readonly Stand[];
  readonly #terminals: Terminal[] = [];

  private constructor(asNobody: readonly string[]) {
    chmodSync(this.directory, 0o755);
    mkdirSync(join(this.directory, 'run'));
    mkdirSync(join(this.directory, 'work'));
    chmodSync(join(this.directory, 'work'), 0o1777);
    for (const entry of readdirSync(PROJECT))
      if (entry !== '.git') symlinkSync(join(PROJECT, entry), join(this.directory, 'work', entry));
    this.#stands = [
      [/\/run\/kedge/g, join(this.directory, 'run', 'kedge'), '/run/kedge'],
      [/(?<=[\s/])try(?=[\s-]|$)/g, this.topologyName, 'try'],
      [new RegExp(AS_NOBODY, 'g'), asNobody.join(' '), AS_NOBODY],
      [new RegExp(OWNER, 'g'), asNobody.includes('--reuid') ? OWNER : 'install -d -o root', OWNER],
    ];
  }

  static async open(): Promise<Desk> {
    return new Desk(await unprivileged());
  }

  /** A text of the document with the names that are used here. */
  here(text: string): string {
    return this.#stands.reduce((all, [seen, here]) => all.replace(seen, here), text);
  }

  /** A text that was printed with the names of the document. */
  asSeen(text: string): string {
    return this.#stands.reduce((all, [, here, seen]) => all.replaceAll(here, seen), text);
  }

  /** A shell of root. `inside` is what its command line begins with, for one in a network namespace. */
  terminal(inside: readonly string[] = []): Terminal {
    const terminal = new Terminal([
      ...inside,
      // A test that is started here is not one of ours.
      ...['env', '--unset=NODE_TEST_CONTEXT', '--unset=NODE_OPTIONS', '--unset=KEDGE_TEST_COUNTS'],
      ...['--chdir', join(this.directory, 'work'), `PATH=${join(PROJECT, 'bin')}:${PATH}`],
      // The sockets that commands use by themselves.
      `KEDGE_GATEWAY=${this.here('/run/kedge/gateway.sock')}`,
      `KEDGE_AGENT=${this.here('/run/kedge/agent.sock')}`,
      ...['bash', '--norc'],
    ]);
    this.#terminals.push(terminal);
    return terminal;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const terminal of this.#terminals.toReversed()) await terminal.close();
    rmSync(this.directory, { recursive: true, force: true });
  }
}

const PATH = `${process.env['PATH'] ?? ''}:/usr/local/sbin:/usr/sbin:/sbin`;

export type Done = { readonly code: number; readonly printed: string };

/** A shell that is typed to. What it starts in the background ends with it. */
export class Terminal {
  readonly #shell: Running;
  readonly #mark = randomBytes(8).toString('hex');
  /** How much of the output was returned already. */
  #seen = 0;

  constructor(command: readonly string[]) {
    this.#shell = new Running(command);
    this.#shell.child.stdin.write('exec 2>&1\n');
  }

  /** What was printed since the last call. */
  get printed(): string {
    return this.#shell.stdout.slice(this.#seen);
  }

  /** Types one command and waits for the next prompt. */
  async type(command: string, timeout: number): Promise<Done> {
    const prompt = new RegExp(`\\x1e${this.#mark} (\\d+)\\x1e`);
    // A shell that the command starts takes the second line for its own; so there is no need to know of it.
    this.#shell.child.stdin.write(`${command}\nprintf '\\036%s %d\\036' ${this.#mark} $?\n`);
    const match = await waitFor(() => prompt.exec(this.printed) ?? !this.#shell.running, {
      timeout,
      what: `the end of: ${command}`,
      explain: () => this.printed.slice(-4000),
    });
    if (match === true) throw new Error(`the shell has ended\n${this.#shell.describe()}`);
    const printed = this.printed.slice(0, match.index);
    this.#seen += match.index + match[0].length;
    return { code: Number(match[1]), printed };
  }

  /** Takes what was printed, so that it is not the next command's. */
  take(): string {
    const { printed } = this;
    this.#seen += printed.length;
    return printed;
  }

  async close(): Promise<void> {
    await this.#shell.stop(3_000);
  }
}
