/**
 * A packet of a guest, on its way to the peer.
 *
 * Theory of operation. The leg a packet came from says which host sent it; old and new socket of a guest have one 4-tuple. So
 * the first question is always whether this leg holds the flow's epoch: if it does, the segment is recorded, translated and
 * passed; the socket of an announced attach gets its handshake from `splice.ts`; a frozen guest's old socket is read as
 * evidence only; everything else is fenced and answered with RST (S40, S48).
 */
import { DROP_REASONS } from '../rewrite/drops.ts';
import { TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN, TCP_URG } from '../rewrite/tcp.ts';
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
import { udpFromGuest } from './datagrams.ts';
import { ackGuest, ackPeer, rstPeer, rstReply, synAckGuest, synPeer } from './emit.ts';
import { isCarried, isOvertaken } from './fast-path.ts';
import {
  ATTACHING,
  GREETING,
  GUEST_RESET,
  HAS_TS,
  LIVE,
  MANAGED,
  OWNED,
  PEER_RESET,
  PROBED,
  REOPENING,
  RESET_AFTER,
  SYNCHRONIZED,
  SYN_MPTCP,
  TCP,
  UDP,
} from './flow.ts';
import { GUEST_FROZEN, GUEST_RUNNING, GUEST_SEALED } from './guests.ts';
import { synOptions } from './inbound-record.ts';
import { recordGuestSyn, recordSynAck } from './outbound-record.ts';
import { OUTSIDE, deviceOfLeg } from './out-queue.ts';
import { guestAcked, worthTelling } from './player.ts';
import { attachedSegment, freezeFlow, reopened } from './splice.ts';
import { endByReset, isClosed, isOver, revive, updateState } from './state.ts';
import { ackPoint, inOffset, inSeq, outOffset, outSeq, promise, shownTimestamp } from './windows.ts';

const SYN_BITS = TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN;
/** What ends or begins something: a flow that the kernel carries is the pump's again. */
const SPECIAL_BITS = TCP_SYN | TCP_RST | TCP_FIN | TCP_URG;

/** Takes the packet under the hand, which came from a leg. */
export function fromGuest(ctx: PlaneContext, leg: number): void {
  const p = ctx.packet;
  const guest = ctx.guests.byAddress(p.src);
  if (guest === undefined) return ctx.drop('unknown-guest');
  // Guests of one gateway do not reach each other through it yet.
  if (p.dst === ctx.settings.outsideAddress || ctx.inPool(p.dst)) return hairpin(ctx, leg);
  if (p.proto === TCP) tcpFromGuest(ctx, guest, leg);
  else if (p.proto === UDP) udpFromGuest(ctx, guest, leg);
  else ctx.drop('icmp');
}

/** A connect is refused at once: in silence it would wait for minutes. */
function hairpin(ctx: PlaneContext, leg: number): void {
  const p = ctx.packet;
  if (p.proto === TCP) {
    if (!p.verifyL4Checksum()) return ctx.count(DROP_REASONS['bad-l4-checksum']);
    rstReply(ctx, deviceOfLeg(leg));
  }
  ctx.drop('hairpin');
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
  if (!p.verifyL4Checksum()) return ctx.count(DROP_REASONS['bad-l4-checksum']);
  const opening = (p.flags & SYN_BITS) === TCP_SYN;
  const flow = ctx.flows.findGuest(TCP, p.src, p.srcPort, p.dst, p.dstPort);
  if (flow < 0) {
    const state = g.state[guest]!;
    if (g.leg[guest] !== leg || state === GUEST_SEALED || (state === GUEST_FROZEN && !opening)) return fence(ctx, leg);
    if (opening) return openFromGuest(ctx, guest);
    rstReply(ctx, deviceOfLeg(leg));
    return ctx.drop('no-flow');
  }
  if (f.phase[flow] === LIVE) return liveSegment(ctx, flow, guest, leg, opening);
  const announced = g.nextLeg[guest] === leg || (f.leg[flow] === leg && g.state[guest] === GUEST_RUNNING);
  if (f.phase[flow] === ATTACHING && announced) {
    if (f.nextSyn[flow] !== 0 || opening) return attachedSegment(ctx, flow, leg);
    // An old socket of the same host: gone by now, or the new one could not be made. A RST would find that.
    if (f.leg[flow] === leg && g.state[guest] !== GUEST_FROZEN) return ctx.drop('fenced-epoch');
  }
  if (f.leg[flow] === leg && g.state[guest] === GUEST_FROZEN) return evidence(ctx, flow);
  fence(ctx, leg);
}

