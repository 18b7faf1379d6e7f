/**
 * `make demo`: two Wasm guests, a chat bot and a file server, move from host A to host B and back while people use them.
 *
 * What it reports comes from captures at the peer and from the peer's own counters (nstat), never from Kedge's. The blackout of a
 * move is the longest time without a byte from the guest in the peer's capture of that connection around the move, less the longest
 * such time in the part of this run in which nothing moved. Exit code 1 when anything was wrong; `demo/report.json` has the figures, and
 * `demo/peer.pcap` is the capture they are from (headers only).
 */
import { copyFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Agent } from '../test/support/agent.ts';
import { Capture, TAPS } from '../test/support/capture.ts';
import { RST, readTcp } from '../test/support/fields.ts';
import type { TcpRow } from '../test/support/fields.ts';
import { Gateway } from '../test/support/gateway.ts';
import { HARM, difference, pick, readCounters } from '../test/support/nstat.ts';
import { ADDRESSES, PROJECT, Topology } from '../test/support/topology.ts';
import { waitFor } from '../test/support/wait.ts';
import { blackouts } from './blackout.ts';
import { ChatLoad, referencePort } from './chat.ts';
import { DownloadLoad } from './download.ts';
import { drawTopology, say, table } from './screen.ts';

const CHAT_PORT = 7001;
const FILE_PORT = 7000;
const BYTES = 64 * 1024 * 1024;
const SEED = 20_26;
const REPORT = join(PROJECT, 'demo', 'report.json');
const CAPTURE = join('demo', 'peer.pcap');
/** How long each stretch between moves lasts at least, as bytes of the download: at its pace, a second. */
const STRETCH = 1024 * 1024;

type Move = {
  readonly guest: string;
  readonly from: string;
  readonly to: string;
  readonly at: number;
  readonly done: number;
};

async function runGuest(agent: Agent, name: string, port: number, ...args: string[]): Promise<void> {
  const module = join(PROJECT, 'build', 'examples', `${name}.wasm`);
  await agent.cli(['run', '--detach', '--name', name, '--publish', String(port), module, String(port), ...args]);
}

/** Moves a guest with `kedge migrate`, and notes when. */
async function migrate(name: string, from: Agent, to: Agent): Promise<Move> {
  const at = Date.now();
  await from.cli(['migrate', name, '--to', to.socket]);
  const done = Date.now();
  say(`  ${name}: ${from.place.toUpperCase()} → ${to.place.toUpperCase()}`);
  return { guest: name, from: from.place, to: to.place, at, done };
}

/** Packets at the peer to and from one outside port, in order of time, without the chat's second conversation. */
function ofPort(rows: readonly TcpRow[], port: number): TcpRow[] {
  const second = referencePort(port);
  return rows.filter((row) => {
    const ports = new Set([row.srcPort, row.dstPort]);
    return ports.has(port) && !ports.has(second);
  });
}

