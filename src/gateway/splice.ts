/**
 * Splice: a fresh socket continues an old connection (docs/splice.md, Attach and After the commit).
 *
 * Theory of operation. An attach announces which leg may open the next socket of a frozen flow. That socket's SYN is answered
 * here, as the peer: ISN + 1 is the next byte the guest expects, so that direction needs no change of SEQ, ever (S8). The SYN's
 * own ISN gives the delta of the other direction: the socket's first byte is the first the peer has not acknowledged. Until
 * commit nothing else of the new socket is used, so that an abort costs nothing but a RST. At commit its numbers become the
 * flow's; there is one delta, however many moves came before (S39).
 *
 * A connection that no accept had returned at the cut has no socket to attach. After the commit the gateway opens it towards the
 * guest's listener itself, as the peer did (S15).
 */
import { TCP_ACK, TCP_RST, TCP_SYN } from '../rewrite/tcp.ts';
import type { Seq } from '../rewrite/numbers.ts';
import { seqAdd, seqDiff } from '../rewrite/numbers.ts';
import type { PlaneContext } from './context.ts';
import {
  ackGuest,
  ackPeer,
  rstAttached,
  rstGuest,
  rstPeer,
  rstReply,
  synAckAttached,
  synAckGuest,
  synPeer,
} from './emit.ts';
import {
  ATTACHING,
  EXPECTED,
  FROZEN,
  GREETING,
  GUEST_RESET,
  HAS_SACK,
  HAS_TS,
  HAS_WSCALE,
  LACKS_SACK,
  LACKS_WSCALE,
  LIVE,
  MANAGED,
  NEXT_LACKS_SACK,
  NEXT_LACKS_WSCALE,
  NO_FIN,
  OWNED,
  PEER_RESET,
  REOPENING,
  RESET_AFTER,
  SYNCHRONIZED,
  TCP,
  unmovable,
} from './flow.ts';
import { GUEST_RUNNING } from './guests.ts';
import { recordSynAck } from './outbound-record.ts';
import { deviceOfLeg } from './out-queue.ts';
import { openToListener, play, startPlaying } from './player.ts';
import { dataOffset, endByReset, hasEnded, isOver, updateState } from './state.ts';
import { ackForGuest, ackPoint, inOffset, outSeq } from './windows.ts';

/** Puts a flow under the gateway's care: nothing passes, the peer is answered from here. */
export function freezeFlow(ctx: PlaneContext, flow: number): void {
  const f = ctx.f;
  ctx.fast.withdraw(flow);
  f.phase[flow] = FROZEN;
  if (f.proto[flow] !== TCP) return;
  const opening = !(f.flags[flow]! & SYNCHRONIZED) && f.openedByGuest[flow] === 0;
  if (!(f.flags[flow]! & MANAGED)) {
    // So far every segment of the peer has passed.
    f.ackedToGuest[flow] = f.sndUna[flow]!;
    f.edgeToGuest[flow] = f.peerEdge[flow]!;
  }
  f.flags[flow] = f.flags[flow]! | MANAGED | (opening ? REOPENING : 0);
  f.cut[flow] = -1;
  f.rtoAt[flow] = 0;
  f.nextSyn[flow] = 0;
  // Custody that an earlier move left is kept (S39).
  if (f.hold[flow] === 0 && f.rangeCount[flow] === 0)
    ctx.custody.reset(flow, dataOffset(f.rcvNxt[flow]!, f.inFin[flow]!));
  f.hold[flow] = 1;
}

/** First byte of the guest's stream that its next socket sends. */
export function unackedFrom(ctx: PlaneContext, flow: number): number {
  return dataOffset(Math.max(0, ctx.f.sndUna[flow]!), ctx.f.outFin[flow]!);
}

/** Whether the guest's FIN is acknowledged: nothing of its stream is left for a socket to send. */
export function finAcked(ctx: PlaneContext, flow: number): boolean {
  const f = ctx.f;
  return f.outFin[flow] !== NO_FIN && f.sndUna[flow]! > f.outFin[flow]!;
}

/** Announces the next socket. Flows without one take their course at commit. */
export function attachFlow(ctx: PlaneContext, flow: number): void {
  const f = ctx.f;
  f.phase[flow] = ATTACHING;
  f.nextSyn[flow] = 0;
  f.nextBase[flow] = unackedFrom(ctx, flow);
}

