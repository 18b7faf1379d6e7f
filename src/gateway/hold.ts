/**
 * The gateway as the peer's counterpart while the guest has no socket, or has one that is still catching up.
 *
 * Theory of operation. The peer's bytes go to custody first and are acknowledged from there; the window is closed only when
 * custody is full (S31). Keepalives and window probes are answered for ever, with advancing timestamps (S29, S30). RST, SYN and
 * ACK are judged as an endpoint would (S32, S33: RFC 5961), challenge ACKs are throttled. With a socket attached, the peer's
 * acknowledgements go on to it without the data, which follows from custody.
 */
import { TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN } from '../rewrite/tcp.ts';
import type { Ipv4, Port, Seq } from '../rewrite/numbers.ts';
import { seqDiff } from '../rewrite/numbers.ts';
import { finish, setDestination, setSeq } from '../rewrite/translate.ts';
import type { PlaneContext } from './context.ts';
import { ackGuest, ackPeer, rstGuest, rstPeer, rstReply, synAckAttached, synPeer } from './emit.ts';
import {
  GREETING,
  GUEST_RESET,
  LIVE,
  MANAGED,
  NO_FIN,
  OWNED,
  PEER_RESET,
  REOPENING,
  RESET_AFTER,
  SYNCHRONIZED,
} from './flow.ts';
import {
  acceptSynAck,
  noteTimestamp,
  recordAck,
  recordEnd,
  recordFirstSyn,
  refusesConnect,
  translateForGuest,
} from './inbound-record.ts';
import { OUTSIDE, deviceOfLeg } from './out-queue.ts';
import { play } from './player.ts';
import { askGuest, isSilent } from './silence.ts';
import { endByReset, hasEnded, isFinAcked, isOver, peerIsGone, updateState } from './state.ts';
import { ackForGuest, ackPoint, inOffset, inSeq, rightEdge } from './windows.ts';

/** Challenge ACKs a second and flow (RFC 5961 §7). */
const CHALLENGES = 10;

/** Takes a peer's segment for a flow the gateway answers for. Its addresses are not translated yet. */
export function holdFromPeer(ctx: PlaneContext, flow: number): void {
  const { f, packet: p } = ctx;
  const flags = f.flags[flow]!;
  if (flags & (PEER_RESET | GUEST_RESET | RESET_AFTER)) return answerReset(ctx);
  if (!(flags & SYNCHRONIZED)) return beforeSynchronized(ctx, flow);
  if (p.flags & TCP_SYN) return synInHold(ctx, flow);
  const start = inOffset(ctx, flow, p.seq);
  if (p.flags & TCP_RST) return resetFromPeer(ctx, flow, start);
  if (p.tsAt !== 0 && seqDiff(p.tsVal as Seq, f.lastTsIn[flow]! as Seq) < 0) {
    ctx.drop('paws');
    return ackPeer(ctx, flow);
  }
  const length = p.payloadLen + (p.flags & TCP_FIN ? 1 : 0);
  // An old segment, or a keepalive, is answered and tells nothing (RFC 9293 §3.10.7.4).
  if (start + length < f.ackedToPeer[flow]!) return answerOld(ctx, flow);
  if (start > takenEdge(ctx, flow)) {
    ctx.drop('out-of-window');
    return ackPeer(ctx, flow);
  }
  if (!(p.flags & TCP_ACK)) return ctx.drop('blind-attack');
  if (!recordAck(ctx, flow, start)) return challenge(ctx, flow);
  if (p.tsAt !== 0) noteTimestamp(ctx, flow, start);
  if (flags & OWNED) return answerAsOwner(ctx, flow, start, length);
  const live = f.phase[flow] === LIVE;
  if (live && isSilent(ctx, flow)) ctx.drop('silent-guest');
  else if (length > 0) takeData(ctx, flow, start, live);
  else if (live) passAck(ctx, flow);
}

/** To an old segment or a keepalive, for the guest as long as it is there itself. */
function answerOld(ctx: PlaneContext, flow: number): void {
  if (ctx.f.phase[flow] === LIVE) {
    askGuest(ctx, flow);
    if (isSilent(ctx, flow)) return ctx.drop('silent-guest');
  }
  ackPeer(ctx, flow);
}

