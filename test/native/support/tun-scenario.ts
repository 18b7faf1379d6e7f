/**
 * Runs in a network namespace of its own (`unshare --net`), which ends with the process:
 *
 *     kernel sockets on 10.7.1.1 ── t0 ── mirror (10.7.1.2)
 *     kernel sockets on 10.7.2.1 ── t1 ── mirror (10.7.2.2)
 *
 * Sends UDP and TCP through both devices and prints what arrived and what the mirror saw, as JSON.
 */
import { spawnSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { Worker } from 'node:worker_threads';
import { failed, native } from '../../../src/native.ts';
import type { MirrorSetup, Seen } from './mirror.ts';

/** Bytes each way over each TCP connection. */
const TOTAL = 16 * 1024 * 1024;

export interface Report {
  readonly udp: string[];
  readonly tcpEqual: boolean[];
  readonly tcpRemote: string[];
  readonly seen: Seen;
}

function ip(...words: string[]): void {
  const { status, stderr } = spawnSync('ip', words, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`ip ${words.join(' ')}: ${stderr}`);
}

function device(index: number): number {
  const fd = native.tunOpen(`t${index}`);
  ip('addr', 'add', `10.7.${index + 1}.1/24`, 'dev', `t${index}`);
  ip('link', 'set', `t${index}`, 'up');
  return fd;
}

async function datagram(subnet: string): Promise<string> {
  const server = createSocket('udp4');
  const client = createSocket('udp4');
  server.bind(0, `${subnet}.1`);
  await once(server, 'listening');
  client.send('ahoy', server.address().port, `${subnet}.2`);
  const [message, from] = (await once(server, 'message')) as [Buffer, { address: string }];
  client.close();
  server.close();
  return `${message.toString()} from ${from.address}`;
}

/** Sends random bytes and ends; gives the hashes of what was sent and what came. */
async function exchange(socket: Socket): Promise<{ sent: string; received: string }> {
  const data = randomBytes(TOTAL);
  const hash = createHash('sha256');
  socket.on('data', (chunk: Buffer) => hash.update(chunk));
  socket.end(data);
  await once(socket, 'end');
  return { sent: createHash('sha256').update(data).digest('hex'), received: hash.digest('hex') };
}

async function stream(subnet: string): Promise<{ equal: boolean; remote: string }> {
  const server = createServer({ allowHalfOpen: true });
  server.listen(0, `${subnet}.1`);
  await once(server, 'listening');
  const client = connect({ host: `${subnet}.2`, port: (server.address() as AddressInfo).port, allowHalfOpen: true });
  const [accepted] = (await once(server, 'connection')) as [Socket];
  const remote = accepted.remoteAddress ?? '';
  const [ours, theirs] = await Promise.all([exchange(client), exchange(accepted)]);
  server.close();
  return {
    equal: ours.sent === theirs.received && theirs.sent === ours.received,
    remote,
  };
}

ip('link', 'set', 'lo', 'up');
const wake = native.wakeCreate();
if (failed(wake)) throw new Error('no wake descriptor');
const stop = new Int32Array(new SharedArrayBuffer(4));
const setup: MirrorSetup = { devices: [device(0), device(1)], wake, stop, spinUs: 20 };
const mirror = new Worker(new URL('./mirror.ts', import.meta.url), { workerData: setup });

const subnets = ['10.7.1', '10.7.2'];
const udp = await Promise.all(subnets.map(datagram));
const tcp = await Promise.all(subnets.map(stream));
Atomics.store(stop, 0, 1);
native.wakeSignal(wake);
const [seen] = (await once(mirror, 'message')) as [Seen];
const report: Report = { udp, tcpEqual: tcp.map((one) => one.equal), tcpRemote: tcp.map((one) => one.remote), seen };
process.stdout.write(JSON.stringify(report));
