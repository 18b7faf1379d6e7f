/** UDP operations; results as in `tcp.ts`. */
import { ERRNO, NO_WAKE, POLL } from '../native.ts';
import { ANY_PORT, INADDR_ANY, socketAddress } from './address.ts';
import type { SocketAddress } from './address.ts';
import type { SocketCore } from './core.ts';
import { WASI, resultOf } from './errno.ts';
import { localAddress } from './handle.ts';
import type { UdpSocket, UdpState } from './handle.ts';
import { getIntOption } from './options.ts';
import { RECEIVE, SHUT, scatter, total } from './tcp.ts';

type Open = Extract<UdpState, { name: 'open' }>;

/** What a datagram was, beside its bytes. */
export interface DatagramInfo {
  from: SocketAddress;
  /** It was longer than the buffers: the rest is lost. */
  truncated: boolean;
}

export function bind(core: SocketCore, socket: UdpSocket, address: SocketAddress): number {
  const { state } = socket;
  if (state.name !== 'open' || state.local !== undefined) return -WASI.EINVAL;
  if (!core.isOwnAddress(address.address)) return -WASI.EADDRNOTAVAIL;
  return bindOpen(core, state, address.port);
}

function bindOpen(core: SocketCore, state: Open, port: number): number {
  const { native, name, host } = core;
  const bound = native.sockBind(state.fd, host.guestAddress, port);
  if (bound < 0) return resultOf(bound);
  const named = native.sockLocal(state.fd, name);
  if (named < 0) return resultOf(named);
  state.local = socketAddress(name[0] ?? 0, name[1] ?? 0);
  return 0;
}

function ensureBound(core: SocketCore, state: Open): number {
  return state.local === undefined ? bindOpen(core, state, ANY_PORT) : 0;
}

/** Sets the peer. */
export function connect(core: SocketCore, socket: UdpSocket, remote: SocketAddress): number {
  const { state } = socket;
  if (state.name !== 'open') return -WASI.EBADF;
  if (core.isForbidden(remote.address)) return -WASI.ECONNREFUSED;
  const bound = ensureBound(core, state);
  if (bound < 0) return bound;
  const result = core.native.sockConnectStart(state.fd, remote.address, remote.port);
  if (result === 0) state.remote = remote;
  return resultOf(result);
}

/** Sends one datagram, to `to` or else to the peer that connect set. */
export function send(
  core: SocketCore,
  socket: UdpSocket,
  buffers: readonly Uint8Array[],
  to: SocketAddress | undefined,
  timeoutMs: number,
): number {
  const { state } = socket;
  const { native, wakeFd, scratch } = core;
  if (state.name !== 'open') return -WASI.EBADF;
  if (state.shut & SHUT.WRITE) return -WASI.EPIPE;
  const target = to ?? state.remote;
  if (target === undefined) return -WASI.EDESTADDRREQ;
  if (core.isForbidden(target.address)) return -WASI.EACCES;
  const length = total(buffers);
  if (length > scratch.length) return -WASI.EMSGSIZE;
  const bound = ensureBound(core, state);
  if (bound < 0) return bound;
  core.progress();
  let at = 0;
  for (const buffer of buffers) {
    scratch.set(buffer, at);
    at += buffer.length;
  }
  const { fd } = state;
  const { address, port } = target;
  // With its own address given again a connected socket takes its peer's errors as well as without.
  return resultOf(
    core.blocking(fd, POLL.OUT, timeoutMs, (ms) =>
      native.sockSendTo(fd, scratch, 0, length, address, port, wakeFd, ms),
    ),
  );
}

/** Receives one datagram: those a drain kept first. `info` is filled in when the result is not negative. */
export function receive(
  core: SocketCore,
  socket: UdpSocket,
  buffers: readonly Uint8Array[],
  flags: number,
  timeoutMs: number,
  info: DatagramInfo,
): number {
  const { state } = socket;
  const { native, wakeFd, scratch, name } = core;
  if (state.name !== 'open') return -WASI.EBADF;
  const peek = (flags & RECEIVE.PEEK) !== 0;
  core.progress();
  const kept = peek ? state.queue[0] : state.queue.shift();
  if (kept !== undefined) return deliver(kept.bytes, kept.from, buffers, info);
  const { fd } = state;
  const wait = state.shut & SHUT.READ ? 0 : timeoutMs;
  const length = core.blocking(fd, POLL.IN, wait, (ms) =>
    native.sockRecvFrom(fd, scratch, 0, scratch.length, peek, wakeFd, ms, name),
  );
  if (length < 0) return resultOf(length);
  return deliver(scratch.subarray(0, length), socketAddress(name[0] ?? 0, name[1] ?? 0), buffers, info);
}

function deliver(bytes: Uint8Array, from: SocketAddress, buffers: readonly Uint8Array[], info: DatagramInfo): number {
  const taken = scatter(bytes, buffers);
  info.from = from;
  info.truncated = taken < bytes.length;
  return taken;
}

/** What a datagram costs beside its bytes; a kernel counts more. */
const DATAGRAM_COST = 256;

/**
 * Takes what the kernel holds into the handle's queue. True when there was any. What is more than a receive buffer together with what
 * was kept before is lost, as it is when the kernel's buffer is full: a guest that reads nothing does not grow with each move.
 */
export function drain(core: SocketCore, socket: UdpSocket): boolean {
  const { state } = socket;
  if (state.name !== 'open') return false;
  const { native, scratch, name } = core;
  const room = getIntOption(native, 'udp', state.fd, socket.options, 'receiveBuffer');
  let used = state.queue.reduce((sum, { bytes }) => sum + bytes.length + DATAGRAM_COST, 0);
  for (let count = 0; ; count += 1) {
    const length = native.sockRecvFrom(state.fd, scratch, 0, scratch.length, false, NO_WAKE, 0, name);
    // An error of an earlier send (ECONNREFUSED) stands before the datagrams; it is not worth keeping.
    if (length < 0 && length !== -ERRNO.ECONNREFUSED) return count > 0;
    // As in the kernel, the last one may go beyond.
    if (length < 0 || used > room) continue;
    used += length + DATAGRAM_COST;
    state.queue.push({ from: socketAddress(name[0] ?? 0, name[1] ?? 0), bytes: scratch.slice(0, length) });
  }
}

export function shutdown(socket: UdpSocket, how: number): number {
  const { state } = socket;
  if (how === 0 || (how & ~(SHUT.READ | SHUT.WRITE)) !== 0) return -WASI.EINVAL;
  if (state.name !== 'open' || state.remote === undefined) return -WASI.ENOTCONN;
  state.shut |= how;
  return 0;
}

export function close(core: SocketCore, socket: UdpSocket): void {
  const { state } = socket;
  socket.state = { name: 'closed' };
  if (state.name === 'open') core.native.fdClose(state.fd);
}

export function localName(socket: UdpSocket): SocketAddress {
  return localAddress(socket) ?? { address: INADDR_ANY, port: ANY_PORT };
}

export function remoteName({ state }: UdpSocket): SocketAddress | number {
  return (state.name === 'open' ? state.remote : undefined) ?? -WASI.ENOTCONN;
}