/** What comes for a connection that a RST ended gets one, as from a host without the socket. A new SYN waits for the thaw. */
function answerReset(ctx: PlaneContext): void {
  ctx.drop('no-flow');
  if (!(ctx.packet.flags & TCP_SYN)) rstReply(ctx, OUTSIDE);
}

/** Where the bytes that are taken end: what was promised, and with nobody else to ask what custody still has room for. */
function takenEdge(ctx: PlaneContext, flow: number): number {
  const f = ctx.f;
  return f.phase[flow] === LIVE ? f.maxEdge[flow]! : Math.max(f.maxEdge[flow]!, rightEdge(ctx, flow));
}

/** Bytes and FIN into custody, then the acknowledgement (never the other way round), then on to the guest. */
function takeData(ctx: PlaneContext, flow: number, start: number, live: boolean): void {
  const { f, packet: p } = ctx;
  const taken = Math.min(p.payloadLen, takenEdge(ctx, flow) - start);
  const end = start + taken;
  if (taken > 0 && end > f.inFin[flow]! && isFinAcked(f, flow)) {
    // Nothing follows a FIN (RFC 9293 §3.10.7.4).
    ctx.drop('out-of-window');
    return ackPeer(ctx, flow);
  }
  // What was acknowledged is not taken a second time (RFC 9293 §3.10.7.4): a keepalive may carry a byte of garbage (RFC 1122 §4.2.3.6).
  const from = Math.max(start, f.ackedToPeer[flow]!);
  if (from < end) ctx.custody.insert(flow, from, ctx.out.buffer, p.payload + (from - start), end - from);
  recordEnd(ctx, flow, taken, end, (p.flags & TCP_FIN) !== 0 && taken === p.payloadLen);
  // A peer that has ended needs no window; once it is gone it would answer by RST.
  if (taken > 0 || hasEnded(f, flow)) f.reopenAt[flow] = 0;
  // The pool is empty: what the guest's socket can take now passes as it is, and stays the peer's to repeat.
  if (live && ctx.custody.contiguousEnd(flow, from) < end) return passData(ctx, flow, start, end);
  if (live) play(ctx, flow);
  ackPeer(ctx, flow);
  if (f.inFin[flow] !== NO_FIN) updateState(f, flow);
  const news = ackForGuest(ctx, flow) > f.ackedToGuest[flow]! || f.peerEdge[flow]! > f.edgeToGuest[flow]!;
  if (live && news && !(f.flags[flow]! & REOPENING)) ackGuest(ctx, flow);
}

/** Bytes that are not held go to the guest if they are the next that it is to get, and it has room for them. */
function passData(ctx: PlaneContext, flow: number, start: number, end: number): void {
  const { f, packet: p } = ctx;
  const next = Math.max(f.playNxt[flow]!, f.rcvNxt[flow]!);
  // One that begins with bytes that were acknowledged is repeated without them.
  if (
    f.flags[flow]! & (REOPENING | GREETING) ||
    start < f.ackedToPeer[flow]! ||
    start > next ||
    end <= next ||
    end > f.guestEdge[flow]!
  )
    return ackPeer(ctx, flow);
  f.playNxt[flow] = end === f.inFin[flow] ? end + 1 : end;
  setDestination(p, f.guestAddress[flow]! as Ipv4, f.guestPort[flow]! as Port);
  translateForGuest(ctx, flow);
  finish(p);
  ctx.pass(flow, deviceOfLeg(f.leg[flow]!));
}

/** A pure ACK of the peer passes to the guest's socket, placed where that socket's RCV.NXT is or will be. */
function passAck(ctx: PlaneContext, flow: number): void {
  const { f, packet: p } = ctx;
  if (f.flags[flow]! & REOPENING) return;
  setDestination(p, f.guestAddress[flow]! as Ipv4, f.guestPort[flow]! as Port);
  setSeq(p, inSeq(ctx, flow, Math.max(f.playNxt[flow]!, f.rcvNxt[flow]!)));
  translateForGuest(ctx, flow);
  finish(p);
  ctx.pass(flow, deviceOfLeg(f.leg[flow]!));
  // The ACK that completes the peer's handshake may be all that was waited for.
  play(ctx, flow);
}

