/**
 * One established TCP connection of the guest: a kernel socket and the bytes that the kernel's socket alone cannot keep over a
 * move (docs/splice.md, Drain).
 *
 * Inbound: `inbound.end` is K, the count of bytes ever read from the kernel; `inbound.start` is what the guest has read. In
 * normal running the bytes go straight to the guest and both move together; a drain puts them in between.
 *
 * Outbound: `tail.end` counts what the guest ever wrote; `tail.start` is at most what the peer has acknowledged. `given` is how
 * far the present kernel socket has taken them. In normal running `given` is the tail's end, since the guest is told no more
 * than the kernel took; after a restore the new socket begins at the peer's last ACK and the rest is pumped, before
 * anything new (S2, S3).
 */
import { ERRNO, NO_WAKE, TCP_STATE } from '../native.ts';
import type { Native, SocketFd, WakeFd } from '../native.ts';
import type { SocketAddress } from './address.ts';
import { WASI, wasiErrno } from './errno.ts';
import type { WasiErrno } from './errno.ts';
import { StreamBuffer } from './tail.ts';

/** What stands behind a connection. */
export type Link =
  /** A kernel socket. Bytes of the guest's stream below `given` are in it. */
  | { readonly name: 'alive'; readonly fd: SocketFd; given: number }
  /** Both directions have ended and are acknowledged: nothing but the bytes in `inbound` is left. */
  | { readonly name: 'finished' }
  /** Reset, timed out, or lost in a restore without flows. The guest is told once, after what is left in `inbound`. */
  | { readonly name: 'broken'; readonly errno: WasiErrno; told: boolean };

/** The guest's half: still writing; has ended, FIN not given to the kernel yet; FIN given (or acknowledged). */
export type Outgoing = 'open' | 'closing' | 'closed';

/** A first look at what is acknowledged is taken when the tail has grown to this, bytes. */
const FIRST_TRIM = 64 * 1024;

export class TcpStream {
  readonly local: SocketAddress;
  readonly remote: SocketAddress;
  link: Link;
  inbound = new StreamBuffer();
  tail = new StreamBuffer();
  outgoing: Outgoing = 'open';
  /** The peer's FIN was read. */
  peerEnded = false;
  /** The guest has shut reading down: it gets what is there, and never waits. */
  readShut = false;
  readonly #native: Native;
  #trimAt = FIRST_TRIM;

  constructor(native: Native, local: SocketAddress, remote: SocketAddress, link: Link) {
    this.#native = native;
    this.local = local;
    this.remote = remote;
    this.link = link;
  }

  /** The kernel's socket, if there is one. */
  get fd(): SocketFd | undefined {
    return this.link.name === 'alive' ? this.link.fd : undefined;
  }

  /** K: bytes ever read from the kernel. */
  get received(): number {
    return this.inbound.end;
  }

  /** Bytes the guest ever wrote. */
  get written(): number {
    return this.tail.end;
  }

  /** Bytes or a FIN wait to be given to the kernel. */
  get hasBacklog(): boolean {
    return this.link.name === 'alive' && (this.link.given < this.tail.end || this.outgoing === 'closing');
  }

  /** True when a read has an answer without asking the kernel. */
  get readable(): boolean {
    return this.inbound.length > 0 || this.peerEnded || this.readShut || this.link.name !== 'alive';
  }

  /**
   * Reads once: held bytes first, then the kernel's. A native result: bytes, 0 at the end, -errno (Linux). `-EAGAIN` when
   * nothing came in time.
   */
  receive(target: Uint8Array, length: number, peek: boolean, wake: WakeFd, timeoutMs: number): number {
    if (length === 0) return 0;
    if (this.inbound.length > 0) {
      const taken = this.inbound.copyTo(target, 0, length);
      if (!peek) this.inbound.trim(this.inbound.start + taken);
      return taken;
    }
    if (this.link.name !== 'alive' || this.peerEnded) return 0;
    const wait = this.readShut ? 0 : timeoutMs;
    const result = this.#native.sockRecv(this.link.fd, target, 0, length, peek, wake, wait);
    if (result > 0 && !peek) this.inbound.skip(result);
    return this.#ended(result);
  }

  /** Reads from the kernel into `inbound`, once. As `receive`, which then finds the bytes. */
  collect(scratch: Uint8Array, length: number, wake: WakeFd, timeoutMs: number): number {
    if (this.link.name !== 'alive' || this.peerEnded) return 0;
    const wanted = Math.min(scratch.length, length);
    const result = this.#native.sockRecv(this.link.fd, scratch, 0, wanted, false, wake, timeoutMs);
    if (result > 0) this.inbound.append(scratch, 0, result);
    return this.#ended(result);
  }

  /** Reads the kernel's queue dry. True when anything new came: bytes, the peer's FIN, an error. */
  drain(scratch: Uint8Array): boolean {
    if (this.link.name !== 'alive') return false;
    if (this.peerEnded) return this.#bury();
    let news = false;
    for (;;) {
      const result = this.collect(scratch, scratch.length, NO_WAKE, 0);
      if (result > 0) news = true;
      else return news || this.peerEnded || this.link.name !== 'alive';
    }
  }