/** Withdraws an attach: sockets that were opened for it are reset. */
export function detachFlow(ctx: PlaneContext, flow: number, leg: number): void {
  const f = ctx.f;
  if (f.phase[flow] !== ATTACHING) return;
  if (f.nextSyn[flow] !== 0) rstAttached(ctx, flow, leg);
  f.nextSyn[flow] = 0;
  f.phase[flow] = FROZEN;
}

/** A segment of the socket that an attach announced, before commit: its SYN is answered, its window noted. */
export function attachedSegment(ctx: PlaneContext, flow: number, leg: number): void {
  const { f, packet: p } = ctx;
  if ((p.flags & (TCP_SYN | TCP_ACK)) === TCP_SYN) return attachedSyn(ctx, flow, leg);
  // A late segment of the socket that had this 4-tuple before, when a guest returns to the same leg, is not the new one's. That has
  // sent nothing yet but its SYN. A RST would find it, too.
  if (seqDiff(p.seq, f.nextIsn[flow]! as Seq) !== 1) return ctx.drop('fenced-epoch');
  if (p.flags & TCP_RST) {
    f.nextSyn[flow] = 0;
    return;
  }
  if (p.flags & TCP_ACK) {
    const scaled = f.flags[flow]! & HAS_WSCALE && !(f.flags[flow]! & NEXT_LACKS_WSCALE);
    const edge = inOffset(ctx, flow, p.ack) + p.window * 2 ** (scaled ? f.nextShift[flow]! : 0);
    f.nextEdge[flow] = Math.max(f.nextEdge[flow]!, edge);
    f.nextSyn[flow] = 2;
  }
  if (p.payloadLen > 0) ctx.drop('before-commit');
}

function attachedSyn(ctx: PlaneContext, flow: number, leg: number): void {
  const { f, packet: p } = ctx;
  const lacksTimestamps = (f.flags[flow]! & HAS_TS) !== 0 && p.tsAt === 0;
  // One that ended in peace meanwhile was announced all the same: the socket finds it as it was.
  if (f.flags[flow]! & (PEER_RESET | GUEST_RESET) || lacksTimestamps) {
    rstReply(ctx, deviceOfLeg(leg));
    if (lacksTimestamps) ctx.drop('option-mismatch');
    // Nothing more is waited for.
    else if (ctx.g.state[f.guest[flow]!] === GUEST_RUNNING) goesLive(ctx, flow);
    return;
  }
  // A repeated SYN gets the same answer, and takes back nothing (S9).
  if (f.nextSyn[flow] === 0 || p.seq !== f.nextIsn[flow]) {
    f.nextSyn[flow] = 0;
    noteNextSyn(ctx, flow);
  }
  f.nextSyn[flow] = Math.max(1, f.nextSyn[flow]!);
  if (f.flags[flow]! & EXPECTED && ctx.g.state[f.guest[flow]!] === GUEST_RUNNING) {
    const shift = tsDelta(ctx, flow);
    goesLive(ctx, flow);
    return adopt(ctx, flow, shift);
  }
  // A connect that the peer has not answered yet is passed on at commit, as the SYN it was.
  if (f.flags[flow]! & SYNCHRONIZED) synAckAttached(ctx, flow, leg);
}

/** Records what the SYN under the hand says of the socket that will be the flow's. */
function noteNextSyn(ctx: PlaneContext, flow: number): void {
  const { f, packet: p } = ctx;
  f.nextIsn[flow] = p.seq;
  f.nextShift[flow] = p.wscaleAt !== 0 ? Math.min(14, p.wscale) : 0;
  f.nextTs[flow] = p.tsVal;
  f.nextTsAt[flow] = ctx.now;
  f.nextMss[flow] = p.mssAt !== 0 ? p.mss : 536;
  f.nextEdge[flow] = Math.max(0, f.cut[flow]!) + p.window;
  const flags = f.flags[flow]!;
  const lacksSack = flags & HAS_SACK && p.sackPermAt === 0 ? NEXT_LACKS_SACK : 0;
  const lacksWscale = flags & HAS_WSCALE && p.wscaleAt === 0 ? NEXT_LACKS_WSCALE : 0;
  f.flags[flow] = (flags & ~(NEXT_LACKS_SACK | NEXT_LACKS_WSCALE)) | lacksSack | lacksWscale;
}

/** However long it was frozen: the time after which an idle flow is forgotten begins now, and what its host did not answer is past. */
function goesLive(ctx: PlaneContext, flow: number): void {
  ctx.f.phase[flow] = LIVE;
  ctx.f.lastSeen[flow] = ctx.now;
  ctx.f.askedAt[flow] = 0;
}

