/**
 * From the transfer form to live sockets on this host (docs/splice.md, Attach).
 *
 * The order is that of S14, tried: bind all, then listen, then connect. A connection that the guest once accepted is opened again
 * actively from the listener's port; that bind works only while nobody listens there. The connects run in parallel; the
 * gateway answers each SYN itself, so they are there within a round trip to it.
 *
 * A connect that the peer had not answered at the cut is begun anew too, but not waited for: the gateway passes its SYN on
 * at commit. Nothing is written until `release`.
 *
 * A connect that is refused is of a connection that its peer has reset since the attach: the guest is told at its next use, and the
 * caller which ones those were, to hold them against what the gateway knows (S32).
 *
 * A failure closes everything that was opened, by RST, and says which connection it was.
 */
import { KedgeError } from '../errors.ts';
import { ERRNO, POLL } from '../native.ts';
import type { SocketFd } from '../native.ts';
import { formatIpv4 } from '../rewrite/numbers.ts';
import { connectionKey, formatAddress, socketAddress } from './address.ts';
import type { SocketAddress } from './address.ts';
import { SocketCore } from './core.ts';
import type { SocketHost } from './core.ts';
import { type TextAddress, textAddress } from './drain.ts';
import { WASI } from './errno.ts';
import type { WasiErrno } from './errno.ts';
import type { Datagram, SocketHandle, TcpState } from './handle.ts';
import { lingeringOf } from './linger.ts';
import { applyOptions, defaultOptions, openKernelSocket, setKernelReuse } from './options.ts';
import type { GuestOptions, IntOptionName } from './options.ts';
import { INTERRUPTED, bindError, connectError, openError } from './restore-errors.ts';
import { formatSaved, indexFlows } from './save.ts';
import type { FlowReport, Flows } from './save.ts';
import type {
  SavedAddress,
  SavedLingering,
  SavedOptions,
  SavedSocket,
  SavedSockets,
  SavedStream,
  SavedTcpState,
} from './saved.ts';
import { TcpStream } from './stream.ts';
import { StreamBuffer } from './tail.ts';

/** How long all connects together may take, ms. */
export const RESTORE_TIMEOUT = 10_000;

interface Connect {
  readonly fd: SocketFd;
  readonly local: SocketAddress;
  readonly remote: SocketAddress;
  /** The connection it is for; none for one that the peer has to answer, which is not waited for. */
  readonly stream: TcpStream | undefined;
}

/** A connection by its two ends, the guest's first. */
export interface Refused {
  readonly local: TextAddress;
  readonly remote: TextAddress;
}

export interface Restored {
  readonly core: SocketCore;
  /** Connections that were reset while they were restored. */
  readonly refused: readonly Refused[];
}

/** Restores with the flows that an attach has given, or without: then every connection is a reset one. */
export function restoreAll(
  host: SocketHost,
  saved: SavedSockets,
  attached: readonly FlowReport[] | 'without-flows',
  timeoutMs = RESTORE_TIMEOUT,
): Restored {
  const restoring = new Restoring(host, saved, attached === 'without-flows' ? undefined : indexFlows(attached));
  try {
    return { core: restoring.run(timeoutMs), refused: restoring.refused };
  } catch (error) {
    restoring.undo();
    throw error;
  }
}

class Restoring {
  readonly #core: SocketCore;
  readonly #saved: SavedSockets;
  readonly #flows: Flows | undefined;
  readonly refused: Refused[] = [];
  readonly #opened = new Set<SocketFd>();
  readonly #listeners: { readonly fd: SocketFd; readonly local: SocketAddress; readonly backlog: number }[] = [];
  readonly #connects: Connect[] = [];

  constructor(host: SocketHost, saved: SavedSockets, flows: Flows | undefined) {
    this.#core = new SocketCore(host);
    this.#saved = saved;
    this.#flows = flows;
  }