  #ended(result: number): number {
    if (result === 0) {
      this.peerEnded = true;
      this.#bury();
    } else if (result < 0) {
      if (result === -ERRNO.EAGAIN && this.readShut) return 0;
      this.#judge(result);
    }
    return result;
  }

  /**
   * A peer that ends and then resets leaves a closed socket that only says that it has ended, whatever comes first. It is nobody's end
   * of a connection any more: its peer may have a new one from the same port. True when it was so.
   */
  #bury(): boolean {
    if (this.link.name !== 'alive' || this.#native.sockTcpState(this.link.fd) !== TCP_STATE.CLOSE) return false;
    if (this.outgoing === 'closed' && this.unacknowledged() === 0) this.release();
    // Reading goes on to say that it has ended; writing fails, as the kernel's does.
    else this.break(WASI.EPIPE);
    return true;
  }

  /** An error of the kernel ends the connection when its socket is closed; others pass. */
  #judge(error: number): void {
    if (error === -ERRNO.EAGAIN || error === -ERRNO.EINTR || this.link.name !== 'alive') return;
    if (this.#native.sockTcpState(this.link.fd) === TCP_STATE.CLOSE) this.break(wasiErrno(error));
  }

  /** Gives the kernel bytes the guest writes now; those before must be there. A native result: bytes taken, or -errno. */
  give(data: Uint8Array, offset: number, length: number, wake: WakeFd, timeoutMs: number): number {
    const link = this.link;
    if (link.name !== 'alive') return -ERRNO.EPIPE;
    const result = this.#native.sockSend(link.fd, data, offset, length, wake, timeoutMs);
    if (result < 0) {
      this.#judge(result);
      return result;
    }
    this.tail.append(data, offset, result);
    link.given += result;
    if (this.tail.length >= this.#trimAt) this.trimAcknowledged();
    return result;
  }

  /** Gives the kernel what it takes of the backlog, then the FIN if the guest has ended. True when nothing is left. */
  pump(): boolean {
    const link = this.link;
    if (link.name !== 'alive') return true;
    while (link.given < this.tail.end) {
      const part = this.tail.view(link.given);
      const result = this.#native.sockSend(link.fd, part, 0, part.length, NO_WAKE, 0);
      if (result < 0) {
        this.#judge(result);
        return !this.hasBacklog;
      }
      link.given += result;
    }
    if (this.outgoing === 'closing') {
      this.#native.sockShutdown(link.fd, 1);
      this.outgoing = 'closed';
    }
    return true;
  }

  /** Bytes the present kernel socket sent that the peer has not acknowledged, and one for a FIN; 0 without a socket. */
  unacknowledged(): number {
    return this.link.name === 'alive' ? Math.max(0, this.#native.sockOutQueue(this.link.fd)) : 0;
  }

  /** How far the peer is known to have the guest's bytes. */
  acknowledged(): number {
    const link = this.link;
    const queued = link.name === 'alive' ? this.#native.sockOutQueue(link.fd) : -1;
    if (link.name !== 'alive' || queued < 0) return this.tail.start;
    // One is the FIN.
    const bytes = this.outgoing === 'closed' ? Math.max(0, queued - 1) : queued;
    return Math.max(this.tail.start, link.given - bytes);
  }

  /** Forgets the part of the tail that the peer is known to have. */
  trimAcknowledged(): void {
    if (this.link.name !== 'alive') return;
    this.tail.trim(this.acknowledged());
    // The next look costs a system call: it is taken when the tail has doubled, so that looks are rare.
    this.#trimAt = Math.max(FIRST_TRIM, this.tail.length * 2);
  }

  /** The guest writes no more. */
  endWriting(): void {
    if (this.outgoing === 'open') this.outgoing = 'closing';
    this.pump();
  }

  /** The connection is over by an error, which the guest is told once. What the kernel still holds is kept for it. */
  break(errno: WasiErrno, told = false): void {
    const link = this.link;
    if (link.name === 'alive') {
      const scratch = new Uint8Array(64 * 1024);
      this.link = { name: 'broken', errno, told };
      for (let n = this.#read(link.fd, scratch); n > 0; n = this.#read(link.fd, scratch)) {
        this.inbound.append(scratch, 0, n);
      }
      this.#native.fdClose(link.fd);
    } else {
      this.link = { name: 'broken', errno, told };
    }
    this.tail.trim(this.tail.end);
  }

  #read(fd: SocketFd, scratch: Uint8Array): number {
    return this.#native.sockRecv(fd, scratch, 0, scratch.length, false, NO_WAKE, 0);
  }

  /** The error the guest has not been told yet, as a positive WASI errno; 0 when there is none. It is told now. */
  takeError(): WasiErrno {
    if (this.link.name !== 'broken' || this.link.told) return 0;
    this.link.told = true;
    return this.link.errno;
  }

  /** Ends the connection with a RST, at once. */
  reset(): void {
    if (this.link.name !== 'alive') return;
    this.#native.sockSetLinger(this.link.fd, true, 0);
    this.release();
  }

  /** Closes the kernel's socket as it is set. */
  release(): void {
    if (this.link.name !== 'alive') return;
    this.#native.fdClose(this.link.fd);
    this.link = { name: 'finished' };
  }
}
