/**
 * Blackout of one connection under `kedge migrate`, as the peer sees it: the longest time in its capture without a byte from the
 * guest, around each move. The peer sends eight bytes every millisecond and the guest sends them back, so that any standstill shows.
 * Baseline: the longest such time in a stretch of the same run, as long as a move takes, in which nothing moves.
 */
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { Agent } from '../test/support/agent.ts';
import { Capture, TAPS } from '../test/support/capture.ts';
import { longestGap } from '../test/support/checker.ts';
import { readTcp } from '../test/support/fields.ts';
import { Gateway } from '../test/support/gateway.ts';
import { ADDRESSES, PROJECT, Topology } from '../test/support/topology.ts';
import { waitFor } from '../test/support/wait.ts';
import { percentile, QUICK, report, result } from './harness.ts';

const MOVES = QUICK ? 2 : 40;
/** The first moves compile what is not compiled yet on either host. */
const WARM = QUICK ? 1 : 4;
const PORT = 7000;
/**
 * Undisturbed time between two moves, milliseconds; the baseline is taken from its middle. An agent that has just given a guest away or
 * taken one in makes the next worker ready.
 */
const BETWEEN = 1000;

type Stretch = { readonly from: number; readonly to: number };

export async function blackoutBenchmark(): Promise<void> {
  await using topology = await Topology.up({ rps: 'all' });
  const gateway = await Gateway.start(topology);
  const [a, b] = await Promise.all([Agent.start(gateway, 'a'), Agent.start(gateway, 'b')]);
  const module = join(PROJECT, 'build', 'examples', 'stream.wasm');
  await a.cli(['run', '--detach', '--name', 'bench', '--publish', String(PORT), module, String(PORT)]);
  const peer = topology.spawnNode('peer', 'bench/echo-peer.ts', [ADDRESSES.outside, String(PORT)]);
  await waitFor(() => peer.stdout.includes('connected'), {
    what: 'the peer to connect',
    explain: () => peer.describe(),
  });
  const capture = await Capture.start(topology, TAPS.peer, { filter: `tcp port ${PORT}` });

  const moves: Stretch[] = [];
  const quiet: Stretch[] = [];
  let [from, to] = [a, b];
  for (let n = 0; n < WARM + MOVES; n++) {
    const start = Date.now();
    await pause(BETWEEN);
    if (n >= WARM) quiet.push({ from: start + BETWEEN / 4, to: Date.now() - 20 });
    const begun = Date.now();
    await from.cli(['migrate', 'bench', '--to', to.socket]);
    if (n >= WARM) moves.push({ from: begun, to: Date.now() + 20 });
    [from, to] = [to, from];
  }
  peer.child.stdin.end();
  const { stdout } = await peer.done();
  const [, sent, received] = /done (\d+) (\d+)/.exec(stdout) ?? [];
  if (sent === undefined || sent !== received)
    throw new Error(`sent ${sent}, received ${received}\n${peer.describe()}`);

  const rows = (await readTcp(await capture.stop())).filter(({ srcPort, len }) => srcPort === PORT && len > 0);
  const ours = moves.map((stretch) => longestGap(rows, stretch).ms);
  const baseline = quiet.map((stretch) => longestGap(rows, stretch).ms);
  await report(
    'blackout',
    result(
      {
        name: 'blackout of one connection under kedge migrate, p50',
        unit: 'ms',
        baselineName: 'longest gap without a move',
      },
      ours,
      baseline,
      { p99: percentile(ours, 0.99), max: Math.max(...ours), baselineP99: percentile(baseline, 0.99), series: ours },
    ),
  );
}

if (import.meta.main) await blackoutBenchmark();
