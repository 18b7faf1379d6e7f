/**
 * A packet of a guest, on its way to the peer.
 *
 * Theory of operation. The leg a packet came from says which host sent it; old and new socket of a guest have one 4-tuple. So
 * the first question is always whether this leg holds the flow's epoch: if it does, the segment is recorded, translated and
 * passed; the socket of an announced attach gets its handshake from `splice.ts`; a frozen guest's old socket is read as
 * evidence only; everything else is fenced and answered with RST (S40, S48).
 */
import { TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN } from '../rewrite/tcp.ts';
import type { Port, Seq } from '../rewrite/numbers.ts';
import { seqAdd, seqDiff } from '../rewrite/numbers.ts';
import {
  finish,
  setAck,
  setSeq,
  setSource,
  setTimestamps,
  setWindow,
  stripOption,
  translateSack,
} from '../rewrite/translate.ts';
import { CUSTODY_LIMIT } from './arena.ts';
import type { PlaneContext } from './context.ts';
import { ackGuest, ackPeer, rstReply } from './emit.ts';
import {
  ATTACHING,
  ESTABLISHED,
  GUEST_RESET,
  HAS_TS,
  LIVE,
  MANAGED,
  REOPENING,
  SYNCHRONIZED,
  SYN_MPTCP,
  TCP,
  UDP,
  isFinished,
} from './flow.ts';
import { GUEST_FROZEN, GUEST_RUNNING } from './guests.ts';
import { revive, synOptions } from './inbound-record.ts';
import { recordGuestSyn, recordSynAck } from './outbound-record.ts';
import { OUTSIDE, deviceOfLeg } from './out-queue.ts';
import { guestAcked } from './player.ts';
import { attachedSegment, reopened } from './splice.ts';
import { updateState } from './state.ts';
import { ackPoint, inOffset, inSeq, outOffset, outSeq, promiseWindow, rightEdge } from './windows.ts';

const SYN_BITS = TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN;

/** Takes the packet under the hand, which came from a leg. */
export function fromGuest(ctx: PlaneContext, leg: number): void {
  const p = ctx.packet;
  const guest = ctx.guests.byAddress(p.src);
  if (guest === undefined) return ctx.drop('unknown-guest');
  if (p.dst === ctx.settings.outsideAddress) return ctx.drop('hairpin');
  if (p.proto === TCP) tcpFromGuest(ctx, guest, leg);
  else if (p.proto === UDP) udpFromGuest(ctx, guest, leg);
  else ctx.drop('icmp-error');
}

function countOut(ctx: PlaneContext, flow: number): void {
  const { f, packet: p, now } = ctx;
  f.packetsOut[flow] = f.packetsOut[flow]! + 1;
  f.bytesOut[flow] = f.bytesOut[flow]! + p.totalLen;
  f.lastSeen[flow] = now;
}

function fence(ctx: PlaneContext, leg: number): void {
  rstReply(ctx, deviceOfLeg(leg));
  ctx.drop('fenced-epoch');
}

function tcpFromGuest(ctx: PlaneContext, guest: number, leg: number): void {
  const { f, g, packet: p } = ctx;
  const opening = (p.flags & SYN_BITS) === TCP_SYN;
  let flow = ctx.flows.findGuest(TCP, p.src, p.srcPort, p.dst, p.dstPort);
  if (flow >= 0 && opening && isFinished(f.state[flow]!) && f.phase[flow] === LIVE && g.leg[guest] === leg) {
    ctx.end(flow);
    flow = -1;
  }
  if (flow < 0) {
    if (g.leg[guest] !== leg || g.state[guest] !== GUEST_RUNNING) return fence(ctx, leg);
    if (!opening) {
      rstReply(ctx, deviceOfLeg(leg));
      return ctx.drop('no-flow');
    }
    return openFromGuest(ctx, guest, leg);
  }
  if (f.phase[flow] === LIVE) {
    if (f.leg[flow] !== leg) return fence(ctx, leg);
    countOut(ctx, flow);
    if (p.flags & TCP_SYN) synFromGuest(ctx, flow);
    else passToPeer(ctx, flow);
    return;
  }
  if (f.phase[flow] === ATTACHING && g.nextLeg[guest] === leg && (f.nextSyn[flow] === 1 || opening))
    return attachedSegment(ctx, flow, leg);
  if (f.leg[flow] === leg && g.state[guest] === GUEST_FROZEN) return evidence(ctx, flow);
  fence(ctx, leg);
}

