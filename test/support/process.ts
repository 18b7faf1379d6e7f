/**
 * Child processes of tests: started in a process group of their own, with their output kept, ended by their id.
 *
 * `nsenter` and `setpriv` replace themselves by what they start, so the id of the child is the id of the program.
 */
import { spawn, type ChildProcess, type ChildProcessWithoutNullStreams } from 'node:child_process';
import { within } from './wait.ts';

export interface Finished {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly input?: string;
  /** Milliseconds after which the program is killed and the call fails; default 30 000. */
  readonly timeout?: number;
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
}

export interface SpawnOptions extends Pick<RunOptions, 'env' | 'cwd'> {
  /** Gets standard output as the bytes it is; nothing of it is kept. */
  readonly takeBytes?: (part: Buffer) => void;
}

/** Output kept of one stream of a process, in characters; what is older is forgotten. */
const KEEP = 8 * 1024 * 1024;

/** Live children of this test process: ended at its exit, whatever the reason. */
const children = new Set<ChildProcess>();

process.on('exit', () => {
  for (const child of children) killGroup(child, 'SIGKILL');
});

function killGroup(child: ChildProcess, signal: NodeJS.Signals): void {
  if (child.pid === undefined) return;
  try {
    process.kill(-child.pid, signal);
  } catch {
    // The group is gone already.
  }
}

/** One running program. */
export class Running {
  readonly pid: number;
  readonly label: string;
  readonly child: ChildProcessWithoutNullStreams;
  /** Settles when the program has ended and its output is complete. */
  readonly ended: Promise<Finished>;
  stdout = '';
  stderr = '';
  #finished: Finished | undefined;

  constructor(command: readonly string[], options: SpawnOptions = {}) {
    const [file, ...args] = command;
    if (file === undefined) throw new Error('no command');
    this.label = command.join(' ');
    this.child = spawn(file, args, {
      detached: true,
      stdio: 'pipe',
      env: { ...process.env, ...options.env },
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    });
    this.pid = this.child.pid ?? -1;
    children.add(this.child);
    if (options.takeBytes !== undefined) this.child.stdout.on('data', options.takeBytes);
    else {
      this.child.stdout.setEncoding('utf8').on('data', (text: string) => {
        this.stdout = (this.stdout + text).slice(-KEEP);
      });
    }
    this.child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.stderr = (this.stderr + text).slice(-KEEP);
    });
    // A program that ends before it read its input is not an error of ours.
    this.child.stdin.on('error', () => undefined);
    this.ended = this.#watch();
    // Whoever cares awaits it; nobody has to.
    this.ended.catch(() => undefined);
  }

  get running(): boolean {
    return this.#finished === undefined;
  }

  #watch(): Promise<Finished> {
    const { promise, resolve, reject } = Promise.withResolvers<Finished>();
    this.child.once('error', (error) => {
      children.delete(this.child);
      reject(new Error(`cannot start ${this.label}: ${error.message}`));
    });
    this.child.once('close', (code, signal) => {
      children.delete(this.child);
      this.#finished = { code, signal, stdout: this.stdout, stderr: this.stderr };
      resolve(this.#finished);
    });
    return promise;
  }

  /** Sends a signal to the program alone. */
  signal(signal: NodeJS.Signals): void {
    if (this.running) this.child.kill(signal);
  }

  /** The end of the program with exit code 0, or an error with what it said. */
  async done(timeout = 30_000): Promise<Finished> {
    const finished = await within(this.ended, timeout, this.label).catch((error: unknown) => {
      killGroup(this.child, 'SIGKILL');
      throw new Error(`${String(error)}\n${this.describe()}`);
    });
    if (finished.code !== 0) throw new Error(this.describe());
    return finished;
  }

  /** Ends the program and its group: SIGTERM, after `patience` milliseconds SIGKILL. */
  async stop(patience = 2_000): Promise<Finished> {
    if (this.#finished !== undefined) {
      // Its children may have stayed behind.
      killGroup(this.child, 'SIGKILL');
      return this.#finished;
    }
    killGroup(this.child, 'SIGTERM');
    try {
      return await within(this.ended, patience, this.label);
    } catch {
      killGroup(this.child, 'SIGKILL');
      return await within(this.ended, 5_000, `SIGKILL of ${this.label}`);
    }
  }

  describe(): string {
    const state =
      this.#finished === undefined
        ? `running as ${this.pid}`
        : `ended with ${this.#finished.signal ?? this.#finished.code}`;
    return `${this.label}: ${state}\n--- stdout\n${this.stdout.slice(-4000)}\n--- stderr\n${this.stderr.slice(-4000)}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}

/** Runs a program to its end and returns what it said, whatever its exit code. */
export async function tryRun(command: readonly string[], options: RunOptions = {}): Promise<Finished> {
  const running = new Running(command, options);
  running.child.stdin.end(options.input ?? '');
  try {
    return await within(running.ended, options.timeout ?? 30_000, running.label);
  } catch (error) {
    await running.stop(0);
    throw new Error(`${String(error)}\n${running.describe()}`, { cause: error });
  }
}

/** Runs a program to its end; its exit code must be 0. Returns what it wrote to stdout. */
export async function run(command: readonly string[], options: RunOptions = {}): Promise<string> {
  const finished = await tryRun(command, options);
  if (finished.code === 0) return finished.stdout;
  throw new Error(`${command.join(' ')}: exit code ${finished.code}\n${finished.stderr}${finished.stdout}`);
}