  run(timeoutMs: number): SocketCore {
    const core = this.#core;
    const saved = this.#saved;
    const own = core.host.guestAddress;
    if (this.#flows !== undefined && saved.guestAddress !== own) {
      throw new KedgeError(
        'KEDGE_RESTORE_ADDRESS',
        `the image's guest has the address ${formatIpv4(saved.guestAddress)}, this one ${formatIpv4(own)}`,
        { hint: 'connections move only with their address: kedge restore FILE --without-flows leaves them behind' },
      );
    }
    core.frozen = true;
    core.nextId = saved.nextId;
    for (const socket of saved.sockets) core.sockets.set(socket.id, this.#socket(socket));
    for (const lingering of saved.lingering) this.#lingering(lingering);
    this.#listen();
    this.#connect(timeoutMs);
    return core;
  }

  undo(): void {
    const { native } = this.#core;
    for (const fd of this.#opened) {
      native.sockSetLinger(fd, true, 0);
      native.fdClose(fd);
    }
  }

  #socket(saved: SavedSocket): SocketHandle {
    const { id, nonBlocking } = saved;
    const options = liveOptions(saved.options);
    if (saved.kind === 'tcp') return { kind: 'tcp', id, nonBlocking, options, state: this.#tcp(saved.state, options) };
    const local = saved.local === null ? undefined : this.#ownAddress(saved.local);
    const remote = saved.remote === null ? undefined : live(saved.remote);
    const fd = this.#open('udp', options);
    if (local !== undefined) this.#bind(fd, local);
    if (remote !== undefined) {
      const result = this.#core.native.sockConnectStart(fd, remote.address, remote.port);
      if (result < 0) throw connectError(local ?? remote, remote, result);
    }
    const queue: Datagram[] = saved.queue.map(({ from, bytes }) => ({ from: live(from), bytes }));
    return {
      kind: 'udp',
      id,
      nonBlocking,
      options,
      state: { name: 'open', fd, local, remote, queue, shut: saved.shut },
    };
  }

  #tcp(saved: SavedTcpState, options: GuestOptions): TcpState {
    switch (saved.name) {
      case 'open': {
        const local = saved.local === null ? undefined : this.#ownAddress(saved.local);
        return this.#openSocket(local, saved.error as WasiErrno, options);
      }
      case 'listening': {
        const local = this.#ownAddress(saved.local);
        const fd = this.#bound(local, options);
        this.#listeners.push({ fd, local, backlog: saved.backlog });
        const pending = saved.pending.map((stream) => this.#stream(stream, options));
        // Without flows nobody has been told of them: they are gone as if their peers had left.
        const alive = pending.filter((stream) => stream.link.name === 'alive' || this.#flows !== undefined);
        return { name: 'listening', fd, local, backlog: saved.backlog, pending: alive };
      }
      case 'connecting': {
        const local = this.#ownAddress(saved.local);
        const remote = live(saved.remote);
        const flow = this.#flows?.get(connectionKey(local, remote));
        if (flow === undefined || flow.reset === true) {
          return this.#openSocket(local, this.#flows === undefined ? WASI.ECONNRESET : WASI.ECONNREFUSED, options);
        }
        const fd = this.#bound(local, options);
        this.#connects.push({ fd, local, remote, stream: undefined });
        return { name: 'connecting', fd, local, remote };
      }
      case 'connected':
        return { name: 'connected', stream: this.#stream(saved.stream, options), announced: saved.announced };
    }
  }

  #openSocket(local: SocketAddress | undefined, error: WasiErrno, options: GuestOptions): TcpState {
    const fd = local === undefined ? this.#open('tcp', options) : this.#bound(local, options);
    return { name: 'open', fd, local, error };
  }

  #stream(saved: SavedStream, options: GuestOptions): TcpStream {
    const local = live(saved.local);
    const remote = live(saved.remote);
    const stream = new TcpStream(this.#core.native, local, remote, { name: 'finished' });
    stream.inbound = new StreamBuffer(saved.readOffset, saved.inbound);
    stream.tail = new StreamBuffer(saved.tailOffset, saved.tail);
    stream.peerEnded = saved.peerEnded;
    stream.readShut = saved.readShut;
    stream.outgoing = saved.writingEnded ? 'closing' : 'open';
    if (this.#flows === undefined && saved.link !== 'finished' && !saved.told) {
      // A copy has no claim on what its original is still reading and writing.
      stream.inbound = new StreamBuffer(stream.inbound.end);
      stream.peerEnded = false;
      stream.break(WASI.ECONNRESET);
    } else if (saved.link === 'broken') {
      stream.link = { name: 'broken', errno: saved.errno as WasiErrno, told: saved.told };
    } else if (saved.link === 'open') {
      this.#reopen(stream, this.#flows?.get(connectionKey(local, remote)), options);
    }
    return stream;
  }

  /** Gives a stream a kernel socket that goes on where the peer's acknowledgements are now (S47). */
  #reopen(stream: TcpStream, flow: FlowReport | undefined, options: GuestOptions): void {
    const { local, remote, tail } = stream;
    if (flow === undefined || flow.reset === true) return stream.break(WASI.ECONNRESET);
    this.#ownAddress(local);
    if (flow.received !== stream.received || flow.acked < tail.start || flow.acked > tail.end) {
      throw new KedgeError(
        'KEDGE_FLOW_MISMATCH',
        `${formatAddress(local)} to ${formatAddress(remote)}: the image has ${stream.received} bytes received and ` +
          `${tail.start} to ${tail.end} written, the gateway ${flow.received} received and ${flow.acked} acknowledged`,
        { hint: 'image and gateway are not of the same cut' },
      );
    }
    tail.trim(flow.acked);
    if (flow.finAcked && stream.peerEnded) return;
    const fd = this.#bound(local, options);
    stream.link = { name: 'alive', fd, given: flow.acked };
    this.#connects.push({ fd, local, remote, stream });
  }

  #lingering({ stream: saved, doomed, idle }: SavedLingering): void {
    const flow = this.#flows?.get(connectionKey(live(saved.local), live(saved.remote)));
    // With its FIN acknowledged there is nothing left for a socket to do: the gateway sees to the peer's.
    if (flow === undefined || (flow.finAcked && !doomed)) return;
    const stream = this.#stream(saved, defaultOptions());
    if (stream.link.name === 'alive')
      this.#core.lingering.add(lingeringOf(stream, doomed, idle, this.#core.host.now()));
  }

