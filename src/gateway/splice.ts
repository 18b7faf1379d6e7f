/**
 * Splice: a fresh socket continues an old connection (design: resume, commit, abort).
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
import { seqAdd } from '../rewrite/numbers.ts';
import type { PlaneContext } from './context.ts';
import { ackGuest, rstAttached, rstGuest, rstPeer, rstReply, synAckGuest, synPeer } from './emit.ts';
import {
  ATTACHING,
  FROZEN,
  GUEST_RESET,
  HAS_TS,
  HAS_WSCALE,
  LIVE,
  MANAGED,
  NO_FIN,
  OWNED,
  PEER_RESET,
  REOPENING,
  SYNCHRONIZED,
  TCP,
  isFinished,
} from './flow.ts';
import { recordSynAck } from './outbound-record.ts';
import { deviceOfLeg } from './out-queue.ts';
import { openToListener, play, reopen, startPlaying } from './player.ts';
import { updateState } from './state.ts';
import { inOffset, outSeq } from './windows.ts';

/** Puts a flow under the gateway's care: nothing passes, the peer is answered from here. */
export function freezeFlow(ctx: PlaneContext, flow: number): void {
  const f = ctx.f;
  f.phase[flow] = FROZEN;
  if (f.proto[flow] !== TCP) return;
  f.flags[flow] = f.flags[flow]! | MANAGED;
  f.cut[flow] = -1;
  f.rtoAt[flow] = 0;
  f.nextSyn[flow] = 0;
  const synchronized = (f.flags[flow]! & SYNCHRONIZED) !== 0;
  if (!synchronized && f.openedByGuest[flow] === 0) f.flags[flow] = f.flags[flow]! | REOPENING;
  // Custody that an earlier move left is kept (S39).
  if (f.hold[flow] === 0 && f.rangeCount[flow] === 0) ctx.custody.reset(flow, dataOffset(f.rcvNxt[flow]!, f.inFin[flow]!));
  f.hold[flow] = 1;
}

/** An offset of a stream without its FIN. */
function dataOffset(offset: number, fin: number): number {
  return fin === NO_FIN ? offset : Math.min(offset, fin);
}

/** First byte of the guest's stream that its next socket sends. */
export function unackedFrom(ctx: PlaneContext, flow: number): number {
  return dataOffset(Math.max(0, ctx.f.sndUna[flow]!), ctx.f.outFin[flow]!);
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
  if (f.nextSyn[flow] === 1 && f.proto[flow] === TCP) rstAttached(ctx, flow, leg);
  f.nextSyn[flow] = 0;
  f.phase[flow] = FROZEN;
}

/** A segment of the socket that an attach announced, before commit: its SYN is answered, its window noted. */
export function attachedSegment(ctx: PlaneContext, flow: number, leg: number): void {
  const { f, packet: p } = ctx;
  if (p.flags & TCP_RST) {
    f.nextSyn[flow] = 0;
    return;
  }
  if (p.flags & TCP_SYN) {
    const lacksTimestamps = (f.flags[flow]! & HAS_TS) !== 0 && p.tsAt === 0;
    if (isFinished(f.state[flow]!) || lacksTimestamps) {
      rstReply(ctx, deviceOfLeg(leg));
      if (lacksTimestamps) ctx.drop('option-mismatch');
      return;
    }
    f.nextSyn[flow] = 1;
    f.nextIsn[flow] = p.seq;
    f.nextShift[flow] = p.wscaleAt !== 0 ? Math.min(14, p.wscale) : 0;
    f.nextTs[flow] = p.tsVal;
    f.nextTsAt[flow] = ctx.now;
    f.nextMss[flow] = p.mssAt !== 0 ? p.mss : 536;
    f.nextEdge[flow] = Math.max(0, f.cut[flow]!) + p.window;
    // A connect that the peer has not answered yet is passed on at commit, as the SYN it was.
    if (f.flags[flow]! & SYNCHRONIZED) synAckGuest(ctx, flow, leg);
    return;
  }
  if (p.flags & TCP_ACK) {
    const shift = f.flags[flow]! & HAS_WSCALE ? f.nextShift[flow]! : 0;
    f.nextEdge[flow] = Math.max(f.nextEdge[flow]!, inOffset(ctx, flow, p.ack) + p.window * 2 ** shift);
  }
  if (p.payloadLen > 0) ctx.drop('before-commit');
}