function beforeSynchronized(ctx: PlaneContext, flow: number): void {
  const { f, g, packet: p } = ctx;
  if (p.flags & TCP_RST) {
    if (!refusesConnect(ctx, flow)) return ctx.drop('blind-attack');
    endByReset(ctx, flow, PEER_RESET);
    if (f.phase[flow] === LIVE) rstGuest(ctx, flow);
    return;
  }
  if (!(p.flags & TCP_SYN)) return ctx.drop('blind-attack');
  if (f.openedByGuest[flow] === 0) {
    // Answered when there is a listener; a new attempt of the peer counts instead of the one before.
    if (!(p.flags & TCP_ACK)) recordFirstSyn(ctx, flow);
    return;
  }
  // The guest's connect was under way at the cut: the gateway completes it, the next socket finds it done.
  if (!(p.flags & TCP_ACK) || !acceptSynAck(ctx, flow)) return;
  f.flags[flow] = f.flags[flow]! | MANAGED;
  ackPeer(ctx, flow);
  if (f.nextSyn[flow] !== 0) synAckAttached(ctx, flow, g.nextLeg[f.guest[flow]!]!);
}

/** A SYN that comes again says that the answer to it was lost; any other is an attack, or a peer that started anew (RFC 5961 §4). */
function synInHold(ctx: PlaneContext, flow: number): void {
  const { f, packet: p } = ctx;
  if (inOffset(ctx, flow, p.seq) !== -1) return challenge(ctx, flow);
  if (p.flags & TCP_ACK) return ackPeer(ctx, flow);
  if (f.sndUna[flow]! >= 0) return challenge(ctx, flow);
  synPeer(ctx, flow);
}

/** RFC 5961 §3: only a RST exactly at RCV.NXT ends the connection; one elsewhere in the window is challenged. */
function resetFromPeer(ctx: PlaneContext, flow: number, start: number): void {
  const { f } = ctx;
  if (start === f.ackedToPeer[flow]) {
    const owned = f.flags[flow]! & OWNED;
    peerIsGone(ctx, flow);
    if (f.phase[flow] === LIVE && isOver(f, flow) && !owned) rstGuest(ctx, flow);
    return;
  }
  if (start > f.ackedToPeer[flow]! && start <= f.maxEdge[flow]!) return challenge(ctx, flow);
  ctx.drop('blind-attack');
}

/** A challenge ACK, at most CHALLENGES a second and flow. */
export function challenge(ctx: PlaneContext, flow: number): void {
  const { f } = ctx;
  ctx.drop('blind-attack');
  const second = Math.floor(ctx.now / 1000);
  if (f.challengeSecond[flow] !== second) {
    f.challengeSecond[flow] = second;
    f.challengeCount[flow] = 0;
  }
  if (f.challengeCount[flow]! >= CHALLENGES) return;
  f.challengeCount[flow] = f.challengeCount[flow]! + 1;
  ackPeer(ctx, flow);
}

/** The guest closed this connection and its FIN is acknowledged: the peer's FIN is, too; data is refused as a closed socket does. */
function answerAsOwner(ctx: PlaneContext, flow: number, start: number, length: number): void {
  const { f, packet: p } = ctx;
  if (length === 0) return;
  if (start + p.payloadLen > ackPoint(ctx, flow)) {
    // Data, or a FIN behind data that was lost: a closed socket has no room for it.
    rstPeer(ctx, flow);
    return endByReset(ctx, flow, GUEST_RESET);
  }
  if (p.flags & TCP_FIN && f.inFin[flow] === NO_FIN && start + p.payloadLen === f.ackedToPeer[flow]) {
    // With that it is over: the peer may use its ports anew (state.ts, isOver).
    f.inFin[flow] = f.ackedToPeer[flow]!;
    f.peerNxt[flow] = f.rcvNxt[flow] = f.inFin[flow] + 1;
  }
  ackPeer(ctx, flow);
  updateState(f, flow);
}
