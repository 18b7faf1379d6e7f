/**
 * All sockets of one guest. Synchronous; belongs to the guest's thread.
 *
 * Results are numbers: not negative for success, a negative WASI errno, or INTERRUPTED: the wake descriptor was signalled,
 * nothing was consumed, and the call is to be issued again with what is left of its time. `timeoutMs`, where a call can wait,
 * is 0 for not at all and negative for ever; left out, it is what the guest set for the handle (`patience`).
 *
 * A move, on the source: drain (again after each export that did not settle), save, then destroy after the commit, or thaw after
 * an abort. On the target: restore, then release after the commit, or destroy.
 */
import type { SocketFd } from '../native.ts';
import type { Ipv4 } from '../rewrite/numbers.ts';
import type { SocketAddress } from './address.ts';
import { SocketCore } from './core.ts';
import type { SocketHost } from './core.ts';
import { drainAll, streams, tcpFds, thawAll } from './drain.ts';
import type { DrainReport } from './drain.ts';
import { WASI, resultOf } from './errno.ts';
import { kernelFd } from './handle.ts';
import type { SocketHandle, TcpSocket, UdpSocket } from './handle.ts';
import { pardon, progressLingering } from './linger.ts';
import { defaultOptions, getIntOption, inheritedOptions, openKernelSocket, setIntOption } from './options.ts';
import type { IntOptionName, Linger } from './options.ts';
import { poll } from './poll.ts';
import type { PollRequest } from './poll.ts';
import { restoreAll } from './restore.ts';
import type { Refused } from './restore.ts';
import { saveAll } from './save.ts';
import type { FlowReport } from './save.ts';
import { parseSavedSockets } from './saved.ts';
import type { SavedSockets } from './saved.ts';
import * as tcp from './tcp.ts';
import * as udp from './udp.ts';
import type { DatagramInfo } from './udp.ts';

/** A timeout in microseconds as milliseconds that a call may wait; 0 is for ever. */
function milliseconds(microseconds: number): number {
  return microseconds === 0 ? -1 : microseconds / 1000;
}

export class SocketTable {
  /** Connections that were reset while they were restored: the guest is told at their next use. */
  readonly refused: readonly Refused[];
  readonly #core: SocketCore;

  constructor(host: SocketHost | SocketCore, refused: readonly Refused[] = []) {
    this.refused = refused;
    this.#core = host instanceof SocketCore ? host : new SocketCore(host);
  }

  get guestAddress(): Ipv4 {
    return this.#core.host.guestAddress;
  }

