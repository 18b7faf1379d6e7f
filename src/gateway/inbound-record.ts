/**
 * What a segment of the peer tells: initial sequence numbers, options, sequence space, acknowledgements, window. And its
 * translation to the guest's current socket.
 */
import { TCP_ACK, TCP_FIN, TCP_RST } from '../rewrite/tcp.ts';
import type { Seq } from '../rewrite/numbers.ts';
import { seqAdd, seqDiff } from '../rewrite/numbers.ts';
import { setAck, setTimestamps, setWindow, stripOption, translateSack } from '../rewrite/translate.ts';
import type { PlaneContext } from './context.ts';
import {
  GREETING,
  HAS_AO,
  HAS_MD5,
  HAS_MPTCP,
  HAS_SACK,
  HAS_TS,
  HAS_WSCALE,
  LACKS_SACK,
  LACKS_WSCALE,
  MANAGED,
  NO_FIN,
  REOPENING,
  SYNCHRONIZED,
  SYN_MPTCP,
} from './flow.ts';
import { hasEnded, isFinAcked, notePeerReset, revive, updateState } from './state.ts';
import { guestTimestamp, inOffset, outOffset, outSeq } from './windows.ts';

/** Flag bits of the options on the SYN under the hand. */
export function synOptions(ctx: PlaneContext): number {
  const p = ctx.packet;
  return (
    (p.sackPermAt !== 0 ? HAS_SACK : 0) |
    (p.tsAt !== 0 ? HAS_TS : 0) |
    (p.wscaleAt !== 0 ? HAS_WSCALE : 0) |
    (p.md5At !== 0 ? HAS_MD5 : 0) |
    (p.aoAt !== 0 ? HAS_AO : 0)
  );
}

/** Options in force: those that both SYNs carried. Signed segments are known by either. */
export function agreeOptions(before: number, mine: number): number {
  const negotiated = HAS_SACK | HAS_TS | HAS_WSCALE;
  return (before & ~negotiated) | (before & mine & negotiated) | (mine & (HAS_MD5 | HAS_AO));
}

/** Records the peer's initial sequence number, window and options. */
export function recordPeerSyn(ctx: PlaneContext, flow: number): void {
  const { f, packet: p } = ctx;
  f.inBase[flow] = seqAdd(p.seq, 1);
  f.peerNxt[flow] = 0;
  f.rcvNxt[flow] = 0;
  f.peerShift[flow] = p.wscaleAt !== 0 ? Math.min(14, p.wscale) : 0;
  f.peerMss[flow] = p.mssAt !== 0 ? p.mss : 536;
  f.peerWindow[flow] = p.window;
  f.peerEdge[flow] = p.window;
  f.lastTsIn[flow] = p.tsVal;
  f.peerTs[flow] = p.tsVal;
}

/** Records the peer's SYN, the first or one of a new attempt: nobody has answered it yet. */
export function recordFirstSyn(ctx: PlaneContext, flow: number): void {
  const { f, packet: p } = ctx;
  recordPeerSyn(ctx, flow);
  const kept = f.flags[flow]! & (MANAGED | REOPENING);
  f.flags[flow] = kept | synOptions(ctx) | (p.mptcpAt !== 0 ? SYN_MPTCP : 0);
}

/** Whether a RST of the peer ends a connection whose handshake is not done: exactly at its SYN, or acknowledging the guest's. */
export function refusesConnect(ctx: PlaneContext, flow: number): boolean {
  const { f, packet: p } = ctx;
  return f.openedByGuest[flow] === 1
    ? (p.flags & TCP_ACK) !== 0 && seqDiff(p.ack, f.outBase[flow]! as Seq) === 0
    : seqDiff(p.seq, f.inBase[flow]! as Seq) === 0;
}

/** Records the peer's SYN-ACK: both ends are synchronised. An ACK of anything else than our ISN + 1 changes nothing. */
export function acceptSynAck(ctx: PlaneContext, flow: number): boolean {
  const { f, packet: p } = ctx;
  if (seqDiff(p.ack, f.outBase[flow]! as Seq) !== 0) return false;
  recordPeerSyn(ctx, flow);
  f.sndUna[flow] = 0;
  const mptcp = f.flags[flow]! & SYN_MPTCP && p.mptcpAt !== 0 ? HAS_MPTCP : 0;
  f.flags[flow] = agreeOptions(f.flags[flow]!, synOptions(ctx)) | SYNCHRONIZED | GREETING | mptcp;
  if (!(f.flags[flow] & HAS_WSCALE)) f.peerShift[flow] = f.announcedShift[flow] = f.guestShift[flow] = 0;
  // The SYN's own window was never scaled.
  f.ackedToPeer[flow] = 0;
  f.maxEdge[flow] = Math.max(f.maxEdge[flow]!, f.guestEdge[flow]!);
  updateState(f, flow);
  return true;
}

/** Records what a segment of a live flow shows. What its receiver will not accept (RFC 9293 §3.10.7.4) is not recorded. */
export function recordFromPeer(ctx: PlaneContext, flow: number): void {
  const { f, packet: p } = ctx;
  const start = inOffset(ctx, flow, p.seq);
  const data = start + p.payloadLen;
  if (p.flags & TCP_RST) {
    // Only the guest's kernel knows its RCV.NXT; it lies between what it acknowledged and what was sent to it.
    if (start >= f.rcvNxt[flow]! && start <= f.peerNxt[flow]!) notePeerReset(ctx, flow);
    return;
  }
  const end = p.flags & TCP_FIN ? data + 1 : data;
  // A window probe may lie one byte beyond the edge.
  if (!(p.flags & TCP_ACK) || end < f.rcvNxt[flow]! || start > f.maxEdge[flow]! + 1) return;
  if (!recordAck(ctx, flow, start)) return;
  if (p.tsAt !== 0) noteTimestamp(ctx, flow, start);
  recordEnd(ctx, flow, p.payloadLen, data, (p.flags & TCP_FIN) !== 0);
  if (p.payloadLen > 0 || hasEnded(f, flow)) f.reopenAt[flow] = 0;
  revive(ctx, flow);
}

