/**
 * What a segment of the peer tells: initial sequence numbers, options, sequence space, acknowledgements, window. And its
 * translation to the guest's current socket.
 */
import { TCP_ACK, TCP_FIN, TCP_RST } from '../rewrite/tcp.ts';
import type { Seq } from '../rewrite/numbers.ts';
import { seqAdd, seqDiff } from '../rewrite/numbers.ts';
import { setAck, setTimestamps, setWindow, translateSack } from '../rewrite/translate.ts';
import type { PlaneContext } from './context.ts';
import {
  CLOSED,
  HANDSHAKE_DONE,
  HAS_AO,
  HAS_MD5,
  HAS_MPTCP,
  HAS_SACK,
  HAS_TS,
  HAS_WSCALE,
  MANAGED,
  PEER_RESET,
  SYNCHRONIZED,
  SYN_MPTCP,
} from './flow.ts';
import { updateState } from './state.ts';
import { inOffset, outOffset, outSeq } from './windows.ts';

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
}

/** Records the peer's SYN-ACK: both ends are synchronised. An ACK of anything else than our ISN + 1 changes nothing. */
export function acceptSynAck(ctx: PlaneContext, flow: number): boolean {
  const { f, packet: p } = ctx;
  if (seqDiff(p.ack, f.outBase[flow]! as Seq) !== 0) return false;
  recordPeerSyn(ctx, flow);
  f.sndUna[flow] = 0;
  const mptcp = f.flags[flow]! & SYN_MPTCP && p.mptcpAt !== 0 ? HAS_MPTCP : 0;
  f.flags[flow] = agreeOptions(f.flags[flow]!, synOptions(ctx)) | SYNCHRONIZED | mptcp;
  if (!(f.flags[flow]! & HAS_WSCALE)) f.peerShift[flow] = f.announcedShift[flow] = f.guestShift[flow] = 0;
  // The SYN's own window was never scaled.
  f.ackedToPeer[flow] = 0;
  f.maxEdge[flow] = f.guestEdge[flow]!;
  updateState(f, flow);
  return true;
}

/** Records what a segment of a live flow shows. False when it may not pass. */
export function recordFromPeer(ctx: PlaneContext, flow: number): boolean {
  const { f, packet: p } = ctx;
  const start = inOffset(ctx, flow, p.seq);
  const data = start + p.payloadLen;
  if (p.flags & TCP_RST) {
    // Only the guest's kernel knows its RCV.NXT; it lies between what it acknowledged and what was sent to it.
    if (start >= f.rcvNxt[flow]! && start <= f.peerNxt[flow]!) {
      f.flags[flow] = f.flags[flow]! | PEER_RESET;
      updateState(f, flow);
    }
    return true;
  }
  // A window probe may lie one byte beyond the edge.
  if (start <= f.maxEdge[flow]! + 1) {
    if (p.flags & TCP_FIN && f.inFin[flow]! < 0) f.inFin[flow] = data;
    const end = p.flags & TCP_FIN ? data + 1 : data;
    if (end > f.peerNxt[flow]!) f.peerNxt[flow] = end;
    if (p.payloadLen > 0) f.reopenAt[flow] = 0;
  } else if (f.flags[flow]! & MANAGED) {
    ctx.drop('out-of-window');
    return false;
  }
  if (p.flags & TCP_ACK) recordAck(ctx, flow);
  if (p.tsAt !== 0 && seqDiff(p.tsVal as Seq, f.lastTsIn[flow]! as Seq) > 0) f.lastTsIn[flow] = p.tsVal;
  return true;
}

/** Takes the peer's acknowledgement and window into the record. False when it acknowledges what was never sent. */
export function recordAck(ctx: PlaneContext, flow: number): boolean {
  const { f, packet: p } = ctx;
  const ack = outOffset(ctx, flow, p.ack);
  if (ack > f.sndNxt[flow]!) return false;
  const una = f.sndUna[flow]!;
  if (ack >= una) {
    f.peerWindow[flow] = p.window;
    f.peerEdge[flow] = ack + p.window * 2 ** f.peerShift[flow]!;
    if (ack > una) {
      f.sndUna[flow] = ack;
      if (una < 0 || f.outFin[flow]! >= 0) updateState(f, flow);
    }
    f.flags[flow] = f.flags[flow]! | HANDSHAKE_DONE;
  }
  return true;
}

/** Translates ACK, window, SACK and TSecr of a MANAGED flow's segment to the guest's current socket. */
export function translateForGuest(ctx: PlaneContext, flow: number): void {
  const { f, packet: p } = ctx;
  const delta = f.delta[flow]!;
  if (p.flags & TCP_ACK) {
    const sent = f.guestNxt[flow]!;
    const ack = outOffset(ctx, flow, p.ack);
    if (ack > sent && ack <= f.sndNxt[flow]!) {
      setAck(p, seqAdd(outSeq(ctx, flow, sent), -delta));
      const shift = f.peerShift[flow]!;
      setWindow(p, Math.min(0xffff, p.window + Math.floor((ack - sent) / 2 ** shift)));
      f.ackedToGuest[flow] = sent;
    } else {
      setAck(p, seqAdd(p.ack, -delta));
      f.ackedToGuest[flow] = ack;
    }
    f.edgeToGuest[flow] = f.peerEdge[flow]!;
    if (p.sackAt !== 0) {
      const highest = seqAdd(outSeq(ctx, flow, sent), -delta);
      // What the current socket has not sent is custody's or the old socket's affair.
      translateSack(p, -delta, seqAdd(highest, -Math.min(2 ** 30, sent - f.nextBase[flow]!)), highest);
    }
  }
  translateTsEcr(ctx, flow);
}

/** TSecr back to the guest's own clock; a value from before its socket becomes the socket's first (S18). */
export function translateTsEcr(ctx: PlaneContext, flow: number): void {
  const { f, packet: p } = ctx;
  if (p.tsAt === 0 || !(p.flags & TCP_ACK) || !(f.flags[flow]! & MANAGED)) return;
  const echoed = (p.tsEcr - f.tsDelta[flow]!) >>> 0;
  const floor = f.tsFloor[flow]!;
  setTimestamps(p, p.tsVal, f.splices[flow]! > 0 && seqDiff(echoed as Seq, floor as Seq) < 0 ? floor : echoed);
}

/** Whether a flow ended by a reset that the guest's later segments prove was not accepted. */
export function revive(ctx: PlaneContext, flow: number): void {
  const { f } = ctx;
  if (f.state[flow] === CLOSED && f.flags[flow]! & PEER_RESET) {
    f.flags[flow] = f.flags[flow]! & ~PEER_RESET;
    updateState(f, flow);
  }
}