function liveSegment(ctx: PlaneContext, flow: number, guest: number, leg: number, opening: boolean): void {
  const { f, g, packet: p } = ctx;
  // What an ended guest has left may stand in the way of the next one with its address, who may live elsewhere.
  const inherited = f.guest[flow] !== guest;
  if ((inherited ? g.leg[guest] : f.leg[flow]) !== leg) return fence(ctx, leg);
  if (opening && (inherited || isOver(f, flow) || f.flags[flow]! & OWNED)) {
    // The guest uses the same ports for a new connection.
    ctx.end(flow);
    return openFromGuest(ctx, guest);
  }
  if (p.flags & SPECIAL_BITS) ctx.fast.withdraw(flow);
  else ctx.fast.meet(flow, p, true);
  countOut(ctx, flow);
  if (f.flags[flow]! & OWNED) {
    // No socket of the guest may have this 4-tuple: what is left of one learns that its connection is over.
    rstReply(ctx, deviceOfLeg(leg));
    return ctx.drop('no-flow');
  }
  if (p.flags & TCP_SYN) return synFromGuest(ctx, flow);
  if (isCarried(f, flow) && isOvertaken(p, inOffset(ctx, flow, p.ack), f.ackedToPeer[flow]!, f.guestTs[flow]!))
    return ctx.drop('superseded');
  passToPeer(ctx, flow);
  ctx.fast.settle(flow);
}

function openFromGuest(ctx: PlaneContext, guest: number): void {
  const { f, g, packet: p } = ctx;
  const port = ctx.ports.acquire(TCP, guest, p.srcPort);
  if (port < 0) return ctx.drop('no-outside-port');
  const flow = ctx.open(TCP, guest, p.srcPort, port, p.dst, p.dstPort);
  if (flow < 0) return;
  f.openedByGuest[flow] = 1;
  f.flags[flow] = synOptions(ctx) | (p.mptcpAt !== 0 ? SYN_MPTCP : 0);
  f.outBase[flow] = seqAdd(p.seq, 1);
  recordGuestSyn(ctx, flow);
  updateState(f, flow);
  countOut(ctx, flow);
  if (g.state[guest] === GUEST_RUNNING) return passSyn(ctx, flow);
  // Sent just before the stop: it waits, as a connect that the peer has not answered. Nothing can have been received.
  freezeFlow(ctx, flow);
  f.cut[flow] = 0;
}

/** A SYN or SYN-ACK of the guest in a flow that exists. */
function synFromGuest(ctx: PlaneContext, flow: number): void {
  const { f, packet: p } = ctx;
  const flags = f.flags[flow]!;
  if (p.flags & TCP_ACK && f.openedByGuest[flow] === 0) {
    if (flags & REOPENING) {
      if (!reopened(ctx, flow)) return;
    } else if (!(flags & SYNCHRONIZED)) {
      // One that answers an older attempt of the peer is not what the connection begins with.
      if (seqDiff(p.ack, f.inBase[flow]! as Seq) === 0) {
        f.outBase[flow] = seqAdd(p.seq, 1);
        recordSynAck(ctx, flow);
      }
    } else if (seqDiff(p.seq, f.guestIsn[flow]! as Seq) !== 0) {
      return ctx.drop('unannounced-syn');
    } else if (flags & MANAGED) {
      // The peer has its SYN-ACK, and it is the answer to the guest that was lost; or it gets the very first one again.
      return f.sndUna[flow]! >= 0 ? ackGuest(ctx, flow) : synPeer(ctx, flow);
    }
  } else if (seqDiff(p.seq, f.guestIsn[flow]! as Seq) !== 0) {
    return unannounced(ctx, flow);
  } else if (flags & SYNCHRONIZED && flags & MANAGED && (f.splices[flow]! > 0 || flags & GREETING)) {
    // The answer was the gateway's, and is again (S9).
    return synAckGuest(ctx, flow);
  } else if (!(flags & SYNCHRONIZED) && f.splices[flow]! > 0) {
    // The peer takes whichever SYN comes first: all of them have the options of the very first.
    return synPeer(ctx, flow);
  }
  passSyn(ctx, flow);
}