/** Makes the attached socket the flow's, or settles what a flow without one becomes. */
export function commitFlow(ctx: PlaneContext, flow: number, leg: number, epoch: number): void {
  const f = ctx.f;
  f.leg[flow] = leg;
  f.epoch[flow] = epoch;
  f.splices[flow] = f.splices[flow]! + 1;
  const attached = f.nextSyn[flow] !== 0;
  const shift = attached ? tsDelta(ctx, flow) : 0;
  goesLive(ctx, flow);
  if (f.proto[flow] !== TCP) return;
  const reset = (f.flags[flow]! & (PEER_RESET | GUEST_RESET)) !== 0;
  if (attached && !reset) return adopt(ctx, flow, shift);
  // The peer has gone since the new socket was made, which nothing else would tell: the flow is forgotten soon.
  if (attached) rstAttached(ctx, flow, leg);
  f.nextSyn[flow] = 0;
  if (isOver(f, flow)) {
    f.flags[flow] = f.flags[flow]! | OWNED;
    return;
  }
  if (f.flags[flow]! & REOPENING) return reopen(ctx, flow);
  if (f.cut[flow]! >= 0 && awaitsAnswer(ctx, flow)) return expectSocket(ctx, flow);
  // The guest has closed it, and its peer knows: the peer's FIN is all that is waited for.
  if (finAcked(ctx, flow) && ctx.custody.isEmpty(flow) && (!hasEnded(f, flow) || f.rcvNxt[flow]! >= f.inFin[flow]!))
    return own(ctx, flow);
  // The guest restored no socket for it (its image says so), or had closed it before these bytes came: a closed socket resets.
  if (f.flags[flow]! & SYNCHRONIZED) rstPeer(ctx, flow);
  endByReset(ctx, flow, GUEST_RESET);
}

/** The gateway is all that is left of the guest's end: the peer's FIN is acknowledged here, and with that it is over on both sides. */
function own(ctx: PlaneContext, flow: number): void {
  const f = ctx.f;
  if (f.flags[flow]! & RESET_AFTER) return endByReset(ctx, flow, PEER_RESET);
  f.flags[flow] = f.flags[flow]! | OWNED;
  // Ahead of bytes that nobody will read it is none.
  if (!hasEnded(f, flow)) f.inFin[flow] = NO_FIN;
  else {
    f.rcvNxt[flow] = f.inFin[flow]! + 1;
    // A peer that knows may be gone, and would answer by RST.
    if (ackPoint(ctx, flow) > f.ackedToPeer[flow]!) ackPeer(ctx, flow);
  }
  updateState(f, flow);
}

/** A connection that no accept had returned goes to the listener. A signed SYN cannot be repeated by anybody else: its peer does so. */
function reopen(ctx: PlaneContext, flow: number): void {
  if (unmovable(ctx.f.flags[flow]!) !== undefined) return ctx.end(flow);
  openToListener(ctx, flow);
}

/** Whether the guest's own connect has not been answered, as far as its socket knows: no restore waits for such a one. */
function awaitsAnswer(ctx: PlaneContext, flow: number): boolean {
  const flags = ctx.f.flags[flow]!;
  return ctx.f.openedByGuest[flow] === 1 && (!(flags & SYNCHRONIZED) || (flags & GREETING) !== 0);
}

/** The socket of a connect is on its way: its SYN makes it the flow's, until then the gateway stands in. */
function expectSocket(ctx: PlaneContext, flow: number): void {
  const f = ctx.f;
  f.flags[flow] = f.flags[flow]! | EXPECTED;
  f.phase[flow] = ATTACHING;
}

/**
 * What is added to the new socket's TSval so that the peer sees one clock that never goes back. Two milliseconds of slack cover
 * the rounding of two clocks of one millisecond (S18).
 */
function tsDelta(ctx: PlaneContext, flow: number): number {
  const f = ctx.f;
  if (!(f.flags[flow]! & HAS_TS)) return 0;
  const shown = f.lastTsOut[flow]! + Math.ceil(ctx.now - f.lastTsOutAt[flow]!) + 2;
  const guest = f.nextTs[flow]! + Math.floor(ctx.now - f.nextTsAt[flow]!);
  return (shown - guest) >>> 0;
}

