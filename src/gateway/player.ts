/**
 * The gateway as the sender of custody to the guest's socket (S44).
 *
 * Theory of operation. Custody is sent in order within the guest's window and a congestion window that opens as the guest
 * acknowledges; what is not acknowledged in time is sent again from RCV.NXT on, and three duplicate ACKs repeat the first
 * missing segment (RFC 5681). The peer's fresh bytes queue behind, in custody. When all of it was sent once and the guest's own
 * right edge has reached the highest ever shown to the peer, the peer's segments pass directly again (S45); custody stays until
 * it is acknowledged, and is still repeated from here.
 *
 * Limits. The retransmission timer is a constant that doubles, not an estimate: the way to a host is short and rarely loses.
 */
import { CHUNK_BYTES } from './arena.ts';
import type { PlaneContext } from './context.ts';
import { ackPeer, playSegment, rstGuest, synGuest } from './emit.ts';
import {
  GREETING,
  HAS_TS,
  LIVE,
  OWNED,
  PEER_RESET,
  REOPENING,
  RESET_AFTER,
  SYNCHRONIZED,
  WINDOW_CLOSED,
} from './flow.ts';
import { noteAsked } from './silence.ts';
import { dataOffset, endByReset, hasEnded } from './state.ts';
import { rightEdge } from './windows.ts';

/** First retransmission timeout, milliseconds: Linux's least. */
const RTO_FIRST = 200;
const RTO_MOST = 10_000;
/** Congestion window of a fresh socket, bytes: a GSO super-packet. */
const CWND_FIRST = 64 * 1024;
/** Data of one segment; a super-packet stays below 64 KiB with its headers. */
const MOST_DATA = 2 * CHUNK_BYTES;
/**
 * How far apart the repetitions of a window reopening get, milliseconds (S34). A peer that still has data has asked by itself by
 * then: its own probes are no further apart (RFC 9293 §3.8.6.1).
 */
const REOPEN_MOST = 60_000;

/** MSS towards the guest's current socket, less what timestamps take (RFC 6691). */
function mssToGuest(ctx: PlaneContext, flow: number): number {
  const f = ctx.f;
  const mss = Math.min(f.socketMss[flow]!, ctx.settings.mtu - 40);
  return Math.max(48, f.flags[flow]! & HAS_TS ? mss - 12 : mss);
}

/** Starts the sender at an offset: after a thaw or a commit. */
export function startPlaying(ctx: PlaneContext, flow: number, from: number): void {
  const f = ctx.f;
  f.hold[flow] = 1;
  f.playNxt[flow] = from;
  f.playCwnd[flow] = CWND_FIRST;
  f.recover[flow] = 0;
  f.dupAcks[flow] = 0;
  f.rto[flow] = RTO_FIRST;
  f.rtoAt[flow] = 0;
}

/**
 * The gateway stands in between again: from here on what the peer sends is acknowledged from custody. All before is on its way
 * to the guest, and still the peer's to repeat.
 */
export function holdAgain(ctx: PlaneContext, flow: number): void {
  const f = ctx.f;
  ctx.fast.withdraw(flow);
  if (f.rangeCount[flow] === 0) ctx.custody.reset(flow, dataOffset(f.rcvNxt[flow]!, f.inFin[flow]!));
  startPlaying(ctx, flow, f.peerNxt[flow]!);
}

/** Offset behind everything the gateway has to send: the peer's FIN counts. */
function playEnd(ctx: PlaneContext, flow: number): number {
  const end = ctx.custody.highest(flow);
  return ctx.f.inFin[flow]! >= 0 && end >= ctx.f.inFin[flow]! ? ctx.f.inFin[flow]! + 1 : end;
}

/** Sends what window and congestion window allow, arms the timer, and lets go of the flow when nothing is left to do. */
export function play(ctx: PlaneContext, flow: number): void {
  const f = ctx.f;
  const flags = f.flags[flow]!;
  if (f.phase[flow] !== LIVE || flags & (REOPENING | GREETING | OWNED | PEER_RESET) || !(flags & SYNCHRONIZED)) return;
  const mss = mssToGuest(ctx, flow);
  const fin = f.inFin[flow]!;
  let next = Math.max(f.playNxt[flow]!, f.rcvNxt[flow]!);
  const bound = Math.max(next, Math.min(f.guestEdge[flow]!, f.rcvNxt[flow]! + f.playCwnd[flow]!));
  for (;;) {
    const end = ctx.custody.contiguousEnd(flow, next);
    const length = Math.max(0, Math.min(end, bound) - next);
    const last = next + length;
    const withFin = last === fin && end === fin;
    if (length === 0 && !withFin) break;
    // No silly window: a part of a segment goes only when nothing is under way (RFC 9293 §3.8.6.2.1).
    if (length < mss && last < end && next > f.rcvNxt[flow]!) break;
    const size = Math.min(length, MOST_DATA);
    const finNow = withFin && next + size === fin;
    playSegment(ctx, flow, next, size, finNow, mss);
    next += size + (finNow ? 1 : 0);
  }
  f.playNxt[flow] = next;
  const pending = next > f.rcvNxt[flow]! || playEnd(ctx, flow) > next;
  if (!pending) f.rtoAt[flow] = 0;
  else if (f.rtoAt[flow] === 0) arm(ctx, flow);
  letGo(ctx, flow);
}

function arm(ctx: PlaneContext, flow: number): void {
  ctx.f.rtoAt[flow] = ctx.now + ctx.f.rto[flow]!;
  ctx.timersArmed = true;
}

