/**
 * TCP operations. Results are this room's: not negative, a negative WASI errno, or INTERRUPTED with nothing consumed.
 * `timeoutMs` is what the call may wait: 0 not at all, negative for ever.
 */
import { ERRNO, NO_WAKE, POLL } from '../native.ts';
import type { SocketFd } from '../native.ts';
import { ANY_PORT, INADDR_ANY, socketAddress } from './address.ts';
import type { SocketAddress } from './address.ts';
import type { SocketCore } from './core.ts';
import { INTERRUPTED, WASI, resultOf, wasiErrno } from './errno.ts';
import type { WasiErrno } from './errno.ts';
import { localAddress } from './handle.ts';
import type { TcpSocket, TcpState } from './handle.ts';
import { leave } from './linger.ts';
import { setKernelReuse } from './options.ts';
import { TcpStream } from './stream.ts';

/** Bits of `sock_recv`'s `ri_flags`. */
export const RECEIVE = { PEEK: 1, WAIT_ALL: 2 } as const;
/** Bits of `sock_shutdown`'s `how`. */
export const SHUT = { READ: 1, WRITE: 2 } as const;

type Open = Extract<TcpState, { name: 'open' }>;
type Connecting = Extract<TcpState, { name: 'connecting' }>;

/** Binds an open socket. Port 0: the kernel chooses one. */
export function bind(core: SocketCore, socket: TcpSocket, address: SocketAddress): number {
  const { state } = socket;
  if (state.name !== 'open' || state.local !== undefined) return -WASI.EINVAL;
  if (!core.isOwnAddress(address.address)) return -WASI.EADDRNOTAVAIL;
  if (address.port !== ANY_PORT && inConflict(core, socket, address.port)) return -WASI.EADDRINUSE;
  return bindOpen(core, state, address.port);
}

/**
 * Whether a kernel would refuse the port if it knew only the guest's own SO_REUSEADDR. Ours always has the option, so a second
 * bind to a port that no listener has would pass.
 */
function inConflict(core: SocketCore, socket: TcpSocket, port: number): boolean {
  const shares = (name: 'reuseAddr' | 'reusePort', a: TcpSocket['options'], b: TcpSocket['options']): boolean =>
    a.ints.get(name) === 1 && b.ints.get(name) === 1;
  return core.tcpHandlesOn(port).some((other) => {
    if (shares('reusePort', socket.options, other.options)) return false;
    return other.state.name === 'listening' || !shares('reuseAddr', socket.options, other.options);
  });
}

/**
 * SO_REUSEADDR is set before a bind to a given port (there may be connections on it), but only after one to any: with it the
 * kernel might choose a port that another of our sockets has.
 */
function bindOpen(core: SocketCore, state: Open, port: number): number {
  const { native, name, host } = core;
  if (port !== ANY_PORT) setKernelReuse(native, state.fd);
  const bound = native.sockBind(state.fd, host.guestAddress, port);
  if (bound < 0) return resultOf(bound);
  setKernelReuse(native, state.fd);
  const named = native.sockLocal(state.fd, name);
  if (named < 0) return resultOf(named);
  state.local = socketAddress(name[0] ?? 0, name[1] ?? 0);
  return 0;
}

/** A socket that is used without a bind gets the guest's address and any port, so that its packets carry that address. */
function ensureBound(core: SocketCore, state: Open): SocketAddress | number {
  if (state.local === undefined) {
    const bound = bindOpen(core, state, ANY_PORT);
    if (bound < 0) return bound;
  }
  return state.local ?? -WASI.EINVAL;
}

export function listen(core: SocketCore, socket: TcpSocket, backlog: number): number {
  const { state } = socket;
  const size = Math.min(backlog >>> 0, 0x7fff_ffff);
  if (state.name === 'listening') {
    const again = core.native.sockListen(state.fd, size);
    if (again === 0) state.backlog = size;
    return resultOf(again);
  }
  if (state.name !== 'open') return -WASI.EINVAL;
  const local = ensureBound(core, state);
  if (typeof local === 'number') return local;
  const result = core.native.sockListen(state.fd, size);
  if (result < 0) return resultOf(result);
  socket.state = { name: 'listening', fd: state.fd, local, backlog: size, pending: [] };
  return 0;
}