/** Makes the attached socket the flow's, or settles what a flow without one becomes. */
export function commitFlow(ctx: PlaneContext, flow: number, leg: number, epoch: number): void {
  const f = ctx.f;
  f.leg[flow] = leg;
  f.epoch[flow] = epoch;
  f.splices[flow] = f.splices[flow]! + 1;
  const attached = f.nextSyn[flow] === 1;
  const ownTime = attached ? tsDelta(ctx, flow) : 0;
  f.phase[flow] = LIVE;
  if (f.proto[flow] !== TCP || isFinished(f.state[flow]!)) {
    f.hold[flow] = 1;
    f.flags[flow] = f.flags[flow]! | OWNED;
    return;
  }
  if (attached) return adopt(ctx, flow, ownTime);
  if (f.flags[flow]! & REOPENING) return openToListener(ctx, flow);
  if (f.outFin[flow]! >= 0 && f.sndUna[flow]! > f.outFin[flow]!) {
    f.flags[flow] = f.flags[flow]! | OWNED;
    return;
  }
  // The guest restored no socket for it (its image says so): the connection is over.
  rstPeer(ctx, flow);
  f.flags[flow] = f.flags[flow]! | GUEST_RESET | OWNED;
  updateState(f, flow);
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

function adopt(ctx: PlaneContext, flow: number, delta: number): void {
  const f = ctx.f;
  const cut = Math.max(0, f.cut[flow]!);
  f.guestIsn[flow] = f.nextIsn[flow]!;
  f.guestShift[flow] = f.flags[flow]! & HAS_WSCALE ? f.nextShift[flow]! : 0;
  f.tsFloor[flow] = f.nextTs[flow]!;
  f.tsDelta[flow] = delta;
  f.guestNxt[flow] = f.nextBase[flow]!;
  f.guestEdge[flow] = f.nextEdge[flow]!;
  f.nextSyn[flow] = 0;
  f.cut[flow] = -1;
  if (!(f.flags[flow]! & SYNCHRONIZED)) {
    f.delta[flow] = (f.outBase[flow]! - 1 - f.nextIsn[flow]!) >>> 0;
    f.hold[flow] = 0;
    return synPeer(ctx, flow);
  }
  f.delta[flow] = (outSeq(ctx, flow, f.nextBase[flow]!) - seqAdd(f.nextIsn[flow]! as Seq, 1)) >>> 0;
  f.rcvNxt[flow] = cut;
  ctx.custody.release(flow, cut);
  startPlaying(ctx, flow, cut);
  goOn(ctx, flow);
}

/** The flow has a socket again: both ends are told where things stand, and custody is played. */
function goOn(ctx: PlaneContext, flow: number): void {
  reopen(ctx, flow);
  ackGuest(ctx, flow);
  play(ctx, flow);
}

/** Gives a frozen flow back to the socket it had. */
export function thawFlow(ctx: PlaneContext, flow: number): void {
  const f = ctx.f;
  if (f.phase[flow] === LIVE) return;
  f.phase[flow] = LIVE;
  if (f.proto[flow] !== TCP) return;
  const flags = f.flags[flow]!;
  f.cut[flow] = -1;
  if (flags & PEER_RESET) return rstGuest(ctx, flow);
  if (flags & REOPENING) return openToListener(ctx, flow);
  if (!(flags & SYNCHRONIZED)) {
    f.hold[flow] = 0;
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
  if (!(f.flags[flow]! & SYNCHRONIZED)) {
    f.outBase[flow] = seqAdd(p.seq, 1);
    recordSynAck(ctx, flow);
    startPlaying(ctx, flow, 0);
    return true;
  }
  f.nextIsn[flow] = p.seq;
  f.nextShift[flow] = p.wscaleAt !== 0 ? Math.min(14, p.wscale) : 0;
  f.nextTs[flow] = p.tsVal;
  f.nextTsAt[flow] = ctx.now;
  f.nextMss[flow] = p.mssAt !== 0 ? p.mss : 536;
  f.nextEdge[flow] = p.window;
  f.nextBase[flow] = 0;
  f.guestIsn[flow] = p.seq;
  f.guestShift[flow] = f.flags[flow]! & HAS_WSCALE ? f.nextShift[flow]! : 0;
  f.tsDelta[flow] = tsDelta(ctx, flow);
  f.tsFloor[flow] = p.tsVal;
  f.guestNxt[flow] = 0;
  f.guestEdge[flow] = p.window;
  f.delta[flow] = (f.outBase[flow]! - seqAdd(p.seq, 1)) >>> 0;
  f.cut[flow] = -1;
  startPlaying(ctx, flow, 0);
  if (f.sndUna[flow]! >= 0) goOn(ctx, flow);
  else synPeer(ctx, flow);
  return false;
}