function openFromGuest(ctx: PlaneContext, guest: number, leg: number): void {
  const { f, g, packet: p } = ctx;
  const port = ctx.ports.acquire(TCP, guest, p.srcPort);
  if (port < 0) return ctx.drop('no-outside-port');
  const flow = ctx.flows.create(TCP, guest, p.src, p.srcPort, port, p.dst, p.dstPort, ctx.now);
  if (flow < 0) {
    ctx.ports.release(TCP, guest, p.srcPort);
    return ctx.drop('flow-table-full');
  }
  f.leg[flow] = leg;
  f.epoch[flow] = g.epoch[guest]!;
  f.openedByGuest[flow] = 1;
  f.flags[flow] = synOptions(ctx) | (p.mptcpAt !== 0 ? SYN_MPTCP : 0);
  f.outBase[flow] = seqAdd(p.seq, 1);
  recordGuestSyn(ctx, flow);
  updateState(f, flow);
  countOut(ctx, flow);
  passSyn(ctx, flow);
}

/** A SYN or SYN-ACK of the guest in a flow that exists. */
function synFromGuest(ctx: PlaneContext, flow: number): void {
  const { f, packet: p } = ctx;
  if (p.flags & TCP_ACK && f.openedByGuest[flow] === 0) {
    if (f.flags[flow]! & REOPENING) {
      if (!reopened(ctx, flow)) return;
    } else if (!(f.flags[flow]! & SYNCHRONIZED)) {
      f.outBase[flow] = seqAdd(p.seq, 1);
      recordSynAck(ctx, flow);
    }
  } else if (seqDiff(p.seq, f.guestIsn[flow]! as Seq) !== 0) {
    // Only an announced attach may open the 4-tuple again.
    return ctx.drop('unannounced-syn');
  }
  passSyn(ctx, flow);
}

function passSyn(ctx: PlaneContext, flow: number): void {
  const { f, packet: p } = ctx;
  if (p.fastOpenAt !== 0) stripOption(p, p.fastOpenAt);
  setSource(p, ctx.settings.outsideAddress, f.outsidePort[flow]! as Port);
  if (f.delta[flow] !== 0) setSeq(p, seqAdd(p.seq, f.delta[flow]!));
  if (f.flags[flow]! & MANAGED) translateTsVal(ctx, flow);
  finish(p);
  ctx.forward(OUTSIDE);
}

/** What a frozen guest's old socket still says: its ACKs prove which bytes the guest will find in its queue, nothing passes. */
function evidence(ctx: PlaneContext, flow: number): void {
  const { f, packet: p } = ctx;
  ctx.drop('frozen');
  if (p.flags & TCP_RST || !(p.flags & TCP_ACK) || f.cut[flow]! >= 0 || !(f.flags[flow]! & SYNCHRONIZED)) return;
  const ack = inOffset(ctx, flow, p.ack);
  if (ack <= f.rcvNxt[flow]! || ack > f.peerNxt[flow]!) return;
  f.rcvNxt[flow] = ack;
  ctx.custody.release(flow, ack);
  if (ackPoint(ctx, flow) > f.ackedToPeer[flow]!) ackPeer(ctx, flow);
}