/**
 * A SYN of the current leg with another ISN. Only an announced attach may open the 4-tuple of a connection again; it is
 * challenged, as by a peer that still has it, so that a kernel without the old socket ends it by RST (RFC 9293 §3.5.1). An attempt
 * that nobody has answered gives way to a new one.
 */
function unannounced(ctx: PlaneContext, flow: number): void {
  const { f } = ctx;
  if (!(f.flags[flow]! & SYNCHRONIZED) && f.openedByGuest[flow] === 1) {
    const guest = f.guest[flow]!;
    ctx.end(flow);
    return openFromGuest(ctx, guest);
  }
  ctx.drop('unannounced-syn');
  if (f.flags[flow]! & SYNCHRONIZED) ackGuest(ctx, flow);
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
  const flags = f.flags[flow]!;
  // With the cut known, or known to be before the first byte, what else that kernel has is lost with it.
  if (f.cut[flow]! >= 0 || flags & REOPENING || !(flags & SYNCHRONIZED) || isOver(f, flow)) return;
  if (p.flags & TCP_RST) {
    if (!(flags & PROBED)) return;
    // Nobody is there: the connection had ended, and its RST was lost on the way.
    rstPeer(ctx, flow);
    return endByReset(ctx, flow, GUEST_RESET);
  }
  if (!(p.flags & TCP_ACK)) return;
  const ack = inOffset(ctx, flow, p.ack);
  if (ack <= f.rcvNxt[flow]! || ack > f.peerNxt[flow]!) return;
  f.rcvNxt[flow] = ack;
  ctx.custody.release(flow, ack);
  if (ackPoint(ctx, flow) > f.ackedToPeer[flow]!) ackPeer(ctx, flow);
  updateState(f, flow);
}