/** The oldest connection that waits at a listener. */
export function accept(core: SocketCore, socket: TcpSocket, timeoutMs: number): TcpStream | number {
  const { state } = socket;
  if (state.name !== 'listening') return -WASI.EINVAL;
  core.progress();
  return state.pending.shift() ?? acceptFromKernel(core, state.fd, timeoutMs);
}

function acceptFromKernel(core: SocketCore, listener: SocketFd, timeoutMs: number): TcpStream | number {
  const { native, name, wakeFd } = core;
  const accepted = core.blocking(listener, POLL.IN, timeoutMs, (ms) => native.sockAccept(listener, wakeFd, ms, name));
  return accepted < 0 ? resultOf(accepted) : acceptedStream(core, accepted as SocketFd);
}

/** The stream of a descriptor that an accept has given; `core.name` has its peer. */
export function acceptedStream(core: SocketCore, fd: SocketFd): TcpStream {
  const { native, name } = core;
  const remote = socketAddress(name[0] ?? 0, name[1] ?? 0);
  native.sockLocal(fd, name);
  const local = socketAddress(name[0] ?? 0, name[1] ?? 0);
  return new TcpStream(native, local, remote, { name: 'alive', fd, given: 0 });
}

/**
 * Connects, or tells how a connect goes that was begun before: EALREADY while it is under way and the call may not wait,
 * 0 once when it is there, its error once when it failed. EINPROGRESS when the time was up first, as in Linux.
 */
export function connect(core: SocketCore, socket: TcpSocket, remote: SocketAddress, timeoutMs: number): number {
  const { state } = socket;
  switch (state.name) {
    case 'connected':
      if (state.announced) return -WASI.EISCONN;
      state.announced = true;
      return 0;
    case 'connecting':
      return finishConnect(core, socket, state, timeoutMs, WASI.EALREADY);
    case 'open':
      return startConnect(core, socket, state, remote, timeoutMs);
    case 'listening':
      return -WASI.EISCONN;
    case 'closed':
      return -WASI.EBADF;
  }
}

function startConnect(
  core: SocketCore,
  socket: TcpSocket,
  state: Open,
  remote: SocketAddress,
  timeoutMs: number,
): number {
  const failed = takeOpenError(state);
  if (failed !== 0) return -failed;
  if (core.isForbidden(remote.address)) return -WASI.ECONNREFUSED;
  const local = ensureBound(core, state);
  if (typeof local === 'number') return local;
  const started = core.native.sockConnectStart(state.fd, remote.address, remote.port);
  if (started < 0 && started !== -ERRNO.EINPROGRESS) return resultOf(started);
  const connecting: Connecting = { name: 'connecting', fd: state.fd, local, remote };
  socket.state = connecting;
  if (started === 0) return becomeConnected(core, socket, connecting, true);
  return timeoutMs === 0 ? -WASI.EINPROGRESS : finishConnect(core, socket, connecting, timeoutMs, WASI.EINPROGRESS);
}

function finishConnect(
  core: SocketCore,
  socket: TcpSocket,
  state: Connecting,
  timeoutMs: number,
  unfinished: number,
): number {
  const { native, wakeFd } = core;
  const result = core.blocking(state.fd, POLL.OUT, timeoutMs, (ms) => native.sockConnectWait(state.fd, wakeFd, ms));
  if (result === 0) return becomeConnected(core, socket, state, true);
  if (result === -ERRNO.EINTR) return INTERRUPTED;
  if (result === -ERRNO.EAGAIN) return -unfinished;
  socket.state = unconnected(core, state, 0);
  return -wasiErrno(result);
}

/**
 * A socket whose connect has failed. Linux answers the next connect with ECONNABORTED when the error was read before; that answer
 * is taken here. It also has given the port back, unless the guest had asked for that very port.
 */
function unconnected({ native, name }: SocketCore, { fd, local, remote }: Connecting, error: WasiErrno): Open {
  native.sockConnectStart(fd, remote.address, remote.port);
  const bound = native.sockLocal(fd, name) >= 0 && name[1] === local.port;
  return { name: 'open', fd, local: bound ? local : undefined, error };
}

function becomeConnected(core: SocketCore, socket: TcpSocket, state: Connecting, announced: boolean): 0 {
  const link = { name: 'alive', fd: state.fd, given: 0 } as const;
  const stream = new TcpStream(core.native, state.local, state.remote, { ...link });
  socket.state = { name: 'connected', stream, announced };
  return 0;
}

