/** What benchmarks share: endpoints that obey, a spliced connection, medians, and results as files. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { cpus, release } from 'node:os';
import type { Gateway } from '../test/support/gateway.ts';
import type { Running } from '../test/support/process.ts';
import type { Place, Topology } from '../test/support/topology.ts';
import { ADDRESSES, PROJECT } from '../test/support/topology.ts';
import { waitFor } from '../test/support/wait.ts';

export const GUEST = '100.64.0.1';

/** `bench/endpoint.ts` in one place of a topology. */
export class Endpoint {
  readonly #running: Running;
  #answers = 0;

  constructor(topology: Topology, place: Place) {
    this.#running = topology.spawnNode(place, 'bench/endpoint.ts');
  }

  /** Gives a command and returns at once; `answer` of the result waits for its end. */
  begin(command: object): Promise<Record<string, number>> {
    const index = this.#answers++;
    this.#running.child.stdin.write(`${JSON.stringify(command)}\n`);
    return this.#answer(index);
  }

  async #answer(index: number): Promise<Record<string, number>> {
    let line: string | undefined;
    await waitFor(
      () => {
        const lines = this.#running.stdout.split('\n');
        line = index < lines.length - 1 ? lines[index] : undefined;
        return line !== undefined || !this.#running.running;
      },
      { timeout: 120_000, interval: 2, what: 'an endpoint to answer', explain: () => this.#running.describe() },
    );
    const answer = JSON.parse(line ?? '{"error":"the endpoint ended"}') as Record<string, number> & { error?: string };
    if (answer.error !== undefined) throw new Error(`${answer.error}\n${this.#running.describe()}`);
    return answer;
  }
}

async function verb(gateway: Gateway, path: string, body: object): Promise<Record<string, unknown>> {
  const { status, body: answer } = await gateway.post(path, body);
  if (status >= 300) throw new Error(`${path}: ${status} ${JSON.stringify(answer)}`);
  return answer as Record<string, unknown>;
}

/** A connection of the peer that the kernel of host A accepted, through kernel NAT or a gateway. */
export async function connect(host: Endpoint, peer: Endpoint, port: number): Promise<number> {
  await host.begin({ do: 'listen', address: GUEST, port });
  const accepted = host.begin({ do: 'accept' });
  await peer.begin({ do: 'connect', to: [ADDRESSES.outside, port] });
  return (await accepted)['port'] ?? 0;
}

/** Registers a guest on host A whose port is published under its own number. */
export async function register(gateway: Gateway, id: string, address: string, port: number): Promise<void> {
  await verb(gateway, '/v1/guests', {
    id,
    name: `bench-${port}`,
    address,
    leg: 'a',
    publish: [{ proto: 'tcp', outsidePort: port, guestPort: port }],
  });
}

/** Moves an idle connection from host A to host B, as an agent would. */
export async function splice(
  gateway: Gateway,
  id: string,
  from: Endpoint,
  to: Endpoint,
  port: number,
  peerPort: number,
): Promise<void> {
  const guest = `/v1/guests/${id}`;
  const local = { address: GUEST, port };
  const remote = { address: ADDRESSES.peer, port: peerPort };
  await verb(gateway, `${guest}/freeze`, { epoch: 1 });
  const exported = await verb(gateway, `${guest}/export`, {
    epoch: 1,
    sockets: [{ local, remote, received: 0, written: 0, lingering: false }],
  });
  if (exported['settled'] !== true) throw new Error(`an idle connection did not settle: ${JSON.stringify(exported)}`);
  await verb(gateway, `${guest}/attach`, { epoch: 2, leg: 'b' });
  await to.begin({ do: 'connect', from: [GUEST, port], to: [remote.address, remote.port] });
  await verb(gateway, `${guest}/commit`, { epoch: 2 });
  await from.begin({ do: 'reset' });
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1
    ? (sorted[middle] ?? NaN)
    : ((sorted[middle - 1] ?? NaN) + (sorted[middle] ?? NaN)) / 2;
}

/** The smallest value that a share `p` of all does not exceed. */
export function percentile(values: readonly number[], p: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(sorted.length * p) - 1))] ?? NaN;
}

/**
 * KEDGE_BENCH=quick: every benchmark of connections once and small, to see that it works; no figure of it says anything.
 * KEDGE_BENCH_RESULTS: a directory in the place of bench/results.
 */
export const QUICK = process.env['KEDGE_BENCH'] === 'quick';
export const RESULTS = process.env['KEDGE_BENCH_RESULTS'] ?? join(PROJECT, 'bench', 'results');

export type Result = {
  readonly name: string;
  readonly unit: string;
  readonly runs: number;
  /** Median of our runs. */
  readonly ours: number;
  /** Median of the baseline's runs, taken in turns with ours. */
  readonly baseline: number;
  readonly baselineName: string;
  /** ours / baseline. */
  readonly ratio: number;
  readonly [detail: string]: unknown;
};

/** Makes a result of both series; `details` are written beside it. */
export function result(
  about: Pick<Result, 'name' | 'unit' | 'baselineName'>,
  ours: readonly number[],
  baseline: readonly number[],
  details: Readonly<Record<string, unknown>> = {},
): Result {
  const [a, b] = [median(ours), median(baseline)];
  const round = (value: number) => Number(value.toPrecision(4));
  return { ...about, runs: ours.length, ours: round(a), baseline: round(b), ratio: round(a / b), ...details };
}

/** Writes `NAME.json` and prints one line. */
export async function report(file: string, measured: Result): Promise<void> {
  await mkdir(RESULTS, { recursive: true });
  const machine = `${cpus().length} × ${cpus()[0]?.model.trim() ?? 'unknown'}, Linux ${release()}, Node ${process.version}`;
  await writeFile(join(RESULTS, `${file}.json`), `${JSON.stringify({ ...measured, machine }, null, 2)}\n`);
  const { name, ours, unit, baseline, baselineName, ratio, runs } = measured;
  process.stdout.write(
    `${name}: ${ours} ${unit}; ${baselineName} ${baseline} ${unit}; ratio ${ratio} (${runs} runs)\n`,
  );
}
