/**
 * Connections that the guest has closed, but whose bytes or FIN the peer has not acknowledged. A kernel keeps such a socket as
 * an orphan; here it stays with the guest, since it must move with it (S49): an orphan would stay behind.
 *
 * The guest's close gives the FIN to the kernel by shutdown, not by close. Then, as a kernel would: data that still comes in is
 * answered with a RST; once the FIN is acknowledged the peer has a minute to end its half; and a peer that acknowledges nothing
 * more, because its window stays shut or because it is gone, is given up. The kernel would ask a shut window for ever: it takes
 * the socket for one that somebody has.
 *
 * Limit: SO_LINGER with a time does not make a close wait. What it is for, that the bytes still arrive, holds for every close.
 */
import { TCP_STATE } from '../native.ts';
import type { Native } from '../native.ts';
import type { Linger } from './options.ts';
import type { TcpStream } from './stream.ts';

/** How long a connection waits for the peer's FIN after its own is acknowledged, ms: Linux's `tcp_fin_timeout`. */
export const FIN_WAIT_TIMEOUT = 60_000;

/**
 * How long a connection waits for the peer to acknowledge more, ms. Linux gives an orphan up after 8 unanswered retransmissions, or,
 * while its peer still says that the window is shut, when its probes have become two minutes long: after 100 s at the least.
 */
export const STALL_TIMEOUT = 120_000;
/** What is left of that at least after a freeze, ms: the peer may have made room meanwhile, and is asked again first. */
const STALL_GRACE = 30_000;

/** The part of the guest's sockets that this file needs. */
export interface LingerRoom {
  readonly native: Native;
  readonly lingering: Set<Lingering>;
  readonly backlog: Set<TcpStream>;
}

export interface Lingering {
  readonly stream: TcpStream;
  /** When the FIN was first seen acknowledged. */
  finAckedAt: number | undefined;
  /** How far the peer had acknowledged the guest's bytes at the last look. */
  acked: number;
  /** When that was first seen. Time that an image lies about does not count, the idle time before it does. */
  ackedAt: number;
  /** Data came in for it: it ends with a RST. */
  doomed: boolean;
}

/** The guest has closed a connection. With data it has not read, or SO_LINGER of 0 s, that resets it (RFC 1122 §4.2.2.13). */
export function leave(room: LingerRoom, stream: TcpStream, linger: Linger, now: number): void {
  const fd = stream.fd;
  if (fd === undefined) return;
  if (stream.inbound.length > 0 || room.native.sockInQueue(fd) > 0 || (linger.on && linger.seconds === 0)) {
    room.backlog.delete(stream);
    stream.reset();
    return;
  }
  stream.endWriting();
  if (!stream.pump()) room.backlog.add(stream);
  const lingering = lingeringOf(stream, false, 0, now);
  if (!settle(room, lingering, now)) room.lingering.add(lingering);
}

/** What a stream is that the guest has closed. `idle`: ms since the peer last acknowledged more. */
export function lingeringOf(stream: TcpStream, doomed: boolean, idle: number, now: number): Lingering {
  return { stream, finAckedAt: undefined, acked: stream.acknowledged(), ackedAt: now - idle, doomed };
}

/** A freeze has ended: nobody is given up for what happened during it. */
export function pardon(room: LingerRoom, now: number): void {
  for (const lingering of room.lingering) {
    lingering.ackedAt = Math.max(lingering.ackedAt, now - (STALL_TIMEOUT - STALL_GRACE));
  }
}

/** Looks after all lingering connections; those that are over leave the set. */
export function progressLingering(room: LingerRoom, now: number): void {
  for (const lingering of room.lingering) if (settle(room, lingering, now)) room.lingering.delete(lingering);
}

/** True when it is over: then its socket is closed. */
function settle(room: LingerRoom, lingering: Lingering, now: number): boolean {
  const { stream } = lingering;
  const fd = stream.fd;
  if (fd === undefined) return true;
  const state = room.native.sockTcpState(fd);
  const ended = state === TCP_STATE.CLOSE || state === TCP_STATE.TIME_WAIT;
  const acknowledged = ended || state === TCP_STATE.FIN_WAIT2;
  if (lingering.doomed || room.native.sockInQueue(fd) > 0 || (!acknowledged && stalled(lingering, now))) {
    room.backlog.delete(stream);
    stream.reset();
    return true;
  }
  if (!acknowledged) return false;
  lingering.finAckedAt ??= now;
  if (!ended && now - lingering.finAckedAt < FIN_WAIT_TIMEOUT) return false;
  room.backlog.delete(stream);
  stream.release();
  return true;
}

/** Takes note of what the peer has acknowledged. True when that has been the same for too long. */
function stalled(lingering: Lingering, now: number): boolean {
  const acked = lingering.stream.acknowledged();
  if (acked !== lingering.acked) {
    lingering.acked = acked;
    lingering.ackedAt = now;
  }
  return now - lingering.ackedAt >= STALL_TIMEOUT;
}
