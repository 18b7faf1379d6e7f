/**
 * The two-hosts topology of netns-scripts/ as a disposable value:
 *
 *     await using topology = await Topology.up();
 *
 * Names are unique to this process, so runs do not meet. Everything started through it is ended, and the namespaces are removed,
 * when it is disposed, when the process exits, and (for a process that was killed) by the next run on the machine.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, chmodSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { randomBytes } from 'node:crypto';
import { Running, run, tryRun, type Finished, type RunOptions, type SpawnOptions } from './process.ts';

export type Place = 'peer' | 'gw' | 'a' | 'b';

export const PLACES: readonly Place[] = ['peer', 'gw', 'a', 'b'];

/** Root of the project, absolute. */
export const PROJECT = join(import.meta.dirname, '..', '..');

/** The wrapper that finds the right Node. */
export const NODE = join(PROJECT, 'bin', 'node');

const SCRIPT = join(PROJECT, 'netns-scripts', 'two-hosts.sh');

/** `kt<pid of the test process>-<random>`, so that what a killed process left can be told from what is in use. */
const NAME = /^(kt(\d+)-[0-9a-f]+)-(?:peer|gw|a|b)$/;

/** What `two-hosts.sh env` prints. */
export const ADDRESSES = {
  peer: '10.77.1.2',
  gwPeer: '10.77.1.1',
  outside: '10.77.1.10',
  a: '10.77.2.2',
  gwA: '10.77.2.1',
  b: '10.77.3.2',
  gwB: '10.77.3.1',
  pool: '100.64.0.0/10',
} as const;

export interface TopologyOptions {
  /** MTU of every link, bytes; default 1500. */
  readonly mtu?: number;
  /** Off: packets on the wire are single frames with whole checksums (needed where checksums are verified). Default on. */
  readonly offload?: 'on' | 'off';
  /** CPUs that receive packets: one, which keeps them in order, or all, which is faster. Default one. */
  readonly rps?: 'one' | 'all';
}

export class Topology {
  readonly name: string;
  /** A directory of this run for sockets, logs and captures; writable for everybody, removed at the end. */
  readonly directory: string;
  readonly #running: Running[] = [];
  readonly #atExit: () => void;
  #down = false;

  /** Sets nothing up; use {@link Topology.up}. */
  private constructor() {
    this.name = `kt${process.pid}-${randomBytes(3).toString('hex')}`;
    this.directory = mkdtempSync(join(tmpdir(), `${this.name}-`));
    // Unprivileged programs put their sockets and state here.
    chmodSync(this.directory, 0o1777);
    this.#atExit = () => {
      spawnSync(SCRIPT, ['down', this.name], { stdio: 'ignore', timeout: 20_000 });
      rmSync(this.directory, { recursive: true, force: true });
    };
  }

  static async up(options: TopologyOptions = {}): Promise<Topology> {
    endOnSignals();
    await sweep();
    const topology = new Topology();
    process.on('exit', topology.#atExit);
    try {
      const { mtu = 1500, rps = 'one' } = options;
      await run([SCRIPT, 'up', topology.name, '--mtu', String(mtu), '--rps', rps]);
      if (options.offload === 'off') await topology.script('offload', 'off');
    } catch (error) {
      // Why it is not up says more than why it is not down.
      await topology.down().catch(() => undefined);
      throw error;
    }
    return topology;
  }

  namespace(place: Place): string {
    return `${this.name}-${place}`;
  }

  path(...parts: string[]): string {
    return join(this.directory, ...parts);
  }

  /** The command as it is run in a place: what all other methods here are made of. */
  command(place: Place, command: readonly string[]): string[] {
    // Not `ip netns exec`, which needs / to be a mount point: in a chroot it is none.
    return ['nsenter', `--net=/run/netns/${this.namespace(place)}`, '--', ...command];
  }

  /** Runs a command of two-hosts.sh on this topology. */
  async script(command: string, ...args: string[]): Promise<void> {
    await run([SCRIPT, command, this.name, ...args]);
  }

  /** Runs a program to its end; fails when its exit code is not 0. Returns its stdout. */
  async run(place: Place, command: readonly string[], options: RunOptions = {}): Promise<string> {
    return await run(this.command(place, command), options);
  }

  /** As {@link run}, whatever the exit code. */
  async tryRun(place: Place, command: readonly string[], options: RunOptions = {}): Promise<Finished> {
    return await tryRun(this.command(place, command), options);
  }

  /** Starts a program that is ended with the topology at the latest. */
  spawn(place: Place, command: readonly string[], options: SpawnOptions = {}): Running {
    if (this.#down) throw new Error(`${this.name} is down`);
    const running = new Running(this.command(place, command), options);
    this.#running.push(running);
    return running;
  }

  /** Starts a TypeScript file with the project's Node. */
  spawnNode(place: Place, file: string, args: readonly string[] = []): Running {
    return this.spawn(place, [NODE, join(PROJECT, file), ...args]);
  }

  /** The peer loses this much in both directions, e.g. '1%'. */
  async lossAtPeer(percent: string): Promise<void> {
    await this.script('loss', 'peer', percent);
  }

  async noLossAtPeer(): Promise<void> {
    await this.script('noloss', 'peer');
  }

  /** Ends all that runs and removes all that was made. Reports what could not be, at the end. */
  async down(): Promise<void> {
    if (this.#down) return;
    this.#down = true;
    // Last started, first ended: a server outlives its clients.
    const failures: unknown[] = [];
    for (const running of this.#running.toReversed()) {
      await running.stop().catch((error: unknown) => failures.push(error));
    }
    await run([SCRIPT, 'down', this.name]).catch((error: unknown) => failures.push(error));
    rmSync(this.directory, { recursive: true, force: true });
    process.off('exit', this.#atExit);
    if (failures.length > 0) throw new AggregateError(failures, `${this.name} was not taken down cleanly`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.down();
  }
}

/** Names of the topologies whose namespaces exist now, with the process each belongs to. */
export async function topologiesUp(): Promise<Map<string, number>> {
  const names = new Map<string, number>();
  for (const entry of await readdir('/run/netns').catch(() => [])) {
    const match = NAME.exec(entry);
    if (match?.[1] !== undefined) names.set(match[1], Number(match[2]));
  }
  return names;
}

/** Removes topologies whose test process was killed before it could. */
async function sweep(): Promise<void> {
  for (const [name, pid] of await topologiesUp()) {
    if (pid !== process.pid && !isAlive(pid)) await run([SCRIPT, 'down', name]);
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

let signalsHandled = false;

/** A test runner that gives up sends a signal, and by default a process dies of it without its exit handlers. */
function endOnSignals(): void {
  if (signalsHandled) return;
  signalsHandled = true;
  for (const [signal, code] of [
    ['SIGINT', 130],
    ['SIGTERM', 143],
    ['SIGHUP', 129],
  ] as const) {
    process.on(signal, () => process.exit(code));
  }
}
