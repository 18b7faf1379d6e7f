/**
 * The drain: everything the kernel holds for the guest is taken over, so that what is left in it may be thrown away
 * (docs/splice.md, Drain).
 *
 * First every TCP socket is set to end by RST, so that whatever ends this process ends them at once (S48). Then listeners are
 * emptied of connections and sockets of bytes, until two passes find nothing new. K, the count of bytes ever read, is the cut:
 * what the kernel acknowledges after it makes the gateway ask for another drain.
 */
import { formatIpv4 } from '../rewrite/numbers.ts';
import type { SocketFd } from '../native.ts';
import { NO_WAKE } from '../native.ts';
import type { SocketAddress } from './address.ts';
import type { SocketCore } from './core.ts';
import type { TcpSocket } from './handle.ts';
import type { TcpStream } from './stream.ts';
import { pardon } from './linger.ts';
import { acceptedStream, noteConnect } from './tcp.ts';
import { drain as drainUdp } from './udp.ts';

/** An address as the gateway's API writes it. */
export interface TextAddress {
  readonly address: string;
  readonly port: number;
}

/** One connection as the drain leaves it. */
export interface DrainedConnection {
  readonly local: TextAddress;
  readonly remote: TextAddress;
  /** K: bytes ever read from the peer, by the guest or by the drain. */
  readonly received: number;
  /** Bytes the guest ever wrote. */
  readonly written: number;
  /** The guest has closed it already. */
  readonly lingering: boolean;
}

/** All connections of a guest that the gateway may know; the body of an export. */
export interface DrainReport {
  readonly connections: readonly DrainedConnection[];
}

/** A listener that fills as quickly as it is emptied must not hold a stop up for ever: nothing new reaches it while frozen. */
const MOST_PASSES = 1000;

export function textAddress({ address, port }: SocketAddress): TextAddress {
  return { address: formatIpv4(address), port };
}

/** Takes everything over. May be called again. */
export function drainAll(core: SocketCore): DrainReport {
  core.frozen = true;
  for (const fd of tcpFds(core)) core.native.sockSetLinger(fd, true, 0);
  for (let quiet = 0, passes = 0; quiet < 2 && passes < MOST_PASSES; passes += 1) {
    quiet = drainPass(core) ? 0 : quiet + 1;
  }
  return { connections: report(core) };
}

/** Takes back what the drain did to the sockets; what it has read is served to the guest first. */
export function thawAll(core: SocketCore): void {
  // The guest's own SO_LINGER is never the kernel's: `linger.ts` acts on it at the guest's close.
  for (const fd of tcpFds(core)) core.native.sockSetLinger(fd, false, 0);
  core.frozen = false;
  pardon(core, core.host.now());
  core.progress();
}

function drainPass(core: SocketCore): boolean {
  let news = false;
  for (const socket of core.sockets.values()) {
    if (socket.kind === 'udp') {
      news = drainUdp(core, socket) || news;
      continue;
    }
    noteConnect(core, socket);
    if (socket.state.name === 'listening') news = acceptAll(core, socket) || news;
  }
  for (const stream of streams(core)) news = stream.drain(core.scratch) || news;
  for (const lingering of core.lingering) {
    // A closed socket answers data with a RST: so will the one that takes its place.
    if (lingering.stream.inbound.length > 0) lingering.doomed = true;
  }
  return news;
}

function acceptAll(core: SocketCore, { state }: TcpSocket): boolean {
  if (state.name !== 'listening') return false;
  for (let count = 0; ; count += 1) {
    const fd = core.native.sockAccept(state.fd, NO_WAKE, 0, core.name);
    if (fd < 0) return count > 0;
    core.native.sockSetLinger(fd as SocketFd, true, 0);
    state.pending.push(acceptedStream(core, fd as SocketFd));
  }
}

/** Every connection there is: held by the guest, waiting at its listeners, lingering. */
export function* streams(core: SocketCore): Generator<TcpStream> {
  for (const { state } of core.sockets.values()) {
    if (state.name === 'connected') yield state.stream;
    if (state.name === 'listening') yield* state.pending;
  }
  for (const { stream } of core.lingering) yield stream;
}

/** Every kernel TCP socket of the guest. */
export function* tcpFds(core: SocketCore): Generator<SocketFd> {
  for (const { kind, state } of core.sockets.values()) {
    if (kind === 'tcp' && state.name !== 'closed' && state.name !== 'connected') yield state.fd;
  }
  for (const { fd } of streams(core)) if (fd !== undefined) yield fd;
}

function report(core: SocketCore): DrainedConnection[] {
  const connections: DrainedConnection[] = [];
  const add = (stream: TcpStream, lingering: boolean): void => {
    if (stream.link.name !== 'alive') return;
    const { local, remote, received, written } = stream;
    connections.push({ local: textAddress(local), remote: textAddress(remote), received, written, lingering });
  };
  for (const { state } of core.sockets.values()) {
    if (state.name === 'connected') add(state.stream, false);
    if (state.name === 'listening') for (const stream of state.pending) add(stream, false);
    if (state.name === 'connecting') {
      const { local, remote } = state;
      const none = { received: 0, written: 0, lingering: false };
      connections.push({ local: textAddress(local), remote: textAddress(remote), ...none });
    }
  }
  for (const { stream } of core.lingering) add(stream, true);
  return connections;
}