async function demo(): Promise<boolean> {
  say(drawTopology());
  await using topology = await Topology.up();
  // A peer's kernel takes megabytes ahead of a program that reads slowly: the download would be over before the last move.
  await topology.run('peer', ['sysctl', '-q', '-w', 'net.ipv4.tcp_rmem=4096 32768 65536']);
  const gateway = await Gateway.start(topology);
  const [a, b] = await Promise.all([Agent.start(gateway, 'a'), Agent.start(gateway, 'b')]);
  say('gateway and the agents of host A and B are running (the agents without privilege)');
  await runGuest(a, 'chat', CHAT_PORT);
  await runGuest(a, 'stream', FILE_PORT);
  say(`guests on host A: chat (port ${CHAT_PORT}), stream (port ${FILE_PORT})\n`);

  const before = await readCounters(topology, 'peer');
  const capture = await Capture.start(topology, TAPS.peer, { filter: 'tcp' });
  const chat = new ChatLoad(topology, ADDRESSES.outside, CHAT_PORT);
  await chat.begin();
  const download = new DownloadLoad(
    topology,
    `http://${ADDRESSES.outside}:${FILE_PORT}/stream/${BYTES}/${SEED}`,
    BYTES,
  );
  await download.reached(2 * STRETCH);
  say('$ gateway flows list');
  const listedBefore = await gateway.cli('flows', 'list');
  say(listedBefore);

  say('moving, while bytes flow:');
  const moves: Move[] = [];
  for (const [name, from, to] of [
    ['stream', a, b],
    ['chat', a, b],
    ['stream', b, a],
    ['chat', b, a],
  ] as const) {
    const mark = download.bytes;
    moves.push(await migrate(name, from, to));
    await download.reached(mark + STRETCH);
  }
  say('\n$ gateway flows list');
  const listedAfter = await gateway.cli('flows', 'list');
  say(listedAfter);
  // Both connections went on through every move, or nothing is shown.
  const flows = await gateway.flows();
  const spliced = flows.length === 2 && flows.every(({ state, splices }) => state === 'ESTABLISHED' && splices === 2);
  const sockets = await gateway.tcpSockets();

  download.hurry();
  const [file, talk] = await Promise.all([download.finish(SEED), chat.finish()]);
  await waitFor(async () => (await gateway.flows('?state=ESTABLISHED')).length === 0, {
    what: 'the connections to end',
  });
  await copyFile(await capture.stop(), join(PROJECT, CAPTURE));
  const rows = await readTcp(join(PROJECT, CAPTURE));
  const counted = difference(before, await readCounters(topology, 'peer'));
  const harm = Object.fromEntries(Object.entries(pick(counted, HARM)).filter(([, n]) => n > 0));

  const lines = [
    { name: 'chat over socat', load: talk, rows: ofPort(rows, CHAT_PORT), guest: 'chat' },
    { name: '64 MiB over curl', load: file, rows: ofPort(rows, FILE_PORT), guest: 'stream' },
  ].map(({ name, load, rows: own, guest }) => ({
    connection: name,
    bytes: load.bytes,
    sha256Equal: load.sha256 === load.expected,
    resets: own.filter(({ flags }) => flags & RST).length,
    connections: new Set(own.map(({ srcPort, dstPort }) => srcPort + dstPort)).size,
    blackoutMs: blackouts(
      own,
      ADDRESSES.outside,
      moves.filter((move) => move.guest === guest),
    ),
  }));
  say(
    table(
      ['CONNECTION', 'BYTES', 'SHA-256 EQUAL', 'RESETS', 'TCP CONNECTIONS', 'BLACKOUT OF EACH MOVE'],
      lines.map((l) => [
        l.connection,
        String(l.bytes),
        l.sha256Equal ? 'yes' : 'NO',
        String(l.resets),
        String(l.connections),
        l.blackoutMs.map((ms) => `${ms} ms`).join(', '),
      ]),
    ),
  );
  const report = {
    ok:
      lines.every((l) => l.sha256Equal && l.resets === 0 && l.connections === 1) &&
      Object.keys(harm).length === 0 &&
      sockets.length === 0 &&
      spliced,
    migrations: moves.length,
    bytes: lines.reduce((sum, l) => sum + l.bytes, 0),
    sha256Equal: lines.every((l) => l.sha256Equal),
    resets: lines.reduce((sum, l) => sum + l.resets, 0) + (counted['TcpOutRsts'] ?? 0),
    blackoutMs: lines.flatMap((l) => l.blackoutMs),
    captures: [{ place: "the peer's eth0", file: CAPTURE, packets: rows.length }],
    peerCounters: harm,
    gatewayTcpSockets: sockets.length,
    connections: lines,
    flowsBefore: listedBefore.trim().split('\n'),
    flowsAfter: listedAfter.trim().split('\n'),
  };
  await writeReport(report);
  if (!spliced) say('\nnot every connection was there, with two splices, after the last move: nothing is shown');
  const word = report.ok ? 'ok' : 'FAILED';
  say(
    `\n${word}: ${report.migrations} migrations, ${report.resets} resets, ${sockets.length} TCP sockets in the gateway; ` +
      `the peer's nstat counts ${Object.keys(harm).length === 0 ? 'no harm' : JSON.stringify(harm)}. demo/report.json`,
  );
  return report.ok;
}

function writeReport(report: { readonly ok: boolean; readonly error?: string }): Promise<void> {
  return writeFile(REPORT, `${JSON.stringify(report, null, 2)}\n`);
}

/** Exit code of the demo. A report of an earlier run is not taken for one of this. */
async function main(): Promise<number> {
  if (process.getuid?.() !== 0) {
    process.stderr.write('demo: needs root, to make network namespaces: run make demo as root\n');
    return 1;
  }
  await rm(REPORT, { force: true });
  try {
    return (await demo()) ? 0 : 1;
  } catch (error) {
    await writeReport({ ok: false, error: String(error) });
    process.stderr.write(`demo: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
    return 1;
  }
}

// A conversation that nobody ends would keep the process.
process.exit(await main());
