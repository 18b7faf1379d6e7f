/**
 * What may be acknowledged and promised to the peer, and in which words.
 *
 * The right edge the peer has been shown never moves back (S20), and no edge lies further above what is acknowledged than
 * custody can take (S46), so that a freeze can keep every promise.
 */
import { offsetOfSeq, seqOfOffset } from '../rewrite/numbers.ts';
import type { Offset, Seq } from '../rewrite/numbers.ts';
import { CUSTODY_LIMIT } from './arena.ts';
import type { PlaneContext } from './context.ts';
import { LIVE, WINDOW_CLOSED } from './flow.ts';

/**
 * The offset that may be acknowledged to the peer: everything below is in the guest's kernel, in its image, or in custody
 * without a gap from there on (S21). Never lower than what was acknowledged before.
 */
export function ackPoint(ctx: PlaneContext, flow: number): number {
  const f = ctx.f;
  let end = ctx.custody.contiguousEnd(flow, f.rcvNxt[flow]!);
  if (end === f.inFin[flow]) end++;
  return Math.max(end, f.ackedToPeer[flow]!);
}

/** The right edge to show the peer: custody's while the guest has no socket, the guest's own afterwards. */
export function rightEdge(ctx: PlaneContext, flow: number): number {
  const f = ctx.f;
  const limit = f.rcvNxt[flow]! + CUSTODY_LIMIT;
  const edge = f.phase[flow] === LIVE ? Math.min(f.guestEdge[flow]!, limit) : limit;
  return Math.max(edge, f.maxEdge[flow]!);
}

/**
 * The raw window field of a segment to the peer that acknowledges `ack`, and the record of the promise it makes. Rounds down,
 * and up only where rounding down would take back a promise, so that equal acknowledgements carry equal windows (S13, S20).
 */
export function promiseWindow(ctx: PlaneContext, flow: number, ack: number, edge: number): number {
  const f = ctx.f;
  const shift = f.announcedShift[flow]!;
  const unit = 2 ** shift;
  const promised = f.maxEdge[flow]!;
  let raw = Math.floor(Math.max(0, edge - ack) / unit);
  if (ack + raw * unit < promised) raw = Math.ceil((promised - ack) / unit);
  if (raw > 0xffff) raw = 0xffff;
  f.maxEdge[flow] = Math.max(promised, ack + raw * unit);
  if (ack > f.ackedToPeer[flow]!) f.ackedToPeer[flow] = ack;
  if (raw === 0) f.flags[flow] = f.flags[flow]! | WINDOW_CLOSED;
  return raw;
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

/** TSval for a segment of the gateway's own: advancing while the guest has no socket, else what the guest last showed (S18, S29). */
export function ownTimestamp(ctx: PlaneContext, flow: number): number {
  const f = ctx.f;
  if (f.phase[flow] === LIVE) return f.lastTsOut[flow]!;
  const value = (f.lastTsOut[flow]! + Math.floor(ctx.now - f.lastTsOutAt[flow]!)) >>> 0;
  if (value !== f.lastTsOut[flow]) {
    f.lastTsOutAt[flow] = f.lastTsOutAt[flow]! + ((value - f.lastTsOut[flow]!) >>> 0);
    f.lastTsOut[flow] = value;
  }
  return value;
}