/** Makes the socket that `noteNextSyn` recorded the flow's: numbers, options, clock. */
function takeSocket(ctx: PlaneContext, flow: number, shift: number): void {
  const f = ctx.f;
  const known = f.nextSyn[flow] === 2 ? GREETING : 0;
  const flags = f.flags[flow]! & ~(LACKS_SACK | LACKS_WSCALE | EXPECTED | known);
  const lacksSack = flags & NEXT_LACKS_SACK ? LACKS_SACK : 0;
  const lacksWscale = flags & NEXT_LACKS_WSCALE ? LACKS_WSCALE : 0;
  f.flags[flow] = flags | lacksSack | lacksWscale;
  f.guestIsn[flow] = f.nextIsn[flow]!;
  f.guestShift[flow] = flags & HAS_WSCALE && lacksWscale === 0 ? f.nextShift[flow]! : 0;
  f.socketMss[flow] = f.nextMss[flow]!;
  f.socketBase[flow] = f.nextBase[flow]!;
  f.tsFloor[flow] = f.guestTs[flow] = f.nextTs[flow]!;
  f.tsDelta[flow] = shift;
  f.guestNxt[flow] = f.nextBase[flow]!;
  f.guestEdge[flow] = f.nextEdge[flow]!;
  f.delta[flow] = (outSeq(ctx, flow, f.nextBase[flow]!) - seqAdd(f.nextIsn[flow]! as Seq, 1)) >>> 0;
  f.nextSyn[flow] = 0;
  f.cut[flow] = -1;
}

function adopt(ctx: PlaneContext, flow: number, shift: number): void {
  const f = ctx.f;
  const cut = Math.max(0, f.cut[flow]!);
  takeSocket(ctx, flow, shift);
  if (!(f.flags[flow]! & SYNCHRONIZED)) {
    f.hold[flow] = 0;
    return synPeer(ctx, flow);
  }
  f.rcvNxt[flow] = cut;
  ctx.custody.release(flow, cut);
  startPlaying(ctx, flow, cut);
  goOn(ctx, flow);
}

/** The flow has a socket again: both ends are told where things stand, and custody is played. */
function goOn(ctx: PlaneContext, flow: number): void {
  ackPeer(ctx, flow);
  if (ctx.f.flags[flow]! & GREETING) synAckGuest(ctx, flow);
  else ackGuest(ctx, flow);
  play(ctx, flow);
}

/** Gives a frozen flow back to the socket it had. */
export function thawFlow(ctx: PlaneContext, flow: number): void {
  const f = ctx.f;
  if (f.phase[flow] === LIVE) return;
  goesLive(ctx, flow);
  if (f.proto[flow] !== TCP) return;
  const flags = f.flags[flow]!;
  if (flags & EXPECTED) return expectSocket(ctx, flow);
  f.cut[flow] = -1;
  if (flags & GUEST_RESET) return;
  if (flags & PEER_RESET) {
    f.flags[flow] = flags | OWNED;
    return rstGuest(ctx, flow);
  }
  if (flags & REOPENING) return reopen(ctx, flow);
  if (!(flags & SYNCHRONIZED)) {
    f.hold[flow] = 0;
    return;
  }
  if (isOver(f, flow)) {
    f.hold[flow] = 0;
    // Its socket may be gone, and is not to be woken; one that still waits for an acknowledgement is there.
    if (ackForGuest(ctx, flow) > f.ackedToGuest[flow]!) ackGuest(ctx, flow);
    return;
  }
  startPlaying(ctx, flow, f.rcvNxt[flow]!);
  goOn(ctx, flow);
}

/**
 * The guest's listener answered the SYN that the gateway repeated. True when its SYN-ACK passes on to the peer, which has seen
 * none yet; otherwise the peer already knows another ISN, and the answer becomes the flow's newest socket.
 */
export function reopened(ctx: PlaneContext, flow: number): boolean {
  const { f, packet: p } = ctx;
  f.flags[flow] = f.flags[flow]! & ~REOPENING;
  f.rtoAt[flow] = 0;
  if (!(f.flags[flow] & SYNCHRONIZED)) {
    f.outBase[flow] = seqAdd(p.seq, 1);
    recordSynAck(ctx, flow);
    startPlaying(ctx, flow, 0);
    return true;
  }
  f.cut[flow] = -1;
  noteNextSyn(ctx, flow);
  f.nextBase[flow] = 0;
  takeSocket(ctx, flow, tsDelta(ctx, flow));
  startPlaying(ctx, flow, 0);
  if (f.sndUna[flow]! >= 0) goOn(ctx, flow);
  else synPeer(ctx, flow);
  return false;
}