  /** Opens a socket, or returns a negative errno. */
  open(kind: SocketHandle['kind']): SocketHandle | number {
    const fd = openKernelSocket(this.#core.native, kind);
    if (fd < 0) return resultOf(fd);
    const id = this.#core.takeId();
    const common = { id, options: defaultOptions(), nonBlocking: false };
    const handle: SocketHandle =
      kind === 'tcp'
        ? { ...common, kind, state: { name: 'open', fd: fd as SocketFd, local: undefined, error: 0 } }
        : { ...common, kind, state: openUdp(fd as SocketFd) };
    this.#core.sockets.set(id, handle);
    return handle;
  }

  /** The handle of an id, as a descriptor table has saved it. */
  handle(id: number): SocketHandle | undefined {
    return this.#core.sockets.get(id);
  }

  /** Handles that are not closed. */
  handles(): readonly SocketHandle[] {
    return [...this.#core.sockets.values()];
  }

  /** Milliseconds of the host's clock, by which calls wait. */
  now(): number {
    return this.#core.host.now();
  }

  /** Milliseconds that the guest lets this handle's calls wait; accept goes by `receive`, connect by `send`. */
  patience(handle: SocketHandle, direction: 'receive' | 'send'): number {
    if (handle.nonBlocking) return 0;
    const { receiveTimeoutUs, sendTimeoutUs } = handle.options;
    return milliseconds(direction === 'receive' ? receiveTimeoutUs : sendTimeoutUs);
  }

  bind(handle: SocketHandle, address: SocketAddress): number {
    return handle.kind === 'tcp' ? tcp.bind(this.#core, handle, address) : udp.bind(this.#core, handle, address);
  }

  listen(handle: SocketHandle, backlog: number): number {
    return handle.kind === 'tcp' ? tcp.listen(this.#core, handle, backlog) : -WASI.ENOTSUP;
  }

  /** A handle for the oldest connection that waits. */
  accept(handle: SocketHandle, timeoutMs = this.patience(handle, 'receive')): SocketHandle | number {
    if (handle.kind !== 'tcp') return -WASI.ENOTSUP;
    const stream = tcp.accept(this.#core, handle, timeoutMs);
    if (typeof stream === 'number') return stream;
    const accepted: TcpSocket = {
      kind: 'tcp',
      id: this.#core.takeId(),
      options: inheritedOptions(handle.options),
      nonBlocking: false,
      state: { name: 'connected', stream, announced: true },
    };
    this.#core.sockets.set(accepted.id, accepted);
    return accepted;
  }

  connect(handle: SocketHandle, remote: SocketAddress, timeoutMs = this.patience(handle, 'send')): number {
    return handle.kind === 'tcp'
      ? tcp.connect(this.#core, handle, remote, timeoutMs)
      : udp.connect(this.#core, handle, remote);
  }

  /** Reads; 0 is the end of a stream, or an empty datagram. `info` is filled in for datagrams. */
  receive(
    handle: SocketHandle,
    buffers: readonly Uint8Array[],
    flags = 0,
    timeoutMs = this.patience(handle, 'receive'),
    info?: DatagramInfo,
  ): number {
    if (handle.kind === 'udp') {
      const into = info ?? { from: udp.localName(handle), truncated: false };
      return udp.receive(this.#core, handle, buffers, flags, timeoutMs, into);
    }
    return tcp.receive(this.#core, handle, buffers, flags, timeoutMs);
  }

  /** Writes; on a stream `to` is ignored, as in Linux. */
  send(
    handle: SocketHandle,
    buffers: readonly Uint8Array[],
    to?: SocketAddress,
    timeoutMs = this.patience(handle, 'send'),
  ): number {
    return handle.kind === 'udp'
      ? udp.send(this.#core, handle, buffers, to, timeoutMs)
      : tcp.send(this.#core, handle, buffers, timeoutMs);
  }

  /** `how`: bits of SHUT. */
  shutdown(handle: SocketHandle, how: number): number {
    return handle.kind === 'tcp' ? tcp.shutdown(this.#core, handle, how) : udp.shutdown(handle, how);
  }

  /** Closes for the guest. A connection whose bytes the peer has not acknowledged lingers. */
  close(handle: SocketHandle): number {
    if (!this.#core.sockets.delete(handle.id)) return -WASI.EBADF;
    if (handle.kind === 'tcp') tcp.close(this.#core, handle);
    else udp.close(this.#core, handle);
    return 0;
  }

  /** The guest has ended: all its handles are closed. Returns how many connections linger. */
  closeAll(): number {
    for (const handle of this.handles()) this.close(handle);
    return this.#core.lingering.size;
  }

  /** 0.0.0.0:0 before a bind. */
  localName(handle: SocketHandle): SocketAddress {
    return handle.kind === 'tcp' ? tcp.localName(handle) : udp.localName(handle);
  }

  /** The peer's address, or -ENOTCONN. */
  remoteName(handle: SocketHandle): SocketAddress | number {
    return handle.kind === 'tcp' ? tcp.remoteName(this.#core, handle) : udp.remoteName(handle);
  }

  setOption(handle: SocketHandle, name: IntOptionName, value: number): number {
    return setIntOption(this.#core.native, handle.kind, kernelFd(handle), handle.options, name, value);
  }

  getOption(handle: SocketHandle, name: IntOptionName): number {
    return getIntOption(this.#core.native, handle.kind, kernelFd(handle), handle.options, name);
  }

  setLinger(handle: SocketHandle, linger: Linger): void {
    handle.options.linger = linger;
  }

  setNonBlocking(handle: SocketHandle, on: boolean): void {
    handle.nonBlocking = on;
  }

  /** See `poll.ts`. */
  poll(requests: readonly PollRequest[], timeoutMs: number): number {
    return poll(this.#core, requests, timeoutMs);
  }

  /** Takes over what the kernel holds; see `drain.ts`. The guest makes no call until thaw. */
  drain(): DrainReport {
    return drainAll(this.#core);
  }

  /** The transfer form, after an export that settled. Connections without a flow are saved as reset. */
  save(flows: readonly FlowReport[]): SavedSockets {
    return saveAll(this.#core, flows);
  }

  /** The move was given up: the guest goes on with the sockets it has. */
  thaw(): void {
    thawAll(this.#core);
  }

  /** Ends every socket at once, connections by RST. */
  destroy(): void {
    const { native, sockets, lingering, backlog } = this.#core;
    for (const fd of tcpFds(this.#core)) native.sockSetLinger(fd, true, 0);
    for (const stream of streams(this.#core)) stream.release();
    for (const handle of sockets.values()) {
      const fd = kernelFd(handle);
      if (fd !== undefined) native.fdClose(fd);
      handle.state = { name: 'closed' };
    }
    sockets.clear();
    lingering.clear();
    backlog.clear();
  }

  /**
   * Sockets of an image, here. `saved` is checked first. Throws KedgeError, leaving nothing open: KEDGE_IMAGE_INVALID,
   * KEDGE_IMAGE_VERSION, KEDGE_RESTORE_ADDRESS, KEDGE_RESTORE_BIND, KEDGE_RESTORE_CONNECT, KEDGE_FLOW_MISMATCH.
   */
  static restore(
    host: SocketHost,
    saved: unknown,
    attached: readonly FlowReport[] | 'without-flows',
    timeoutMs?: number,
  ): SocketTable {
    const { core, refused } = restoreAll(host, parseSavedSockets(saved), attached, timeoutMs);
    return new SocketTable(core, refused);
  }

  /** The move was committed: what the peer has not acknowledged is written, as much as the sockets take now. */
  release(): void {
    this.#core.frozen = false;
    pardon(this.#core, this.#core.host.now());
    // What ends with a RST must not send its FIN before.
    progressLingering(this.#core, this.#core.host.now());
    for (const stream of streams(this.#core)) if (stream.hasBacklog) this.#core.pump(stream);
    this.#core.progress();
  }

  /** Makes progress with tails and lingering connections. Returns how many connections linger. */
  sweep(): number {
    const core = this.#core;
    if (core.frozen) return core.lingering.size;
    core.progress();
    for (const stream of streams(core)) if (stream.tail.length > 0) stream.trimAcknowledged();
    progressLingering(core, core.host.now());
    return core.lingering.size;
  }
}

function openUdp(fd: SocketFd): UdpSocket['state'] {
  return { name: 'open', fd, local: undefined, remote: undefined, queue: [], shut: 0 };
}
