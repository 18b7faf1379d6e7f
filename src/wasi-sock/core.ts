/**
 * What all socket operations of one guest share: the kernel, the guest's address, and the work that goes on beside the call the
 * guest has made.
 *
 * That work: a connection whose tail is not in its (new) kernel socket yet is pumped, and a lingering connection is looked after
 * until the peer has everything. There is no thread for it: it is done in passing, at each socket call, and while a call waits
 * the descriptors it needs are waited for too. A guest that computes for long without a socket call makes no progress here;
 * `SocketTable.sweep` is for its keeper to call.
 */
import { ERRNO, POLL } from '../native.ts';
import type { Native, SocketFd, WakeFd } from '../native.ts';
import type { Ipv4 } from '../rewrite/numbers.ts';
import { INADDR_ANY } from './address.ts';
import { localAddress } from './handle.ts';
import type { SocketHandle } from './handle.ts';
import { progressLingering } from './linger.ts';
import type { Lingering } from './linger.ts';
import type { TcpStream } from './stream.ts';

/** What the sockets of a guest stand on. */
export interface SocketHost {
  readonly native: Native;
  /** Interrupts calls that wait; level-triggered. */
  readonly wakeFd: WakeFd;
  /** The one address of the guest: what INADDR_ANY means to it, and the source of all it sends. */
  readonly guestAddress: Ipv4;
  /** Milliseconds of a clock that never goes back. */
  now(): number;
}

/** Lingering connections are looked after at most this often in passing, ms. */
const LINGER_INTERVAL = 100;
/** A call that waits wakes up this often while connections linger, ms. */
const LINGER_SLICE = 1000;
const LOOPBACK_NET = 127;

export class SocketCore {
  readonly host: SocketHost;
  readonly native: Native;
  readonly sockets = new Map<number, SocketHandle>();
  readonly lingering = new Set<Lingering>();
  /** Connections with bytes (or a FIN) that their kernel socket has not taken yet. */
  readonly backlog = new Set<TcpStream>();
  /** Room for one datagram or a piece of a stream; nothing in it outlives a call. */
  readonly scratch = new Uint8Array(64 * 1024);
  /** `[address, port]` of the last call that gave one. */
  readonly name = new Uint32Array(2);
  /** From drain to thaw, and from restore to release: kernel sockets are left as they are. */
  frozen = false;
  #pollSet = new Int32Array(3 * 16);
  #nextLook = 0;
  #nextId = 1;

  constructor(host: SocketHost) {
    this.host = host;
    this.native = host.native;
  }

  get wakeFd(): WakeFd {
    return this.host.wakeFd;
  }

  get nextId(): number {
    return this.#nextId;
  }

  /** Ids below have been used. */
  set nextId(id: number) {
    this.#nextId = Math.max(this.#nextId, id);
  }

  takeId(): number {
    const id = this.#nextId;
    this.#nextId += 1;
    return id;
  }

  /** Whether the guest may bind to an address: only its own, or any. */
  isOwnAddress(address: Ipv4): boolean {
    return address === INADDR_ANY || address === this.host.guestAddress;
  }

  /** Addresses of the host's own loopback: no guest may reach them. (Tests have guests that live there.) */
  isForbidden(address: Ipv4): boolean {
    const onLoopback = this.host.guestAddress >>> 24 === LOOPBACK_NET;
    return address === INADDR_ANY || (address >>> 24 === LOOPBACK_NET && !onLoopback);
  }

  /** TCP handles of the guest that have a local port, in any state but closed. */
  tcpHandlesOn(port: number): SocketHandle[] {
    return [...this.sockets.values()].filter((s) => s.kind === 'tcp' && localAddress(s)?.port === port);
  }

  /** Pumps what can be pumped; looks after lingering connections unless that was done just now. */
  progress(): void {
    if (this.frozen) return;
    for (const stream of this.backlog) if (stream.pump()) this.backlog.delete(stream);
    if (this.lingering.size === 0) return;
    const now = this.host.now();
    if (now < this.#nextLook) return;
    this.#nextLook = now + LINGER_INTERVAL;
    progressLingering(this, now);
  }

  /** Remembers a stream that could not be pumped whole. */
  pump(stream: TcpStream): void {
    if (stream.pump()) this.backlog.delete(stream);
    else this.backlog.add(stream);
  }

  /**
   * Runs `attempt` until it says something else than -EAGAIN, or the time is up. It gets the milliseconds it may wait itself
   * (0: not at all; negative: for ever). Beside `fd` the background's descriptors are waited for, and it goes on meanwhile.
   */
  blocking(fd: SocketFd, events: number, timeoutMs: number, attempt: (timeoutMs: number) => number): number {
    if (this.backlog.size === 0 && this.lingering.size === 0) return attempt(timeoutMs);
    const deadline = this.deadline(timeoutMs);
    for (;;) {
      this.progress();
      const result = attempt(0);
      if (result !== -ERRNO.EAGAIN) return result;
      const left = this.remaining(deadline);
      if (left === 0) return result;
      const set = this.pollSet(1);
      set[0] = fd;
      set[1] = events;
      const polled = this.waitBeside(1, left);
      if (polled < 0) return polled;
    }
  }

  /** A point in time from a timeout; negative is for ever. */
  deadline(timeoutMs: number): number {
    return timeoutMs < 0 ? Infinity : this.host.now() + timeoutMs;
  }

  /** Milliseconds until a point in time, -1 for ever, 0 when it has passed. */
  remaining(deadline: number): number {
    return deadline === Infinity ? -1 : Math.max(0, deadline - this.host.now());
  }

  /** The set for `waitBeside`, with room for so many triples; what was in it may be lost. */
  pollSet(count: number): Int32Array {
    const needed = 3 * (count + this.backlog.size);
    if (this.#pollSet.length < needed) this.#pollSet = new Int32Array(2 * needed);
    return this.#pollSet;
  }

  /**
   * Waits for the first `count` triples of the set, and for what the background needs. A native result; 0 also when only the
   * background had something to do, or it is time to look after it.
   */
  waitBeside(count: number, timeoutMs: number): number {
    const set = this.#pollSet;
    let all = count;
    for (const stream of this.backlog) {
      set[3 * all] = stream.fd ?? -1;
      set[3 * all + 1] = POLL.OUT;
      all += 1;
    }
    const slice = this.lingering.size > 0 && (timeoutMs < 0 || timeoutMs > LINGER_SLICE) ? LINGER_SLICE : timeoutMs;
    const result = this.native.pollMany(set, all, this.wakeFd, slice);
    return result <= 0 ? result : Math.min(result, this.#ready(count));
  }

  #ready(count: number): number {
    let ready = 0;
    for (let i = 0; i < count; i += 1) if (this.#pollSet[3 * i + 2] !== 0) ready += 1;
    return ready;
  }
}
