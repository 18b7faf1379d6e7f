/**
 * Two hosts with an agent each, the gateway before them, and guests that live there: what most end-to-end tests begin with.
 *
 *     await using hosts = await Hosts.up();
 *     const guest = await hosts.run('stream', { publish: true });
 *     const download = curl(...port guest.port...);
 *     await guest.move();
 */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { EngineName } from '../../src/engine/engines.ts';
import { Agent, type AgentOptions } from './agent.ts';
import { Capture, TAPS } from './capture.ts';
import { AgentClient } from '../../src/migrate/client.ts';
import type { MoveResult, RunSpec } from '../../src/migrate/protocol.ts';
import { Gateway, type Flow, type FlowDetail, type GatewayOptions } from './gateway.ts';
import { V8, engineAfter, type Route } from './routes.ts';
import { HARM, difference, pick, readCounters, type Counters } from './nstat.ts';
import { PROJECT, Topology, type TopologyOptions } from './topology.ts';
import { waitFor, type WaitOptions } from './wait.ts';

/** Moves and the start of a guest on a machine that is busy with other things, milliseconds. */
export const PATIENCE = 60_000;

export type HostName = 'a' | 'b';

export interface RunOptions {
  readonly name?: string;
  /** The guest listens: it gets a port as its first argument, published under the same number. True: one that is free. */
  readonly publish?: boolean | number;
  readonly args?: readonly string[];
  readonly on?: HostName;
  /** What executes it, here and after each move; V8 everywhere by default. */
  readonly route?: Route;
}

export interface HostsOptions extends TopologyOptions {
  readonly gateway?: GatewayOptions;
}

const FIRST_PORT = 7000;

export class Hosts {
  readonly topology: Topology;
  readonly gateway: Gateway;
  readonly agents: Record<HostName, Agent>;
  /** The agents without the command line between: for many calls a second. */
  readonly clients: Readonly<Record<HostName, AgentClient>>;
  /** How each of the peer's connections began and ended. */
  readonly #ends: Capture;
  #before: Counters;
  #guests = 0;

  private constructor(
    topology: Topology,
    gateway: Gateway,
    agents: Record<HostName, Agent>,
    ends: Capture,
    before: Counters,
  ) {
    this.topology = topology;
    this.#ends = ends;
    this.gateway = gateway;
    this.agents = agents;
    this.clients = { a: new AgentClient(agents.a.socket), b: new AgentClient(agents.b.socket) };
    this.#before = before;
  }

  static async up(options: HostsOptions = {}): Promise<Hosts> {
    const topology = await Topology.up(options);
    try {
      const gateway = await Gateway.start(topology, options.gateway);
      const [a, b, ends] = await Promise.all([
        Agent.start(gateway, 'a'),
        Agent.start(gateway, 'b'),
        // All devices, since the kernel counts what its own programs say to each other, too.
        Capture.start(
          topology,
          { ...TAPS.peer, device: 'any' },
          { filter: 'tcp[tcpflags] & (tcp-syn | tcp-fin | tcp-rst) != 0' },
        ),
      ]);
      return new Hosts(topology, gateway, { a, b }, ends, await readCounters(topology, 'peer'));
    } catch (error) {
      await topology.down();
      throw error;
    }
  }

  /** Starts a guest as `kedge run --detach` does: an example by its name, or a module by its path. */
  async run(module: string, options: RunOptions = {}): Promise<MovingGuest> {
    const { name = `guest-${this.#guests}`, publish = false, args = [], on = 'a', route = V8 } = options;
    const number = this.#guests++;
    const port = typeof publish === 'number' ? publish : FIRST_PORT + number;
    const listens = publish !== false;
    const file = module.endsWith('.wasm') ? module : join(PROJECT, 'build', 'examples', `${module}.wasm`);
    const spec: RunSpec = {
      name,
      engine: route.engines[0],
      publish: listens ? [{ proto: 'tcp', outsidePort: port, guestPort: port }] : [],
      dirs: [],
      env: {},
      moduleName: basename(file),
      args: [...(listens ? [String(port)] : []), ...args],
    };
    await this.clients[on].run(spec, await readFile(file));
    const guest = new MovingGuest(this, name, port, on, route);
    if (listens) await guest.hasSaid(/listening|ready/);
    return guest;
  }