function passToPeer(ctx: PlaneContext, flow: number): void {
  const { f, packet: p } = ctx;
  if (!(f.flags[flow]! & SYNCHRONIZED)) {
    setSource(p, ctx.settings.outsideAddress, f.outsidePort[flow]! as Port);
    finish(p);
    return ctx.forward(OUTSIDE);
  }
  revive(ctx, flow);
  const seq = seqAdd(p.seq, f.delta[flow]!);
  const start = outOffset(ctx, flow, seq);
  const length = p.payloadLen + (p.flags & TCP_FIN ? 1 : 0);
  if (!(p.flags & TCP_RST)) recordSent(ctx, flow, start, length);
  const acked = p.flags & TCP_ACK ? recordGuestAck(ctx, flow) : true;
  if (f.flags[flow]! & MANAGED) return acked ? passManaged(ctx, flow, start, length) : ctx.drop('bad-ack');
  passPlain(ctx, flow);
}

function recordSent(ctx: PlaneContext, flow: number, start: number, length: number): void {
  const { f, packet: p } = ctx;
  const end = start + length;
  if (end > f.guestNxt[flow]!) f.guestNxt[flow] = end;
  if (p.flags & TCP_FIN && f.outFin[flow]! < 0) {
    f.outFin[flow] = start + p.payloadLen;
    f.passiveClose[flow] = f.inFin[flow]! >= 0 && inOffset(ctx, flow, p.ack) > f.inFin[flow]! ? 1 : 0;
  }
  if (end > f.sndNxt[flow]!) f.sndNxt[flow] = end;
  if (p.flags & TCP_FIN) updateState(f, flow);
}

/** Takes the guest's acknowledgement and window into the record. False when it acknowledges what was never sent to it. */
function recordGuestAck(ctx: PlaneContext, flow: number): boolean {
  const { f, packet: p } = ctx;
  const ack = inOffset(ctx, flow, p.ack);
  if (ack > f.peerNxt[flow]!) return false;
  const edge = ack + p.window * 2 ** f.guestShift[flow]!;
  if (edge > f.guestEdge[flow]!) f.guestEdge[flow] = edge;
  const before = f.rcvNxt[flow]!;
  if (ack > before) {
    f.rcvNxt[flow] = ack;
    if (f.inFin[flow]! >= 0) updateState(f, flow);
  }
  if (f.hold[flow] === 1 || f.rangeCount[flow] !== 0) guestAcked(ctx, flow, ack, before);
  return true;
}

/** A flow that was never frozen: addresses change, and the window only where custody could not keep its promise (S46). */
function passPlain(ctx: PlaneContext, flow: number): void {
  const { f, packet: p } = ctx;
  if (p.flags & TCP_RST) {
    f.flags[flow] = f.flags[flow]! | GUEST_RESET;
    updateState(f, flow);
  } else if (p.flags & TCP_ACK) {
    const unit = 2 ** f.announcedShift[flow]!;
    let raw = p.window;
    if (raw * unit > CUSTODY_LIMIT) {
      raw = Math.floor(CUSTODY_LIMIT / unit);
      setWindow(p, raw);
    }
    const ack = inOffset(ctx, flow, p.ack);
    if (ack + raw * unit > f.maxEdge[flow]!) f.maxEdge[flow] = ack + raw * unit;
    if (ack > f.ackedToPeer[flow]!) {
      f.ackedToPeer[flow] = ack;
      if (f.inFin[flow]! >= 0) updateState(f, flow);
    }
  }
  if (p.tsAt !== 0 && seqDiff(p.tsVal as Seq, f.lastTsOut[flow]! as Seq) >= 0) {
    f.lastTsOut[flow] = p.tsVal;
    f.lastTsOutAt[flow] = ctx.now;
  }
  setSource(p, ctx.settings.outsideAddress, f.outsidePort[flow]! as Port);
  finish(p);
  ctx.forward(OUTSIDE);
}

