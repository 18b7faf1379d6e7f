/**
 * Connections that the guest has closed, but whose bytes or FIN the peer has not acknowledged. A kernel keeps such a socket as
 * an orphan; here it stays with the guest, since it must move with it (S49): an orphan would stay behind.
 *
 * The guest's close gives the FIN to the kernel by shutdown, not by close. Then, as a kernel would: data that still comes in is
 * answered with a RST; once the FIN is acknowledged the peer has a minute to end its half.
 *
 * Limit: SO_LINGER with a time does not make a close wait. What it is for, that the bytes still arrive, holds for every close.
 */
import { TCP_STATE } from '../native.ts';
import type { Native } from '../native.ts';
import type { Linger } from './options.ts';
import type { TcpStream } from './stream.ts';

/** How long a connection waits for the peer's FIN after its own is acknowledged, ms: Linux's `tcp_fin_timeout`. */
export const FIN_WAIT_TIMEOUT = 60_000;

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
  const lingering: Lingering = { stream, finAckedAt: undefined, doomed: false };
  if (!settle(room, lingering, now)) room.lingering.add(lingering);
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
  if (lingering.doomed || room.native.sockInQueue(fd) > 0) {
    room.backlog.delete(stream);
    stream.reset();
    return true;
  }
  const state = room.native.sockTcpState(fd);
  if (state === TCP_STATE.FIN_WAIT2) {
    lingering.finAckedAt ??= now;
    if (now - lingering.finAckedAt < FIN_WAIT_TIMEOUT) return false;
  } else if (state !== TCP_STATE.CLOSE && state !== TCP_STATE.TIME_WAIT) {
    return false;
  }
  room.backlog.delete(stream);
  stream.release();
  return true;
}
