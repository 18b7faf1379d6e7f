/**
 * What may be acknowledged and promised to the peer, and in which words.
 *
 * The right edge the peer has been shown never moves back (S20), and no edge lies further above what is acknowledged than
 * custody can take (S46), so that a freeze can keep every promise.
 */
import { offsetOfSeq, seqDiff, seqOfOffset } from '../rewrite/numbers.ts';
import type { Offset, Seq } from '../rewrite/numbers.ts';
import { CUSTODY_CAPACITY, CUSTODY_LIMIT } from './arena.ts';
import type { PlaneContext } from './context.ts';
import { LIVE, WINDOW_CLOSED } from './flow.ts';

/** First interval at which a window reopening is repeated, milliseconds (S34). */
const REOPEN_FIRST = 200;

/**
 * How long a segment of the guest may be on its way to the peer, milliseconds: in a queue of another CPU, say. One of the gateway's own
 * that overtakes it then is not the newer one by its clock, which would make the other an old duplicate to the peer (RFC 7323 §5).
 */
const TRANSIT = 20;

/**
 * The offset that may be acknowledged to the peer: everything below is in the guest's kernel, in its image, or in custody
 * without a gap from there on (S21). A FIN counts where the gateway stands in between, and so repeats it to the guest. Never
 * lower than what was acknowledged before.
 */
export function ackPoint(ctx: PlaneContext, flow: number): number {
  const f = ctx.f;
  let end = ctx.custody.contiguousEnd(flow, f.rcvNxt[flow]!);
  if (end === f.inFin[flow] && f.hold[flow] === 1) end++;
  return Math.max(end, f.ackedToPeer[flow]!);
}

/**
 * The right edge to show the peer: custody's while the guest has no socket, the guest's own afterwards. Custody promises no
 * more than its pool has left.
 */
export function rightEdge(ctx: PlaneContext, flow: number): number {
  const f = ctx.f;
  const limit = f.rcvNxt[flow]! + CUSTODY_LIMIT;
  const own = f.phase[flow] === LIVE ? f.guestEdge[flow]! : ackPoint(ctx, flow) + ctx.custody.room();
  return Math.max(Math.min(own, limit), f.maxEdge[flow]!);
}

/**
 * Decides what the next segment to the peer acknowledges and which raw window it carries (`ctx.ack`, `ctx.window`), and records
 * the promise it makes. The window is rounded down, and up only where rounding down would take back a promise, so that
 * equal acknowledgements carry equal windows (S13, S20). What rounding up adds may not outgrow custody: at its end the
 * acknowledgement stays back by less than one unit instead, unless the peer's FIN says that no more will come.
 */
export function promise(ctx: PlaneContext, flow: number): void {
  const f = ctx.f;
  const unit = 2 ** f.announcedShift[flow]!;
  const promised = f.maxEdge[flow]!;
  const acked = f.ackedToPeer[flow]!;
  let ack = ackPoint(ctx, flow);
  const room = rightEdge(ctx, flow) - ack;
  let raw = Math.min(0xffff, Math.floor(Math.max(0, room) / unit));
  // A window of the guest that is less than a unit could never be told; custody takes what is then too much.
  if (raw === 0 && room > 0 && f.phase[flow] === LIVE) raw = 1;
  if (ack + raw * unit < promised) {
    raw = Math.min(0xffff, Math.ceil((promised - ack) / unit));
    const more = f.inFin[flow]! < 0 || ack <= f.inFin[flow]!;
    const aligned = promised - raw * unit;
    if (more && aligned >= acked && ack + raw * unit > f.rcvNxt[flow]! + CUSTODY_CAPACITY) ack = aligned;
  }
  f.maxEdge[flow] = Math.max(promised, ack + raw * unit);
  if (ack > acked) f.ackedToPeer[flow] = ack;
  ctx.ack = ack;
  ctx.window = raw;
  noteWindow(ctx, flow, raw);
}

