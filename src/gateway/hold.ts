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
import { ackGuest, ackPeer, rstGuest, rstPeer } from './emit.ts';
import { GUEST_RESET, LIVE, OWNED, PEER_RESET, REOPENING, SYNCHRONIZED, isFinished } from './flow.ts';
import { acceptSynAck, recordAck, translateForGuest } from './inbound-record.ts';
import { deviceOfLeg } from './out-queue.ts';
import { play } from './player.ts';
import { updateState } from './state.ts';
import { ackForGuest, ackPoint, inOffset, inSeq, rightEdge } from './windows.ts';

/** Challenge ACKs a second and flow (RFC 5961 §7). */
const CHALLENGES = 10;

/** Takes a peer's segment for a flow the gateway answers for. Its addresses are not translated yet. */
export function holdFromPeer(ctx: PlaneContext, flow: number): void {
  const { f, packet: p } = ctx;
  if (!(f.flags[flow]! & SYNCHRONIZED)) return beforeSynchronized(ctx, flow);
  if (p.flags & TCP_SYN) return challenge(ctx, flow);
  const start = inOffset(ctx, flow, p.seq);
  if (p.flags & TCP_RST) return resetFromPeer(ctx, flow, start);
  if (p.tsAt !== 0 && seqDiff(p.tsVal as Seq, f.lastTsIn[flow]! as Seq) < 0) {
    ctx.drop('paws');
    return ackPeer(ctx, flow);
  }
  if (!(p.flags & TCP_ACK)) return ctx.drop('blind-attack');
  if (!recordAck(ctx, flow)) return challenge(ctx, flow);
  if (p.tsAt !== 0 && start <= f.ackedToPeer[flow]!) f.lastTsIn[flow] = p.tsVal;
  const length = p.payloadLen + (p.flags & TCP_FIN ? 1 : 0);
  if (f.flags[flow]! & OWNED) return answerAsOwner(ctx, flow, start, length);
  const live = f.phase[flow] === LIVE;
  if (length > 0) takeData(ctx, flow, start, live);
  else if (start < ackPoint(ctx, flow)) ackPeer(ctx, flow);
  else if (live) passAck(ctx, flow);
}

/** Bytes and FIN into custody, then the acknowledgement (never the other way round), then on to the guest. */
function takeData(ctx: PlaneContext, flow: number, start: number, live: boolean): void {
  const { f, packet: p } = ctx;
  const edge = Math.max(f.maxEdge[flow]!, live ? 0 : rightEdge(ctx, flow));
  if (start > edge) {
    ctx.drop('out-of-window');
    return ackPeer(ctx, flow);
  }
  const taken = Math.min(p.payloadLen, edge - start);
  ctx.custody.insert(flow, start, ctx.out.buffer, p.payload, taken);
  if (p.flags & TCP_FIN && taken === p.payloadLen && f.inFin[flow]! < 0) f.inFin[flow] = start + p.payloadLen;
  if (start + taken > f.peerNxt[flow]!) f.peerNxt[flow] = start + taken;
  if (f.inFin[flow]! >= 0 && f.peerNxt[flow]! === f.inFin[flow]) f.peerNxt[flow] = f.inFin[flow]! + 1;
  f.reopenAt[flow] = 0;
  if (live) play(ctx, flow);
  ackPeer(ctx, flow);
  if (f.inFin[flow]! >= 0) updateState(f, flow);
  if (live && (ackForGuest(ctx, flow) > f.ackedToGuest[flow]! || f.peerEdge[flow]! > f.edgeToGuest[flow]!)) ackGuest(ctx, flow);
}

/** A pure ACK of the peer passes to the guest's socket, placed where that socket's RCV.NXT is or will be. */
function passAck(ctx: PlaneContext, flow: number): void {
  const { f, packet: p } = ctx;
  if (f.flags[flow]! & REOPENING) return;
  setDestination(p, f.guestAddress[flow]! as Ipv4, f.guestPort[flow]! as Port);
  setSeq(p, inSeq(ctx, flow, Math.max(f.playNxt[flow]!, f.rcvNxt[flow]!)));
  translateForGuest(ctx, flow);
  finish(p);
  ctx.forward(deviceOfLeg(f.leg[flow]!));
  // The ACK that completes the peer's handshake may be all that was waited for.
  play(ctx, flow);
}

function beforeSynchronized(ctx: PlaneContext, flow: number): void {
  const { f, packet: p } = ctx;
  if (p.flags & TCP_RST) {
    f.flags[flow] = f.flags[flow]! | PEER_RESET;
    updateState(f, flow);
    return;
  }
  // The guest's connect was under way at the cut: the gateway completes it, the next socket finds it done.
  if (f.openedByGuest[flow] === 1 && p.flags & TCP_SYN && p.flags & TCP_ACK && acceptSynAck(ctx, flow)) ackPeer(ctx, flow);
  // A SYN of the peer is known already; it is answered when there is a listener.
}

/** RFC 5961 §3: only a RST exactly at RCV.NXT ends the connection; one elsewhere in the window is challenged. */
function resetFromPeer(ctx: PlaneContext, flow: number, start: number): void {
  const { f } = ctx;
  if (isFinished(f.state[flow]!)) return;
  if (start === f.ackedToPeer[flow]) {
    f.flags[flow] = f.flags[flow]! | PEER_RESET;
    updateState(f, flow);
    if (f.phase[flow] === LIVE) rstGuest(ctx, flow);
    return;
  }
  if (start > f.ackedToPeer[flow]! && start <= f.maxEdge[flow]!) return challenge(ctx, flow);
  ctx.drop('blind-attack');
}

/** A challenge ACK, at most CHALLENGES a second and flow. */
function challenge(ctx: PlaneContext, flow: number): void {
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
  if (length === 0) {
    if (start < ackPoint(ctx, flow)) ackPeer(ctx, flow);
    return;
  }
  if (p.payloadLen > 0 && start + p.payloadLen > f.ackedToPeer[flow]!) {
    f.flags[flow] = f.flags[flow]! | GUEST_RESET;
    updateState(f, flow);
    return rstPeer(ctx, flow);
  }
  if (p.flags & TCP_FIN) {
    f.inFin[flow] = start + p.payloadLen;
    f.peerNxt[flow] = Math.max(f.peerNxt[flow]!, f.inFin[flow]! + 1);
    f.rcvNxt[flow] = f.inFin[flow]!;
  }
  ackPeer(ctx, flow);
  updateState(f, flow);
}