/**
 * Records where the peer's stream ends, as far as is known: `length` bytes of it end at `end`, and its FIN follows when `fin`.
 *
 * A FIN ahead of a gap is one, but it may also be forged, and then the receiver never comes to it: data goes past it first. So until it
 * is acknowledged, data beyond a FIN refutes it, and of two the lower counts. A FIN with data beyond it is none. (What is without data may
 * have overtaken a FIN, and tells nothing.)
 */
export function recordEnd(ctx: PlaneContext, flow: number, length: number, end: number, fin: boolean): void {
  const { f } = ctx;
  const known = f.inFin[flow]!;
  if (isFinAcked(f, flow)) return;
  let last = length > 0 && end > known ? NO_FIN : known;
  if (fin && end + 1 >= f.peerNxt[flow]! && (last === NO_FIN || end < last)) last = end;
  let next = length > 0 ? Math.max(f.peerNxt[flow]!, end) : f.peerNxt[flow]!;
  if (next === last) next++;
  f.peerNxt[flow] = next;
  if (last === known) return;
  f.inFin[flow] = last;
  updateState(f, flow);
}

/** TS.Recent: the latest TSval of a segment that begins where the peer was acknowledged to, or before (RFC 7323 §4.3). */
export function noteTimestamp(ctx: PlaneContext, flow: number, start: number): void {
  const { f, packet: p } = ctx;
  if (seqDiff(p.tsVal as Seq, f.peerTs[flow]! as Seq) > 0) f.peerTs[flow] = p.tsVal;
  if (start <= f.ackedToPeer[flow]! && seqDiff(p.tsVal as Seq, f.lastTsIn[flow]! as Seq) > 0)
    f.lastTsIn[flow] = p.tsVal;
}

/**
 * Takes the peer's acknowledgement and window into the record. False when it acknowledges what was never sent, or what is further
 * back than any window the peer ever gave (RFC 5961 §5). `start` is the offset of the segment.
 */
export function recordAck(ctx: PlaneContext, flow: number, start: number): boolean {
  const { f, packet: p } = ctx;
  const ack = outOffset(ctx, flow, p.ack);
  const una = f.sndUna[flow]!;
  const unit = 2 ** f.peerShift[flow]!;
  if (ack > f.sndNxt[flow]! || ack < una - 0xffff * unit) return false;
  if (ack < una) return true;
  const edge = ack + p.window * unit;
  // An older segment that comes late does not take back what a later one gave (SND.WL1, SND.WL2).
  if (ack > una || edge > f.peerEdge[flow]! || start + p.payloadLen >= f.peerNxt[flow]!) {
    f.peerWindow[flow] = p.window;
    f.peerEdge[flow] = edge;
  }
  if (ack > una) {
    f.sndUna[flow] = ack;
    if (una < 0 || f.outFin[flow]! >= 0) updateState(f, flow);
  }
  return true;
}

/** Translates ACK, window, SACK and TSecr of a MANAGED flow's segment to the guest's current socket. */
export function translateForGuest(ctx: PlaneContext, flow: number): void {
  if (ctx.packet.flags & TCP_ACK) translateAck(ctx, flow);
  translateTsEcr(ctx, flow);
}

function translateAck(ctx: PlaneContext, flow: number): void {
  const { f, packet: p } = ctx;
  const delta = f.delta[flow]!;
  const sent = f.guestNxt[flow]!;
  const ack = outOffset(ctx, flow, p.ack);
  const given = ack > sent && ack <= f.sndNxt[flow]! ? sent : ack;
  // The right edge stays where the peer has put it, whatever the acknowledgement is cut to (S47).
  const shift = f.peerShift[flow]!;
  const unscaled = (f.flags[flow]! & LACKS_WSCALE) !== 0;
  if (unscaled) setWindow(p, Math.min(0xffff, p.window * 2 ** shift + (ack - given)));
  else if (given !== ack) setWindow(p, Math.min(0xffff, p.window + Math.floor((ack - given) / 2 ** shift)));
  setAck(p, seqAdd(outSeq(ctx, flow, given), -delta));
  if (given <= sent) {
    f.ackedToGuest[flow] = given;
    f.edgeToGuest[flow] = f.peerEdge[flow]!;
  }
  if (p.sackAt === 0) return;
  if (f.flags[flow]! & LACKS_SACK) return stripOption(p, p.sackAt);
  const highest = seqAdd(outSeq(ctx, flow, sent), -delta);
  // What the current socket has not sent is custody's or the old socket's affair.
  translateSack(p, -delta, seqAdd(highest, -Math.min(2 ** 30, sent - f.socketBase[flow]!)), highest);
}

/** TSecr back to the guest's own clock; a value from before its socket becomes the socket's first (S18). */
export function translateTsEcr(ctx: PlaneContext, flow: number): void {
  const { f, packet: p } = ctx;
  if (p.tsAt === 0 || !(p.flags & TCP_ACK) || !(f.flags[flow]! & MANAGED)) return;
  setTimestamps(p, p.tsVal, guestTimestamp(ctx, flow, p.tsEcr));
}
