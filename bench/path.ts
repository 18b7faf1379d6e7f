/**
 * Throughput and round-trip time of one spliced TCP stream at MTU 1500, against the kernel's NAT in the same topology and the same
 * run, the two in turns. The ends are the same program on kernel sockets in both cases, so that only the middle differs.
 */
import { randomUUID } from 'node:crypto';
import { Gateway } from '../test/support/gateway.ts';
import { Topology } from '../test/support/topology.ts';
import { Endpoint, GUEST, QUICK, connect, median, register, report, result, splice } from './harness.ts';

const RUNS = QUICK ? 1 : 7;
const BYTES = QUICK ? 3e7 : 3e9;
const MESSAGES = QUICK ? 500 : 20_000;

type Pair = { readonly host: Endpoint; readonly peer: Endpoint };

async function gigabits({ host, peer }: Pair): Promise<number> {
  const sunk = peer.begin({ do: 'sink', bytes: BYTES });
  const { seconds } = await host.begin({ do: 'send', bytes: BYTES });
  await sunk;
  return (BYTES * 8) / (seconds ?? NaN) / 1e9;
}

async function roundTrip({ host, peer }: Pair): Promise<number> {
  const echoed = host.begin({ do: 'echo', messages: MESSAGES });
  const { p50 } = await peer.begin({ do: 'ping', messages: MESSAGES });
  await echoed;
  return p50 ?? NaN;
}

async function throughKernel(topology: Topology, port: number): Promise<Pair> {
  const pair = { host: new Endpoint(topology, 'a'), peer: new Endpoint(topology, 'peer') };
  await connect(pair.host, pair.peer, port);
  return pair;
}

async function throughSplice(topology: Topology, gateway: Gateway, port: number): Promise<Pair> {
  const [a, b, peer] = [new Endpoint(topology, 'a'), new Endpoint(topology, 'b'), new Endpoint(topology, 'peer')];
  const id = randomUUID();
  await register(gateway, id, GUEST, port);
  const peerPort = await connect(a, peer, port);
  await splice(gateway, id, a, b, port, peerPort);
  return { host: b, peer };
}

/** Both set-ups side by side, and each measure taken in turns. */
export async function pathBenchmarks(): Promise<void> {
  await using kernel = await Topology.up({ rps: 'all' });
  await kernel.script('kernel-nat', GUEST, 'a');
  await using ours = await Topology.up({ rps: 'all' });
  const gateway = await Gateway.start(ours);
  const plain = await throughKernel(kernel, 5201);
  const spliced = await throughSplice(ours, gateway, 5201);

  const series = { ours: [] as number[], kernel: [] as number[] };
  const trips = { ours: [] as number[], kernel: [] as number[] };
  for (let run = 0; run < RUNS; run++) {
    series.kernel.push(await gigabits(plain));
    series.ours.push(await gigabits(spliced));
    trips.kernel.push(await roundTrip(plain));
    trips.ours.push(await roundTrip(spliced));
  }
  const baselineName = 'kernel NAT (nftables)';
  await report(
    'throughput',
    result({ name: 'one spliced TCP stream, MTU 1500', unit: 'Gbit/s', baselineName }, series.ours, series.kernel, {
      bytes: BYTES,
      series,
    }),
  );
  await report(
    'latency',
    result(
      { name: 'round trip of one byte over a spliced connection, median', unit: 'µs', baselineName },
      trips.ours,
      trips.kernel,
      {
        addedMicroseconds: Number((median(trips.ours) - median(trips.kernel)).toFixed(1)),
        messages: MESSAGES,
        series: trips,
      },
    ),
  );
}

if (import.meta.main) await pathBenchmarks();