/**
 * S45: the peer's segments pass again when custody was sent and the guest's window has caught up with every promise. S32: a peer that is gone
 * has said its last word then.
 */
function letGo(ctx: PlaneContext, flow: number): void {
  const f = ctx.f;
  if (f.flags[flow]! & RESET_AFTER) {
    if (f.rcvNxt[flow]! < f.ackedToPeer[flow]!) return;
    endByReset(ctx, flow, PEER_RESET);
    return rstGuest(ctx, flow);
  }
  if (f.hold[flow] !== 1 || f.sndUna[flow]! < 0) return;
  if (f.playNxt[flow]! < playEnd(ctx, flow) || f.guestEdge[flow]! < f.maxEdge[flow]!) return;
  if (f.inFin[flow]! >= 0 && f.rcvNxt[flow]! <= f.inFin[flow]!) return;
  f.hold[flow] = 0;
}

/**
 * The guest's socket acknowledged up to `ack`; before this segment it was `before`. `repeated` says that the segment told nothing
 * else: a duplicate acknowledgement (RFC 5681 §2).
 */
export function guestAcked(ctx: PlaneContext, flow: number, ack: number, before: number, repeated: boolean): void {
  const f = ctx.f;
  if (ack > before) {
    ctx.custody.release(flow, f.inFin[flow]! >= 0 ? Math.min(ack, f.inFin[flow]!) : ack);
    f.playCwnd[flow] = f.playCwnd[flow]! + (ack - before);
    f.dupAcks[flow] = 0;
    f.rto[flow] = RTO_FIRST;
    f.rtoAt[flow] = 0;
    if (ack < f.recover[flow]!) repeatFirst(ctx, flow);
  } else if (repeated && f.playNxt[flow]! > ack) {
    const duplicates = Math.min(255, f.dupAcks[flow]! + 1);
    f.dupAcks[flow] = duplicates;
    if (duplicates === 3 && ack >= f.recover[flow]!) {
      f.recover[flow] = f.playNxt[flow]!;
      repeatFirst(ctx, flow);
    }
  }
  play(ctx, flow);
  // What was held back at the edge may be shown now; a window that was closed is opened at once (S34).
  if (f.flags[flow]! & WINDOW_CLOSED && worthTelling(ctx, flow)) ackPeer(ctx, flow);
}

/**
 * Whether the window can open by enough that the peer will use it: a segment, or half of what the guest has (RFC 9293 §3.8.6.2.2). A peer
 * that has ended uses none.
 */
export function worthTelling(ctx: PlaneContext, flow: number): boolean {
  const f = ctx.f;
  if (hasEnded(f, flow)) return false;
  const more = rightEdge(ctx, flow) - f.maxEdge[flow]!;
  return more >= Math.min(f.guestMss[flow]!, Math.max(1, (f.guestEdge[flow]! - f.rcvNxt[flow]!) / 2));
}

function repeatFirst(ctx: PlaneContext, flow: number): void {
  const f = ctx.f;
  const from = f.rcvNxt[flow]!;
  const mss = mssToGuest(ctx, flow);
  const end = ctx.custody.contiguousEnd(flow, from);
  const size = Math.min(end - from, mss);
  const fin = from + size === f.inFin[flow];
  if (size > 0 || fin) playSegment(ctx, flow, from, size, fin, mss);
}

/** Runs a flow's timers. True while one is still set. */
export function playTimers(ctx: PlaneContext, flow: number): boolean {
  const f = ctx.f;
  if (f.phase[flow] === LIVE && f.rtoAt[flow]! > 0 && ctx.now >= f.rtoAt[flow]!) timeout(ctx, flow);
  if (f.reopenAt[flow]! > 0 && ctx.now >= f.reopenAt[flow]!) {
    ackPeer(ctx, flow);
    f.reopenAfter[flow] = f.reopenAfter[flow]! * 2;
    f.reopenAt[flow] = f.reopenAfter[flow] > REOPEN_MOST ? 0 : ctx.now + f.reopenAfter[flow];
  }
  return f.rtoAt[flow]! > 0 || f.reopenAt[flow]! > 0;
}

function timeout(ctx: PlaneContext, flow: number): void {
  const f = ctx.f;
  f.rtoAt[flow] = 0;
  f.rto[flow] = Math.min(RTO_MOST, f.rto[flow]! * 2);
  if (f.flags[flow]! & (OWNED | PEER_RESET)) return;
  noteAsked(ctx, flow);
  if (f.flags[flow]! & REOPENING) {
    synGuest(ctx, flow);
    return arm(ctx, flow);
  }
  const mss = mssToGuest(ctx, flow);
  f.playNxt[flow] = f.rcvNxt[flow]!;
  f.playCwnd[flow] = 2 * mss;
  f.recover[flow] = 0;
  f.dupAcks[flow] = 0;
  // A closed window is probed with a segment the guest must answer: one before RCV.NXT, without data.
  if (f.guestEdge[flow]! <= f.rcvNxt[flow]!) playSegment(ctx, flow, f.rcvNxt[flow]! - 1, 0, false, mss);
  play(ctx, flow);
}

/** Opens towards the guest's listener for a connection no accept had returned, and repeats it until it is answered. */
export function openToListener(ctx: PlaneContext, flow: number): void {
  const f = ctx.f;
  f.flags[flow] = f.flags[flow]! | REOPENING;
  startPlaying(ctx, flow, 0);
  synGuest(ctx, flow);
  arm(ctx, flow);
}