/** A window that opens again is told again until the peer makes use of it (S34). */
function noteWindow(ctx: PlaneContext, flow: number, raw: number): void {
  const f = ctx.f;
  const flags = f.flags[flow]!;
  if (raw === 0) f.flags[flow] = flags | WINDOW_CLOSED;
  else if (flags & WINDOW_CLOSED) {
    f.flags[flow] = flags & ~WINDOW_CLOSED;
    f.reopenAfter[flow] = REOPEN_FIRST;
    f.reopenAt[flow] = ctx.now + REOPEN_FIRST;
    ctx.timersArmed = true;
  }
}

/** Sequence number, as the peer counts, of an offset of the guest's stream. */
export function outSeq(ctx: PlaneContext, flow: number, offset: number): Seq {
  return seqOfOffset(ctx.f.outBase[flow]! as Seq, offset as Offset);
}

/** Sequence number of an offset of the peer's stream; both sides count alike (S8). */
export function inSeq(ctx: PlaneContext, flow: number, offset: number): Seq {
  return seqOfOffset(ctx.f.inBase[flow]! as Seq, offset as Offset);
}

/** Offset of a sequence number of the peer's stream, the one nearest to what the peer last sent. */
export function inOffset(ctx: PlaneContext, flow: number, seq: Seq): number {
  const near = ctx.f.peerNxt[flow]! as Offset;
  return offsetOfSeq(seq, inSeq(ctx, flow, near), near);
}

/** Offset of a sequence number, as the peer counts, of the guest's stream, the one nearest to SND.NXT. */
export function outOffset(ctx: PlaneContext, flow: number, seq: Seq): number {
  const near = ctx.f.sndNxt[flow]! as Offset;
  return offsetOfSeq(seq, outSeq(ctx, flow, near), near);
}

/** The guest's acknowledgement as the peer's last one allows: never beyond what its current socket has sent (S47). */
export function ackForGuest(ctx: PlaneContext, flow: number): number {
  return Math.min(ctx.f.sndUna[flow]!, ctx.f.guestNxt[flow]!);
}

/**
 * TSval for a segment of the gateway's own (S18, S29): the guest's clock as it was TRANSIT ago, carried on while the guest has no
 * socket; else at most one more than was last shown, which the guest's own clock, with its tick of a millisecond or less, has reached
 * by then.
 */
export function ownTimestamp(ctx: PlaneContext, flow: number): number {
  const f = ctx.f;
  const passed = Math.floor(ctx.now - f.lastTsOutAt[flow]!) - TRANSIT;
  const more = f.phase[flow] === LIVE ? Math.min(1, passed) : passed;
  if (more > 0) {
    f.lastTsOut[flow] = f.lastTsOut[flow]! + more;
    f.lastTsOutAt[flow] = f.lastTsOutAt[flow]! + more;
  }
  return f.lastTsOut[flow]!;
}

/**
 * TSval of the guest's current socket as the peer sees it: on one clock from the beginning, which never goes back even where
 * the gateway's own segments were ahead (S18). Notes it.
 */
export function shownTimestamp(ctx: PlaneContext, flow: number, value: number): number {
  const f = ctx.f;
  const shown = (value + f.tsDelta[flow]!) >>> 0;
  if (seqDiff(value as Seq, f.guestTs[flow]! as Seq) > 0) f.guestTs[flow] = value;
  if (seqDiff(shown as Seq, f.lastTsOut[flow]! as Seq) < 0) return f.lastTsOut[flow]!;
  f.lastTsOut[flow] = shown;
  f.lastTsOutAt[flow] = ctx.now;
  return shown;
}

/** A TSecr of the peer on the clock of the guest's current socket: never a value that socket has not sent (S18). */
export function guestTimestamp(ctx: PlaneContext, flow: number, echoed: number): number {
  const f = ctx.f;
  const value = (echoed - f.tsDelta[flow]!) >>> 0;
  if (seqDiff(value as Seq, f.tsFloor[flow]! as Seq) < 0) return f.tsFloor[flow]!;
  return seqDiff(value as Seq, f.guestTs[flow]! as Seq) > 0 ? f.guestTs[flow]! : value;
}