  /** Ends the agent of a host, if it runs still, and starts another with its state and socket. */
  async restartAgent(on: HostName, options: Pick<AgentOptions, 'env'> = {}): Promise<Agent> {
    const { stateDirectory, running } = this.agents[on];
    await running.stop(20_000);
    this.agents[on] = await Agent.start(this.gateway, on, { stateDirectory, ...options });
    return this.agents[on];
  }

  /**
   * The peer's kernel takes at most a megabyte ahead of a program that reads slowly, so that a transfer at a pace is not over in its
   * buffers while the program still has most of it to read.
   */
  async smallBuffersAtPeer(): Promise<void> {
    await this.topology.run('peer', ['sysctl', '-q', '-w', 'net.ipv4.tcp_rmem=4096 131072 1048576']);
  }

  /** What the peer's kernel counted since the last call, or the start. */
  async counted(): Promise<Record<string, number>> {
    const now = await readCounters(this.topology, 'peer');
    const counted = difference(this.#before, now);
    this.#before = now;
    return counted;
  }

  /**
   * Of what was counted since the last call that which tells of a harmed connection; {} is what a test wants. Else it also has how the
   * connections with a RST began and ended.
   */
  async harm(): Promise<Record<string, unknown>> {
    const harm = pick(await this.counted(), HARM);
    return Object.keys(harm).length === 0 ? harm : { ...harm, packets: await this.#withRst() };
  }

  async #withRst(): Promise<string[]> {
    const rows = (await this.topology.run('peer', ['tcpdump', '-nn', '-tt', '-S', '-r', this.#ends.file])).split('\n');
    /** `10.0.0.1.80 > 10.0.0.2.4000` in one order for both directions. */
    const connection = (row: string): string => {
      const [, from = '', to = ''] = / IP (\S+) > (\S+): /.exec(row) ?? [];
      return [from, to].toSorted().join(' ');
    };
    const reset = new Set(rows.filter((row) => /Flags \[[^\]]*R/.test(row)).map(connection));
    return rows.filter((row) => reset.has(connection(row)));
  }

  /** What the peer's kernel has counted since it is up. */
  async peerCounters(): Promise<Counters> {
    return await readCounters(this.topology, 'peer');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.clients.a.close();
    this.clients.b.close();
    await this.topology.down();
  }
}

export interface Move {
  /** Milliseconds since 1970: before the command, and when it had returned. */
  readonly from: number;
  readonly to: number;
}

export class MovingGuest {
  readonly name: string;
  /** Inside and outside, where the guest listens. */
  readonly port: number;
  readonly hosts: Hosts;
  readonly moves: Move[] = [];
  readonly route: Route;
  place: HostName;

  constructor(hosts: Hosts, name: string, port: number, place: HostName, route: Route) {
    this.hosts = hosts;
    this.name = name;
    this.port = port;
    this.place = place;
    this.route = route;
  }

  get #agent(): Agent {
    return this.hosts.agents[this.place];
  }

  get #other(): HostName {
    return this.place === 'a' ? 'b' : 'a';
  }

  /** The engine after the move that is being made, unless it stays the same. */
  get #next(): { readonly engine?: EngineName } {
    return this.route.engines.length === 1 ? {} : { engine: engineAfter(this.route, this.moves.length + 1) };
  }

  /** Moves it to the other host with `kedge migrate`, and to the next engine of its route. */
  async move(): Promise<void> {
    const { engine } = this.#next;
    await this.#timed(async () => {
      const to = this.hosts.agents[this.#other].socket;
      const how = engine === undefined ? [] : ['--engine', engine];
      await this.#agent.cli(['migrate', this.name, '--to', to, ...how], { timeout: PATIENCE });
    });
    this.place = this.#other;
  }