function passToPeer(ctx: PlaneContext, flow: number): void {
  const { f, packet: p } = ctx;
  if (!(f.flags[flow]! & SYNCHRONIZED)) {
    // The listener refuses. In a connect, a RST ends an old connection of the peer, not the attempt (RFC 9293 §3.5.1).
    if (p.flags & TCP_RST && f.openedByGuest[flow] === 0) {
      if (f.flags[flow]! & REOPENING && !refusesReopening(ctx, flow)) return ctx.drop('fenced-epoch');
      endByReset(ctx, flow, GUEST_RESET);
    }
    if (f.delta[flow] !== 0) setSeq(p, seqAdd(p.seq, f.delta[flow]!));
    setSource(p, ctx.settings.outsideAddress, f.outsidePort[flow]! as Port);
    finish(p);
    return ctx.forward(OUTSIDE);
  }
  const start = outOffset(ctx, flow, seqAdd(p.seq, f.delta[flow]!));
  if (f.splices[flow]! > 0 && !isOfSocket(ctx, flow, start)) return ctx.drop('fenced-epoch');
  if (p.flags & TCP_RST) return passReset(ctx, flow, start);
  if (f.flags[flow]! & REOPENING && start !== f.guestNxt[flow]) return ctx.drop('no-flow');
  revive(ctx, flow);
  // A listener that answers a repeated SYN by an ACK had made the connection after all (RFC 5961 §4).
  f.flags[flow] = f.flags[flow]! & ~(GREETING | REOPENING);
  const length = p.payloadLen + (p.flags & TCP_FIN ? 1 : 0);
  const next = f.guestNxt[flow]!;
  recordSent(ctx, flow, start, length);
  const gone = (f.flags[flow] & RESET_AFTER) !== 0;
  const acked = p.flags & TCP_ACK ? recordGuestAck(ctx, flow, length === 0 && start === next) : true;
  if (gone) return ctx.drop('no-flow');
  if (f.flags[flow] & MANAGED) return acked ? passManaged(ctx, flow, start, length, next) : ctx.drop('bad-ack');
  passPlain(ctx, flow, acked);
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

/**
 * Takes the guest's acknowledgement and window into the record. False when it acknowledges what was never sent to it. `pure` says
 * that the segment carries nothing and stands at SND.NXT.
 */
function recordGuestAck(ctx: PlaneContext, flow: number, pure: boolean): boolean {
  const { f, packet: p } = ctx;
  const ack = inOffset(ctx, flow, p.ack);
  if (ack > f.peerNxt[flow]!) return false;
  const edge = ack + p.window * 2 ** f.guestShift[flow]!;
  const repeated = pure && edge === f.guestEdge[flow]! && ack === f.rcvNxt[flow]!;
  if (edge > f.guestEdge[flow]!) f.guestEdge[flow] = edge;
  const before = f.rcvNxt[flow]!;
  if (ack > before) {
    f.rcvNxt[flow] = ack;
    if (f.inFin[flow]! >= 0) updateState(f, flow);
  }
  if (f.hold[flow] === 1 || f.rangeCount[flow] !== 0) guestAcked(ctx, flow, ack, before, repeated);
  return true;
}

/** A flow that was never frozen: addresses change, and the window only where custody could not keep its promise (S46). */
function passPlain(ctx: PlaneContext, flow: number, acked: boolean): void {
  const { f, packet: p } = ctx;
  if (p.flags & TCP_ACK) {
    const unit = 2 ** f.announcedShift[flow]!;
    if (p.window * unit > CUSTODY_LIMIT) setWindow(p, Math.floor(CUSTODY_LIMIT / unit));
    if (acked) {
      const ack = inOffset(ctx, flow, p.ack);
      f.maxEdge[flow] = Math.max(f.maxEdge[flow]!, ack + p.window * unit);
      if (ack > f.ackedToPeer[flow]!) {
        f.ackedToPeer[flow] = ack;
        if (f.inFin[flow]! >= 0) updateState(f, flow);
      }
    }
  }
  if (p.tsAt !== 0) shownTimestamp(ctx, flow, p.tsVal);
  setSource(p, ctx.settings.outsideAddress, f.outsidePort[flow]! as Port);
  finish(p);
  ctx.pass(flow, OUTSIDE);
}

/** `next` is what the guest's socket had sent before this segment. */
function passManaged(ctx: PlaneContext, flow: number, start: number, length: number, next: number): void {
  const { f, packet: p } = ctx;
  const value = p.tsAt !== 0 && f.flags[flow]! & HAS_TS ? shownTimestamp(ctx, flow, p.tsVal) : p.tsVal;
  const end = start + length;
  if (length > 0 && end <= f.sndUna[flow]! && (end > f.ackedToGuest[flow]! || isClosed(f, flow))) {
    // The peer has all of it: the new socket learns so from us (S47). One whose FIN we have acknowledged would answer by RST, when gone.
    ackGuest(ctx, flow);
    if (ackPoint(ctx, flow) > f.ackedToPeer[flow]!) ackPeer(ctx, flow);
    return;
  }
  const custodyBusy = f.hold[flow] === 1 || f.rangeCount[flow] !== 0;
  // A keepalive or a window probe stands before what was sent, and is the peer's to answer.
  const pure = length === 0 && start >= next;
  if (custodyBusy && pure && ackPoint(ctx, flow) <= f.ackedToPeer[flow]! && !worthTelling(ctx, flow)) return;
  const guestAck = inOffset(ctx, flow, p.ack);
  promise(ctx, flow);
  const { ack } = ctx;
  setWindow(p, ctx.window);
  setAck(p, inSeq(ctx, flow, ack));
  if (p.sackAt !== 0) {
    // What the guest says of bytes the gateway sent it is the gateway's to know (S17).
    const lowest = custodyBusy || ack !== guestAck ? ack : Math.max(f.playNxt[flow]!, ack - 2 ** 30);
    translateSack(p, 0, inSeq(ctx, flow, lowest), inSeq(ctx, flow, f.maxEdge[flow]!));
  }
  // The old socket may have sent more than the new one has yet: an ACK from before that would be an old one to the peer.
  setSeq(p, outSeq(ctx, flow, pure ? Math.max(start, f.sndNxt[flow]!) : start));
  if (f.inFin[flow]! >= 0) updateState(f, flow);
  if (p.tsAt !== 0 && f.flags[flow]! & HAS_TS) setTimestamps(p, value, p.tsEcr);
  setSource(p, ctx.settings.outsideAddress, f.outsidePort[flow]! as Port);
  finish(p);
  ctx.pass(flow, OUTSIDE);
}

/** Whether a RST answers the SYN that the gateway repeats (RFC 9293 §3.10.7.1), and is not what an older socket left. */
function refusesReopening(ctx: PlaneContext, flow: number): boolean {
  const p = ctx.packet;
  return (p.flags & TCP_ACK) !== 0 && p.seq === 0 && seqDiff(p.ack, ctx.f.inBase[flow]! as Seq) === 0;
}

/**
 * Whether a segment can be the current socket's: it begins no lower than that socket did, and no higher than its window reaches. A
 * late one of an older socket, when a guest returns to the same leg, has numbers of its own (S40).
 */
function isOfSocket(ctx: PlaneContext, flow: number, start: number): boolean {
  const { f } = ctx;
  if (f.flags[flow]! & REOPENING) return true;
  const most = Math.max(f.peerEdge[flow]!, f.sndNxt[flow]!) + 0xffff * 2 ** f.peerShift[flow]!;
  return start >= f.socketBase[flow]! - 1 && start <= most;
}

/** A RST must land on the peer's RCV.NXT, which a fresh socket may not have reached yet (S38). */
function passReset(ctx: PlaneContext, flow: number, start: number): void {
  const { f, packet: p } = ctx;
  if (f.flags[flow]! & REOPENING) {
    if (!refusesReopening(ctx, flow)) return ctx.drop('fenced-epoch');
    // The listener refuses what the peer thinks is open.
    rstPeer(ctx, flow);
    return endByReset(ctx, flow, GUEST_RESET);
  }
  if (f.flags[flow]! & RESET_AFTER) {
    endByReset(ctx, flow, PEER_RESET);
    return ctx.drop('no-flow');
  }
  if (f.flags[flow]! & MANAGED) {
    setSeq(p, outSeq(ctx, flow, Math.max(start, f.sndUna[flow]!)));
    if (p.flags & TCP_ACK) setAck(p, inSeq(ctx, flow, ackPoint(ctx, flow)));
    translateTsVal(ctx, flow);
  }
  endByReset(ctx, flow, GUEST_RESET);
  setSource(p, ctx.settings.outsideAddress, f.outsidePort[flow]! as Port);
  finish(p);
  ctx.forward(OUTSIDE);
}

/** TSval onto the one clock the peer has seen from the beginning (S18). */
function translateTsVal(ctx: PlaneContext, flow: number): void {
  const { f, packet: p } = ctx;
  if (p.tsAt === 0 || !(f.flags[flow]! & HAS_TS)) return;
  setTimestamps(p, shownTimestamp(ctx, flow, p.tsVal), p.tsEcr);
}