function passManaged(ctx: PlaneContext, flow: number, start: number, length: number): void {
  const { f, packet: p } = ctx;
  const custodyBusy = f.hold[flow] === 1 || f.rangeCount[flow] !== 0;
  if (p.flags & TCP_RST) return passReset(ctx, flow, start);
  if (length > 0 && start + length <= f.sndUna[flow]! && f.splices[flow]! > 0) {
    // The peer has all of it: the old socket had sent it. The new one learns so from us (S47).
    ackGuest(ctx, flow);
    if (ackPoint(ctx, flow) > f.ackedToPeer[flow]!) ackPeer(ctx, flow);
    return;
  }
  const ack = ackPoint(ctx, flow);
  const edge = rightEdge(ctx, flow);
  if (custodyBusy && length === 0 && ack <= f.ackedToPeer[flow]! && edge <= f.maxEdge[flow]!) return;
  const guestAck = inOffset(ctx, flow, p.ack);
  const finKnown = f.inFin[flow]! >= 0;
  setWindow(p, promiseWindow(ctx, flow, ack, edge));
  if (ack !== guestAck) setAck(p, inSeq(ctx, flow, ack));
  if (p.sackAt !== 0 && (custodyBusy || ack !== guestAck)) translateSack(p, 0, inSeq(ctx, flow, ack), inSeq(ctx, flow, f.maxEdge[flow]!));
  setSeq(p, outSeq(ctx, flow, start));
  if (finKnown) updateState(f, flow);
  translateTsVal(ctx, flow);
  setSource(p, ctx.settings.outsideAddress, f.outsidePort[flow]! as Port);
  finish(p);
  ctx.forward(OUTSIDE);
}

/** A RST must land on the peer's RCV.NXT, which a fresh socket may not have reached yet (S38). */
function passReset(ctx: PlaneContext, flow: number, start: number): void {
  const { f, packet: p } = ctx;
  f.flags[flow] = f.flags[flow]! | GUEST_RESET;
  setSeq(p, outSeq(ctx, flow, Math.max(start, f.sndUna[flow]!)));
  if (p.flags & TCP_ACK) setAck(p, inSeq(ctx, flow, ackPoint(ctx, flow)));
  translateTsVal(ctx, flow);
  updateState(f, flow);
  setSource(p, ctx.settings.outsideAddress, f.outsidePort[flow]! as Port);
  finish(p);
  ctx.forward(OUTSIDE);
}

/** TSval onto the one clock the peer has seen from the beginning (S18). */
function translateTsVal(ctx: PlaneContext, flow: number): void {
  const { f, packet: p } = ctx;
  if (p.tsAt === 0 || !(f.flags[flow]! & HAS_TS)) return;
  const value = (p.tsVal + f.tsDelta[flow]!) >>> 0;
  if (seqDiff(value as Seq, f.lastTsOut[flow]! as Seq) >= 0) {
    f.lastTsOut[flow] = value;
    f.lastTsOutAt[flow] = ctx.now;
  }
  setTimestamps(p, value, p.tsEcr);
}

function udpFromGuest(ctx: PlaneContext, guest: number, leg: number): void {
  const { f, g, packet: p } = ctx;
  let flow = ctx.flows.findGuest(UDP, p.src, p.srcPort, p.dst, p.dstPort);
  if (g.leg[guest] !== leg) return ctx.drop('fenced-epoch');
  if (flow < 0) {
    if (g.state[guest] !== GUEST_RUNNING) return ctx.drop('frozen');
    const port = ctx.ports.acquire(UDP, guest, p.srcPort);
    if (port < 0) return ctx.drop('no-outside-port');
    flow = ctx.flows.create(UDP, guest, p.src, p.srcPort, port, p.dst, p.dstPort, ctx.now);
    if (flow < 0) {
      ctx.ports.release(UDP, guest, p.srcPort);
      return ctx.drop('flow-table-full');
    }
    f.leg[flow] = leg;
    f.epoch[flow] = g.epoch[guest]!;
    f.openedByGuest[flow] = 1;
    f.state[flow] = ESTABLISHED;
  }
  if (f.phase[flow] !== LIVE) return ctx.drop('frozen');
  countOut(ctx, flow);
  setSource(p, ctx.settings.outsideAddress, f.outsidePort[flow]! as Port);
  finish(p);
  ctx.forward(OUTSIDE);
}
