/**
 * The agent of a host: `kedge agent` in a host's place, without privilege, and `kedge` commands against it.
 */
import { AgentClient } from '../../src/migrate/client.ts';
import type { Finished, Running, RunOptions } from './process.ts';
import type { Gateway } from './gateway.ts';
import { join } from 'node:path';
import { PROJECT, type Place, type Topology } from './topology.ts';
import { privateDirectory, unprivileged } from './unprivileged.ts';
import { waitFor } from './wait.ts';

const KEDGE = join(PROJECT, 'bin', 'kedge');

const START_MS = 20_000;

export interface AgentOptions {
  /** More arguments of `kedge agent`. */
  readonly extra?: readonly string[];
  /** Of an earlier agent of the host: start again with its state. */
  readonly stateDirectory?: string;
  /** More variables of its environment, e.g. KEDGE_FAULT. */
  readonly env?: Readonly<Record<string, string>>;
}

export class Agent {
  readonly topology: Topology;
  readonly place: Extract<Place, 'a' | 'b'>;
  readonly socket: string;
  readonly stateDirectory: string;
  readonly running: Running;
  readonly #as: readonly string[];

  private constructor(
    topology: Topology,
    place: 'a' | 'b',
    socket: string,
    state: string,
    as: readonly string[],
    args: string[],
    env: Readonly<Record<string, string>>,
  ) {
    this.topology = topology;
    this.place = place;
    this.socket = socket;
    this.stateDirectory = state;
    this.#as = as;
    this.running = topology.spawn(place, [...as, KEDGE, 'agent', ...args], { cwd: topology.directory, env });
  }

  /** Starts the agent of a host and waits until it answers. */
  static async start(gateway: Gateway, place: 'a' | 'b', options: AgentOptions = {}): Promise<Agent> {
    const { topology } = gateway;
    const state = options.stateDirectory ?? (await privateDirectory(topology, `agent-${place}`));
    const socket = join(state, 'agent.sock');
    const args = ['--socket', socket, '--gateway', gateway.socket, '--leg', place, '--state-dir', state];
    args.push(...(options.extra ?? []));
    const agent = new Agent(topology, place, socket, state, await unprivileged(), args, options.env ?? {});
    // Not `kedge ps`, over and over: each takes half a second of a processor, which the agent needs.
    const client = new AgentClient(socket);
    const answers = (): Promise<boolean> =>
      client.list().then(
        () => true,
        () => false,
      );
    await waitFor(async () => !agent.running.running || (await answers()), {
      timeout: START_MS,
      interval: 20,
      what: `the agent of ${place} to answer`,
      explain: () => agent.running.describe(),
    });
    if (!agent.running.running) throw new Error(agent.running.describe());
    return agent;
  }

  /** Runs a command of `kedge` on this host against this agent, e.g. ['ps', '-o', 'json']. Its exit code must be 0. */
  async cli(args: readonly string[], options: RunOptions = {}): Promise<string> {
    return await this.topology.run(this.place, this.#command(args), this.#options(options));
  }

  /** As {@link cli}, whatever the exit code. */
  async tryCli(args: readonly string[], options: RunOptions = {}): Promise<Finished> {
    return await this.topology.tryRun(this.place, this.#command(args), this.#options(options));
  }

  /** As {@link cli}, in the background (`kedge run` without --detach). */
  spawnCli(args: readonly string[]): Running {
    return this.topology.spawn(this.place, this.#command(args), this.#options({}));
  }

  #command(args: readonly string[]): string[] {
    return [...this.#as, KEDGE, ...args];
  }

  #options(options: RunOptions): RunOptions {
    return { cwd: this.topology.directory, ...options, env: { KEDGE_AGENT: this.socket, ...options.env } };
  }

  /** Ends the agent with its guests as a power cut of the host's user space would. */
  async kill(): Promise<void> {
    this.running.signal('SIGKILL');
    await this.running.ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.running.stop(5_000);
  }
}
