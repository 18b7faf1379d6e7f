/**
 * The gateway daemon in the gateway's place of the topology, and two ways to look at it that a user has: its commands, and its
 * admin socket over HTTP. Nothing of Kedge is imported here, so that a test of Kedge's client is a test of the client.
 */
import { randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { request } from 'node:http';
import { join } from 'node:path';
import type { Finished, Running } from './process.ts';
import { ADDRESSES, PROJECT, type Topology } from './topology.ts';
import { waitFor } from './wait.ts';

/** Agents and guests run as this user and group: nobody, nogroup. */
export const NOBODY = 65534;

const GATEWAY = join(PROJECT, 'bin', 'gateway');

const START_MS = 20_000;

export interface GatewayOptions {
  readonly custodyLimitMib?: number;
  readonly maxFlows?: number;
  readonly mtu?: number;
  readonly spinUs?: number;
  readonly fastPath?: 'auto' | 'off' | 'require';
  /** Use the config of an earlier one again (after a crash). */
  readonly configFile?: string;
}

export interface KnownGuest {
  readonly name: string;
  readonly state: string;
  readonly leg: string;
  readonly publish: readonly { readonly outsidePort: number }[];
}

export interface Answer {
  readonly status: number;
  readonly body: unknown;
}

export class Gateway {
  readonly topology: Topology;
  readonly running: Running;
  readonly configFile: string;
  readonly socket: string;

  /** Use {@link Gateway.start}. */
  private constructor(topology: Topology, configFile: string, socket: string) {
    this.topology = topology;
    this.configFile = configFile;
    this.socket = socket;
    this.running = topology.spawn('gw', [GATEWAY, 'run', '--config', configFile]);
  }

  /** Starts the daemon and waits until it answers. */
  static async start(topology: Topology, options: GatewayOptions = {}): Promise<Gateway> {
    const socket = topology.path('gateway.sock');
    const configFile = options.configFile ?? topology.path(`gateway-${randomBytes(3).toString('hex')}.toml`);
    if (options.configFile === undefined) await writeFile(configFile, gatewayConfig(socket, options));
    const gateway = new Gateway(topology, configFile, socket);
    await waitFor(
      async () => {
        if (!gateway.running.running) return true;
        return (await gateway.get('/v1/health')).status === 200;
      },
      { timeout: START_MS, interval: 20, what: 'the gateway to answer', explain: () => gateway.running.describe() },
    );
    if (!gateway.running.running) throw new Error(gateway.running.describe());
    return gateway;
  }

  /** Runs a command of `gateway` against this one, e.g. 'flows', 'list', '-o', 'json'. Its exit code must be 0. */
  async cli(...args: string[]): Promise<string> {
    return await this.topology.run('gw', [GATEWAY, ...args], { env: { KEDGE_GATEWAY: this.socket } });
  }

  /** As {@link cli}, whatever the exit code. */
  async tryCli(...args: string[]): Promise<Finished> {
    return await this.topology.tryRun('gw', [GATEWAY, ...args], { env: { KEDGE_GATEWAY: this.socket } });
  }

  get(path: string): Promise<Answer> {
    return this.#http('GET', path);
  }

  post(path: string, body: object): Promise<Answer> {
    return this.#http('POST', path, body);
  }

  delete(path: string, body: object): Promise<Answer> {
    return this.#http('DELETE', path, body);
  }

  #http(method: string, path: string, body?: object): Promise<Answer> {
    const { promise, resolve, reject } = Promise.withResolvers<Answer>();
    const call = request({ socketPath: this.socket, method, path, agent: false, timeout: 10_000 }, (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (part: string) => (text += part));
      response.on('error', reject);
      response.on('end', () => {
        try {
          resolve({ status: response.statusCode ?? 0, body: JSON.parse(text) as unknown });
        } catch {
          reject(new Error(`${method} ${path} answered no JSON: ${text}`));
        }
      });
    });
    call.on('timeout', () => call.destroy(new Error(`${method} ${path} was not answered`)));
    call.on('error', (error: NodeJS.ErrnoException) => {
      // Why nobody answers is in what the daemon said last.
      if (!this.running.running) error.message += `\n${this.running.describe()}`;
      reject(error);
    });
    if (body === undefined) call.end();
    else call.setHeader('content-type', 'application/json').end(JSON.stringify(body));
    return promise;
  }

  /** All flows as the admin API lists them. */
  async flows(query = ''): Promise<Flow[]> {
    return ((await this.#ok(`/v1/flows${query}`)) as { flows: Flow[] }).flows;
  }

  /** One flow with all its numbers. */
  async flow(id: number): Promise<FlowDetail> {
    return (await this.#ok(`/v1/flows/${id}`)) as FlowDetail;
  }

  async guests(): Promise<KnownGuest[]> {
    return ((await this.#ok('/v1/guests')) as { guests: KnownGuest[] }).guests;
  }

  async status(): Promise<GatewayStatus> {
    return (await this.#ok('/v1/status')) as GatewayStatus;
  }

  /** The one flow whose peer is "address:port"; waits for it. */
  async flowOf(peer: string): Promise<Flow> {
    return await waitFor(async () => (await this.flows()).find((flow) => flow.peer === peer), {
      what: `a flow of ${peer}`,
      explain: async () => JSON.stringify(await this.flows()),
    });
  }

  async #ok(path: string): Promise<unknown> {
    const { status, body } = await this.get(path);
    if (status !== 200) throw new Error(`${path} answered ${status}: ${JSON.stringify(body)}`);
    return body;
  }

  /** TCP sockets of the daemon's process, as `ss` sees them: there must be none, ever. */
  async tcpSockets(): Promise<string[]> {
    const lines = (await this.topology.run('gw', ['ss', '-H', '-tanp'])).split('\n');
    return lines.filter((line) => line.includes(`pid=${this.running.pid},`));
  }

  /** Ends it as a power cut would. */
  async kill(): Promise<void> {
    this.running.signal('SIGKILL');
    await this.running.ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.running.stop(5_000);
  }
}

/** What the tests read of a flow; the API gives more. */
export interface Flow {
  readonly id: number;
  readonly proto: 'tcp' | 'udp';
  readonly state: string;
  readonly guestName: string;
  readonly guest: string;
  readonly outside: string;
  readonly peer: string;
  readonly leg: string;
  readonly epoch: number;
  readonly bytesIn: number;
  readonly bytesOut: number;
  readonly packetsIn: number;
  readonly custodyBytes: number;
  readonly splices: number;
  readonly frozen: boolean;
}

export interface FlowDetail extends Flow {
  readonly delta: number;
  /** Offsets in the two streams; `sndUna` is how far the peer has acknowledged the guest's. */
  readonly sequence: { readonly sndUna: number; readonly sndNxt: number; readonly rcvNxt: number };
}

export interface GatewayStatus {
  readonly pid: number;
  readonly flows: number;
  readonly guests: number;
  readonly custody: { readonly bytes: number; readonly limitBytes: number };
  readonly writeErrors: number;
  readonly drops: Readonly<Record<string, number>>;
}

/** The configuration of a gateway for the topology, as TOML. */
export function gatewayConfig(socket: string, options: GatewayOptions = {}): string {
  const optional = {
    custody_limit_mib: options.custodyLimitMib,
    max_flows: options.maxFlows,
    mtu: options.mtu,
    spin_us: options.spinUs,
    fast_path: options.fastPath === undefined ? undefined : `"${options.fastPath}"`,
  };
  const lines = Object.entries(optional).flatMap(([key, value]) => (value === undefined ? [] : [`${key} = ${value}`]));
  return `socket = "${socket}"
socket_mode = "0660"
socket_group = "${NOBODY}"
pool = "${ADDRESSES.pool}"
${lines.join('\n')}

[outside]
address = "${ADDRESSES.outside}"
device = "up0"

[[leg]]
name = "a"
device = "ha0"
via = "${ADDRESSES.a}"

[[leg]]
name = "b"
device = "hb0"
via = "${ADDRESSES.b}"
`;
}
