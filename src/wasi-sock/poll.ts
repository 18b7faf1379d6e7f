/** Waiting for several sockets (and other descriptors) at once, as `poll_oneoff` needs it. */
import { ERRNO, POLL } from '../native.ts';
import type { SocketCore } from './core.ts';
import { INTERRUPTED, WASI, resultOf } from './errno.ts';
import type { WasiErrno } from './errno.ts';
import { kernelFd } from './handle.ts';
import type { SocketHandle, TcpSocket, UdpSocket } from './handle.ts';
import { SHUT, noteConnect } from './tcp.ts';

/** One thing to wait for, and what became of it: `poll` fills in the lower half. */
export interface PollRequest {
  /** A socket, or any descriptor of the host's kernel (standard input). */
  readonly on: SocketHandle | number;
  readonly want: 'read' | 'write';
  ready: boolean;
  /** Bytes that can be read now; for a listener, connections. 1 for a descriptor that is no socket. */
  bytes: number;
  /** The other end has closed, or this direction has ended. */
  hangup: boolean;
  /** Positive; 0 when there is none. */
  error: WasiErrno;
}

export function pollRequest(on: SocketHandle | number, want: 'read' | 'write'): PollRequest {
  return { on, want, ready: false, bytes: 0, hangup: false, error: 0 };
}

/**
 * Waits until a request is ready. Returns how many are, 0 when the time is up, a negative errno, or INTERRUPTED. Nothing is
 * consumed by it, errors neither.
 */
export function poll(core: SocketCore, requests: readonly PollRequest[], timeoutMs: number): number {
  const deadline = core.deadline(timeoutMs);
  for (;;) {
    core.progress();
    const now = answer(core, requests);
    const left = now > 0 ? 0 : core.remaining(deadline);
    const set = core.pollSet(requests.length);
    requests.forEach((request, i) => {
      set[3 * i] = request.ready ? -1 : fdOf(request);
      set[3 * i + 1] = request.want === 'read' ? POLL.IN : POLL.OUT;
    });
    const polled = core.waitBeside(requests.length, left);
    if (polled === -ERRNO.EINTR) return now > 0 ? now : INTERRUPTED;
    if (polled < 0) return resultOf(polled);
    if (polled > 0) requests.forEach((request, i) => note(core, request, set[3 * i + 2] ?? 0));
    const ready = requests.filter((request) => request.ready).length;
    if (ready > 0 || left === 0) return ready;
  }
}

function fdOf({ on }: PollRequest): number {
  return typeof on === 'number' ? on : (kernelFd(on) ?? -1);
}

/** Answers what needs no kernel. Returns how many of the requests are ready. */
function answer(core: SocketCore, requests: readonly PollRequest[]): number {
  for (const request of requests) {
    request.ready = false;
    request.bytes = 0;
    request.hangup = false;
    request.error = 0;
    if (typeof request.on === 'number') continue;
    if (request.on.kind === 'tcp') answerTcp(core, request, request.on);
    else answerUdp(request, request.on);
  }
  return requests.filter((request) => request.ready).length;
}

function answerTcp(core: SocketCore, request: PollRequest, socket: TcpSocket): void {
  noteConnect(core, socket);
  const { state } = socket;
  switch (state.name) {
    case 'closed':
      request.error = WASI.EBADF;
      request.ready = true;
      return;
    case 'open':
      request.error = state.error;
      request.hangup = true;
      request.ready = true;
      return;
    case 'connecting':
      return;
    case 'listening':
      request.bytes = request.want === 'read' ? state.pending.length : 0;
      request.ready = request.bytes > 0;
      return;
    case 'connected':
  }
  const { stream } = state;
  const broken = stream.link.name === 'broken' && !stream.link.told ? stream.link.errno : 0;
  if (request.want === 'read') {
    request.ready = stream.readable;
    request.bytes = stream.inbound.length;
    request.hangup = stream.peerEnded || stream.link.name !== 'alive';
    if (request.bytes === 0) request.error = broken;
  } else {
    request.ready = stream.link.name !== 'alive' || stream.outgoing !== 'open';
    request.hangup = request.ready;
    request.error = broken;
  }
}

function answerUdp(request: PollRequest, { state }: UdpSocket): void {
  if (state.name === 'closed') {
    request.error = WASI.EBADF;
    request.ready = true;
  } else if (request.want === 'read') {
    request.bytes = state.queue[0]?.bytes.length ?? 0;
    request.ready = state.queue.length > 0 || (state.shut & SHUT.READ) !== 0;
  } else {
    request.ready = (state.shut & SHUT.WRITE) !== 0;
    request.hangup = request.ready;
  }
}

/** Takes over what the kernel says of a descriptor. */
function note(core: SocketCore, request: PollRequest, events: number): void {
  if (request.ready || events === 0) return;
  if (events & POLL.NVAL) {
    request.ready = true;
    request.error = WASI.EBADF;
    return;
  }
  const { on } = request;
  if (typeof on === 'number') {
    request.ready = true;
    request.bytes = 1;
    request.hangup = (events & POLL.HUP) !== 0;
    return;
  }
  if (on.kind === 'tcp' && on.state.name === 'connecting') {
    noteConnect(core, on);
    answerTcp(core, request, on);
    // A connection that is there now can be written to; whether it can be read, the next look tells.
    if (!request.ready && request.want === 'write') request.ready = kernelFd(on) !== undefined;
    return;
  }
  if (on.kind === 'tcp' && on.state.name === 'connected' && request.want === 'write' && on.state.stream.hasBacklog) {
    // What a restore has left takes the room first.
    core.pump(on.state.stream);
    if (on.state.stream.hasBacklog) return;
  }
  request.ready = true;
  request.hangup = (events & POLL.HUP) !== 0;
  request.bytes = request.want === 'read' ? readableBytes(core, on) : 0;
}

function readableBytes(core: SocketCore, handle: SocketHandle): number {
  const fd = kernelFd(handle);
  if (fd === undefined) return 0;
  if (handle.state.name === 'listening') return 1;
  return Math.max(0, core.native.sockInQueue(fd));
}