  #open(transport: 'tcp' | 'udp', options: GuestOptions): SocketFd {
    const { native } = this.#core;
    const fd = openKernelSocket(native, transport);
    if (fd < 0) throw openError(fd);
    this.#opened.add(fd as SocketFd);
    applyOptions(native, transport, fd as SocketFd, options);
    return fd as SocketFd;
  }

  #bound(local: SocketAddress, options: GuestOptions): SocketFd {
    const fd = this.#open('tcp', options);
    setKernelReuse(this.#core.native, fd);
    this.#bind(fd, local);
    return fd;
  }

  #bind(fd: SocketFd, local: SocketAddress): void {
    const result = this.#core.native.sockBind(fd, local.address, local.port);
    if (result < 0) throw bindError('bind', local, result);
  }

  /** The saved address as one of this guest. Without flows the guest may have another. */
  #ownAddress(saved: SavedAddress): SocketAddress {
    const own = this.#core.host.guestAddress;
    if (saved.address === own || this.#flows === undefined) return socketAddress(own, saved.port);
    throw new KedgeError('KEDGE_IMAGE_INVALID', `a socket of the image is bound to ${formatSaved(saved)}`, {
      hint: `the guest's address is ${formatIpv4(own)}`,
    });
  }

  #listen(): void {
    for (const { fd, local, backlog } of this.#listeners) {
      const result = this.#core.native.sockListen(fd, backlog);
      if (result < 0) throw bindError('listen at', local, result);
    }
  }

  #connect(timeoutMs: number): void {
    const { native } = this.#core;
    const waiting = new Set<Connect>();
    for (const connect of this.#connects) {
      const { fd, remote, stream } = connect;
      const result = native.sockConnectStart(fd, remote.address, remote.port);
      if (stream === undefined || result === 0) continue;
      if (result === -ERRNO.EINPROGRESS) waiting.add(connect);
      else this.#failed(connect, result);
    }
    this.#await(waiting, timeoutMs);
  }

  #await(waiting: Set<Connect>, timeoutMs: number): void {
    const { native, wakeFd } = this.#core;
    const deadline = this.#core.deadline(timeoutMs);
    while (waiting.size > 0) {
      const list = [...waiting];
      const set = new Int32Array(list.flatMap(({ fd }) => [fd, POLL.OUT, 0]));
      const ready = native.pollMany(set, list.length, wakeFd, this.#core.remaining(deadline));
      if (ready <= 0) {
        const why = ready === 0 ? `no answer within ${timeoutMs} ms` : INTERRUPTED;
        const [first] = list;
        if (first !== undefined) throw connectError(first.local, first.remote, why);
      }
      list.forEach((connect, i) => {
        if (set[3 * i + 2] !== 0 && this.#connected(connect)) waiting.delete(connect);
      });
    }
  }

  /** Whether there is nothing more to wait for. */
  #connected(connect: Connect): boolean {
    const { native, wakeFd } = this.#core;
    const result = native.sockConnectWait(connect.fd, wakeFd, 0);
    if (result === -ERRNO.EAGAIN || result === -ERRNO.EINTR) return false;
    if (result !== 0) this.#failed(connect, result);
    return true;
  }

  #failed({ fd, local, remote, stream }: Connect, result: number): void {
    if (result !== -ERRNO.ECONNREFUSED || stream === undefined) throw connectError(local, remote, result);
    this.refused.push({ local: textAddress(local), remote: textAddress(remote) });
    this.#opened.delete(fd);
    stream.break(WASI.ECONNRESET);
  }
}

function live({ address, port }: SavedAddress): SocketAddress {
  return socketAddress(address, port);
}

function liveOptions(saved: SavedOptions): GuestOptions {
  return {
    ints: new Map(Object.entries(saved.ints) as [IntOptionName, number][]),
    linger: { on: saved.lingerOn, seconds: saved.lingerSeconds },
    receiveTimeoutUs: saved.receiveTimeoutUs,
    sendTimeoutUs: saved.sendTimeoutUs,
  };
}