/** Takes note of a connect that has succeeded or failed meanwhile. Waits for nothing, consumes nothing of the guest's. */
export function noteConnect(core: SocketCore, socket: TcpSocket): void {
  const { state } = socket;
  if (state.name !== 'connecting') return;
  const result = core.native.sockConnectWait(state.fd, NO_WAKE, 0);
  if (result === 0) becomeConnected(core, socket, state, false);
  else if (result !== -ERRNO.EAGAIN) {
    socket.state = unconnected(core, state, wasiErrno(result));
  }
}

function takeOpenError(state: Open): number {
  const { error } = state;
  state.error = 0;
  return error;
}

/** The stream a call may use; waits for a connect that is under way. */
function streamOf(core: SocketCore, socket: TcpSocket, timeoutMs: number): TcpStream | number {
  if (socket.state.name === 'connecting') {
    const result = finishConnect(core, socket, socket.state, timeoutMs, WASI.EAGAIN);
    if (result < 0) return result;
  }
  const { state } = socket;
  if (state.name === 'connected') return state.stream;
  const error = state.name === 'open' ? takeOpenError(state) : 0;
  return -(error === 0 ? WASI.ENOTCONN : error);
}

/** Reads into several buffers. 0 is the end of the stream. `flags` are RECEIVE's. */
export function receive(
  core: SocketCore,
  socket: TcpSocket,
  buffers: readonly Uint8Array[],
  flags: number,
  timeoutMs: number,
): number {
  const deadline = core.deadline(timeoutMs);
  const stream = streamOf(core, socket, timeoutMs);
  if (typeof stream === 'number') return stream;
  core.progress();
  if (flags & RECEIVE.PEEK) return peek(core, stream, buffers, core.remaining(deadline));
  if (flags & RECEIVE.WAIT_ALL) {
    const gathered = gather(core, stream, total(buffers), deadline);
    if (gathered < 0 && (stream.inbound.length === 0 || gathered === INTERRUPTED)) return gathered;
  }
  let done = 0;
  for (const buffer of buffers) {
    if (buffer.length === 0) continue;
    const result = receiveOnce(core, stream, buffer, done === 0 ? core.remaining(deadline) : 0);
    // An error behind bytes is the next call's to tell.
    if (result <= 0) return done > 0 ? done : told(stream, result);
    done += result;
    if (result < buffer.length) break;
  }
  return done;
}

function receiveOnce(core: SocketCore, stream: TcpStream, buffer: Uint8Array, timeoutMs: number): number {
  const read = (ms: number): number => stream.receive(buffer, buffer.length, false, core.wakeFd, ms);
  const fd = stream.fd;
  const result = stream.readable || fd === undefined ? read(0) : core.blocking(fd, POLL.IN, timeoutMs, read);
  // A connection that broke just now may have left bytes, which come before the error.
  return result < 0 && stream.inbound.length > 0 ? read(0) : result;
}

/** An end or an error of the kernel as the guest gets it: the error of a broken connection once, and then the end. */
function told(stream: TcpStream, result: number): number {
  if (result > 0) return result;
  if (stream.link.name === 'broken' && !stream.peerEnded) return 0 - stream.takeError();
  return resultOf(result);
}

/** Peeks: through one piece of memory, since bytes that stay queued cannot be read in parts. */
function peek(core: SocketCore, stream: TcpStream, buffers: readonly Uint8Array[], timeoutMs: number): number {
  const wanted = Math.min(total(buffers), core.scratch.length);
  const read = (ms: number): number => stream.receive(core.scratch, wanted, true, core.wakeFd, ms);
  const fd = stream.fd;
  const result = stream.readable || fd === undefined ? read(0) : core.blocking(fd, POLL.IN, timeoutMs, read);
  if (result > 0) scatter(core.scratch.subarray(0, result), buffers);
  return told(stream, result);
}

/** MSG_WAITALL: collects in the inbound buffer, where an interruption leaves it. Negative when less came in time. */
function gather(core: SocketCore, stream: TcpStream, wanted: number, deadline: number): number {
  while (stream.inbound.length < wanted) {
    const fd = stream.fd;
    if (fd === undefined || stream.peerEnded || stream.readShut) return 0;
    const missing = wanted - stream.inbound.length;
    const result = core.blocking(fd, POLL.IN, core.remaining(deadline), (ms) =>
      stream.collect(core.scratch, missing, core.wakeFd, ms),
    );
    if (result < 0) return stream.link.name === 'broken' ? 0 : resultOf(result);
  }
  return 0;
}