  /** As {@link move}, through the agent's own protocol. */
  async moveQuickly(): Promise<MoveResult> {
    const client = this.hosts.clients[this.place];
    const how = this.#next;
    const result = await this.#timed(() => client.migrate(this.name, this.hosts.agents[this.#other].socket, how));
    this.place = this.#other;
    return result;
  }

  /** Puts it into an image on disk with `kedge checkpoint`; returns the file. */
  async checkpoint(): Promise<string> {
    const file = join(this.#agent.stateDirectory, `${this.name}-${this.moves.length}.kedge`);
    await this.#timed(() => this.#agent.cli(['checkpoint', this.name, '-o', file], { timeout: PATIENCE }));
    return file;
  }

  /** Continues it with `kedge restore` on the other host, or where it is told, on the next engine of its route. */
  async restore(file: string, on: HostName = this.#other): Promise<void> {
    const how = this.route.engines.length === 1 ? [] : ['--engine', engineAfter(this.route, this.moves.length)];
    await this.hosts.agents[on].cli(['restore', '--detach', ...how, file], { timeout: PATIENCE });
    this.place = on;
  }

  /** Stays in an image while something happens, then goes on, on the other host. */
  async frozenDuring<T>(work: () => Promise<T>): Promise<T> {
    const file = await this.checkpoint();
    const result = await work();
    await this.restore(file);
    return result;
  }

  async #timed<T>(work: () => Promise<T>): Promise<T> {
    const from = Date.now();
    const result = await work();
    this.moves.push({ from, to: Date.now() });
    return result;
  }

  /** It is executed by what its route says. */
  async isOnItsEngine(): Promise<void> {
    const guests = await this.hosts.clients[this.place].list();
    assert.equal(guests.find(({ name }) => name === this.name)?.engine, engineAfter(this.route, this.moves.length));
  }

  /** What it printed on the host where it is (`kedge logs`). */
  async logs(): Promise<string> {
    const parts: Uint8Array[] = [];
    for await (const { data } of this.hosts.clients[this.place].logs(this.name, { follow: false })) parts.push(data);
    return Buffer.concat(parts).toString();
  }

  /** Waits for words it prints where it is. */
  async hasSaid(pattern: RegExp, options: WaitOptions = {}): Promise<RegExpExecArray> {
    let said = '';
    return await waitFor(
      async () => {
        said = await this.logs();
        return pattern.exec(said);
      },
      {
        what: `${this.name} to say ${String(pattern)}`,
        timeout: PATIENCE,
        interval: 20,
        explain: () => said,
        ...options,
      },
    );
  }

  /** Waits until its code has ended; returns the exit code. */
  async exitCode(): Promise<number> {
    const end = await this.hosts.clients[this.place].wait(this.name);
    if ('exitCode' in end) return end.exitCode;
    throw new Error(`${this.name} did not end by itself: ${end.gone}\n${await this.logs()}`);
  }

  /** Its flows as the gateway has them. */
  async flows(): Promise<Flow[]> {
    return (await this.hosts.gateway.flows()).filter(({ guestName }) => guestName === this.name);
  }

  /** Its only flow, with all numbers. */
  async flow(): Promise<FlowDetail> {
    const flow = await waitFor(async () => (await this.flows())[0], { what: `a flow of ${this.name}` });
    return await this.hosts.gateway.flow(flow.id);
  }

  /** Waits until its only flow is as wanted. */
  async untilFlow(condition: (flow: FlowDetail) => boolean, options: WaitOptions = {}): Promise<FlowDetail> {
    let last: FlowDetail | undefined;
    return await waitFor(
      async () => {
        last = await this.flow();
        return condition(last) ? last : undefined;
      },
      { interval: 30, timeout: 30_000, what: String(condition), explain: () => JSON.stringify(last), ...options },
    );
  }

  /** Waits until something is no longer so. */
  async untilNo(condition: () => Promise<boolean>): Promise<void> {
    await waitFor(async () => !(await condition()), {
      what: `no more ${String(condition)}`,
      timeout: 30_000,
      explain: async () => JSON.stringify(await this.flows()),
    });
  }

  async stop(): Promise<void> {
    await this.#agent.cli(['stop', this.name]);
  }
}