/** Writes several buffers. A call that may wait waits until all is taken; cut short, it says how much was. */
export function send(core: SocketCore, socket: TcpSocket, buffers: readonly Uint8Array[], timeoutMs: number): number {
  const deadline = core.deadline(timeoutMs);
  const stream = streamOf(core, socket, timeoutMs);
  if (typeof stream === 'number') return stream;
  core.progress();
  let done = 0;
  for (const buffer of joined(core, buffers)) {
    let at = 0;
    while (at < buffer.length) {
      const result = sendOnce(core, stream, buffer, at, core.remaining(deadline));
      if (result < 0) return done > 0 ? done : refused(stream, result);
      at += result;
      done += result;
      if (timeoutMs === 0 && at < buffer.length) return done;
    }
  }
  return done;
}

function sendOnce(core: SocketCore, stream: TcpStream, data: Uint8Array, offset: number, timeoutMs: number): number {
  const fd = stream.fd;
  if (fd === undefined || stream.outgoing !== 'open') return -ERRNO.EPIPE;
  const write = (ms: number): number => {
    // What a restore has left to be sent goes first.
    if (stream.hasBacklog && !stream.pump()) return -ERRNO.EAGAIN;
    return stream.give(data, offset, data.length - offset, core.wakeFd, ms);
  };
  return core.blocking(fd, POLL.OUT, timeoutMs, write);
}

function refused(stream: TcpStream, result: number): number {
  const error = stream.takeError();
  return error === 0 ? resultOf(result) : -error;
}

/** Several small buffers as one, so that they leave in one piece. */
function joined(core: SocketCore, buffers: readonly Uint8Array[]): readonly Uint8Array[] {
  const filled = buffers.filter((buffer) => buffer.length > 0);
  if (filled.length < 2 || total(filled) > core.scratch.length) return filled;
  let at = 0;
  for (const buffer of filled) {
    core.scratch.set(buffer, at);
    at += buffer.length;
  }
  return [core.scratch.subarray(0, at)];
}

/** Shuts a direction down, or both: bits of SHUT. */
export function shutdown(core: SocketCore, socket: TcpSocket, how: number): number {
  noteConnect(core, socket);
  const { state } = socket;
  if (how === 0 || (how & ~(SHUT.READ | SHUT.WRITE)) !== 0) return -WASI.EINVAL;
  if (state.name !== 'connected' || state.stream.link.name === 'broken') return -WASI.ENOTCONN;
  const { stream } = state;
  if (how & SHUT.READ) stream.readShut = true;
  if (how & SHUT.WRITE) {
    stream.endWriting();
    core.pump(stream);
  }
  return 0;
}

/** Closes a socket for the guest; a connection may linger. */
export function close(core: SocketCore, socket: TcpSocket): void {
  const { state } = socket;
  socket.state = { name: 'closed' };
  switch (state.name) {
    case 'open':
    case 'connecting':
      core.native.fdClose(state.fd);
      return;
    case 'listening':
      for (const stream of state.pending) stream.reset();
      core.native.fdClose(state.fd);
      return;
    case 'connected':
      leave(core, state.stream, socket.options.linger, core.host.now());
      return;
    case 'closed':
  }
}

export function localName(socket: TcpSocket): SocketAddress {
  return localAddress(socket) ?? { address: INADDR_ANY, port: ANY_PORT };
}

/** The peer's address, or -ENOTCONN. */
export function remoteName(core: SocketCore, socket: TcpSocket): SocketAddress | number {
  noteConnect(core, socket);
  const { state } = socket;
  return state.name === 'connected' && state.stream.link.name !== 'broken' ? state.stream.remote : -WASI.ENOTCONN;
}

export function total(buffers: readonly Uint8Array[]): number {
  return buffers.reduce((sum, buffer) => sum + buffer.length, 0);
}

/** Puts bytes into buffers, one after the other; what does not fit is left out. Returns how many fitted. */
export function scatter(bytes: Uint8Array, buffers: readonly Uint8Array[]): number {
  let done = 0;
  for (const buffer of buffers) {
    const part = bytes.subarray(done, done + buffer.length);
    buffer.set(part);
    done += part.length;
  }
  return done;
}
