/**
 * A packet of the peer, on its way to the guest.
 *
 * Theory of operation. While a flow was never frozen, only addresses and ports change, and what passes is recorded. In a
 * MANAGED flow the numbers are the gateway's business too: ACK, SACK and TSecr are translated to the guest's current socket,
 * and an ACK never exceeds what that socket has sent (S47). While the gateway holds the peer's bytes, the packet does not pass at
 * all: `hold.ts` takes it.
 */
import { DROP_REASONS } from '../rewrite/drops.ts';
import { TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN, TCP_URG } from '../rewrite/tcp.ts';
import type { Ipv4, Port } from '../rewrite/numbers.ts';
import { seqAdd } from '../rewrite/numbers.ts';
import { finish, setAck, setDestination, stripOption } from '../rewrite/translate.ts';
import type { PlaneContext } from './context.ts';
import { udpFromPeer } from './datagrams.ts';
import { rstReply } from './emit.ts';
import { isCarried, isOvertaken } from './fast-path.ts';
import { FROZEN, LACKS_SACK, LACKS_WSCALE, LIVE, MANAGED, OWNED, REOPENING, SYNCHRONIZED, TCP, UDP } from './flow.ts';
import { GUEST_RUNNING } from './guests.ts';
import { challenge, holdFromPeer } from './hold.ts';
import {
  acceptSynAck,
  recordFirstSyn,
  recordFromPeer,
  refusesConnect,
  translateForGuest,
  translateTsEcr,
} from './inbound-record.ts';
import { OUTSIDE, deviceOfLeg } from './out-queue.ts';
import { holdAgain } from './player.ts';
import { isInDoubt, isOver, notePeerReset, updateState } from './state.ts';
import { inOffset, outOffset } from './windows.ts';

const SYN_ONLY = TCP_SYN;
const SYN_BITS = TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN;
/** What ends or begins something: a flow that the kernel carries is the pump's again. */
const SPECIAL_BITS = TCP_SYN | TCP_RST | TCP_FIN | TCP_URG;

/** Takes the packet under the hand, which came from the outside device. */
export function fromPeer(ctx: PlaneContext): void {
  const p = ctx.packet;
  if (p.dst !== ctx.settings.outsideAddress) return ctx.drop('not-our-address');
  if (p.proto === TCP) tcpFromPeer(ctx);
  else if (p.proto === UDP) udpFromPeer(ctx);
  else ctx.drop('icmp');
}

function countIn(ctx: PlaneContext, flow: number): void {
  const { f, packet: p, now } = ctx;
  f.packetsIn[flow] = f.packetsIn[flow]! + 1;
  f.bytesIn[flow] = f.bytesIn[flow]! + p.totalLen;
  f.lastSeen[flow] = now;
}

function tcpFromPeer(ctx: PlaneContext): void {
  const { f, packet: p } = ctx;
  // What a damaged segment says would be recorded, or held as the guest's bytes.
  if (!p.verifyL4Checksum()) return ctx.count(DROP_REASONS['bad-l4-checksum']);
  let flow = ctx.flows.findOutside(TCP, p.dstPort, p.src, p.srcPort);
  if (flow >= 0 && (p.flags & SYN_BITS) === SYN_ONLY && f.phase[flow] === LIVE && isOver(f, flow)) {
    // With data under way, the guest's kernel may have challenged the RST: two forged packets would end a connection (RFC 5961).
    if (isInDoubt(ctx, flow) && f.rcvNxt[flow]! < f.peerNxt[flow]!) return ctx.drop('blind-attack');
    // The peer uses the same ports for a new connection.
    ctx.end(flow);
    flow = -1;
  }
  if (flow < 0) return openFromPeer(ctx);
  if (p.flags & SPECIAL_BITS) ctx.fast.withdraw(flow);
  else ctx.fast.meet(flow, p, false);
  // Bytes that come late are held, and what follows goes behind them.
  if (f.hold[flow] === 1 && p.payloadLen > 0 && isCarried(f, flow)) ctx.fast.withdraw(flow);
  countIn(ctx, flow);
  if (isCarried(f, flow) && isOvertaken(p, outOffset(ctx, flow, p.ack), f.sndUna[flow]!, f.peerTs[flow]!))
    return ctx.drop('superseded');
  const flags = f.flags[flow]!;
  if (f.hold[flow] === 1 || flags & OWNED) return holdFromPeer(ctx, flow);
  if (p.flags & TCP_SYN) return synFromPeer(ctx, flow);
  if (flags & MANAGED && outgrowsGuest(ctx, flow)) {
    holdAgain(ctx, flow);
    return holdFromPeer(ctx, flow);
  }
  passToGuest(ctx, flow);
}

/**
 * Whether a segment goes beyond the window of the guest's current socket. The peer may have been promised more: by an older
 * socket, or where an edge was rounded up to the scale that the peer knows. That is custody's to take.
 */
function outgrowsGuest(ctx: PlaneContext, flow: number): boolean {
  const { f, packet: p } = ctx;
  if (p.payloadLen === 0 || p.flags & TCP_RST || !(f.flags[flow]! & SYNCHRONIZED)) return false;
  const end = inOffset(ctx, flow, p.seq) + p.payloadLen;
  return end > f.guestEdge[flow]! && end <= f.maxEdge[flow]!;
}

/** A first SYN makes a flow when its port is published (S15: one for a frozen listener waits in the table). */
function openFromPeer(ctx: PlaneContext): void {
  const { f, g, packet: p } = ctx;
  if ((p.flags & SYN_BITS) !== SYN_ONLY) {
    // As a host without that socket: the peer learns at once that nobody is there.
    rstReply(ctx, OUTSIDE);
    return ctx.drop('no-flow');
  }
  const guest = ctx.ports.publishedGuest(TCP, p.dstPort);
  if (guest < 0) {
    rstReply(ctx, OUTSIDE);
    return ctx.drop('closed-port');
  }
  const guestPort = ctx.ports.publishedPort(TCP, p.dstPort);
  if (!isFreeAtGuest(ctx, guest, guestPort)) {
    rstReply(ctx, OUTSIDE);
    return ctx.drop('port-collision');
  }
  ctx.ports.acquire(TCP, guest, guestPort);
  const flow = ctx.open(TCP, guest, guestPort, p.dstPort, p.src, p.srcPort);
  if (flow < 0) return;
  f.openedByGuest[flow] = 0;
  countIn(ctx, flow);
  recordFirstSyn(ctx, flow);
  updateState(f, flow);
  if (g.state[guest] !== GUEST_RUNNING) {
    f.phase[flow] = FROZEN;
    f.hold[flow] = 1;
    f.flags[flow] = f.flags[flow]! | MANAGED | REOPENING;
    return;
  }
  passSyn(ctx, flow);
}

/**
 * Whether the guest can tell a new connection of this peer from those it has: one that came by another outside port, from the same
 * port of the peer, looks the same to it. One that its kernel has no socket for gives way, as in `outbound.ts`.
 */
function isFreeAtGuest(ctx: PlaneContext, guest: number, guestPort: number): boolean {
  const { f, g, packet: p } = ctx;
  const flow = ctx.flows.findGuest(TCP, g.address[guest]!, guestPort, p.src, p.srcPort);
  if (flow < 0) return true;
  const over = f.phase[flow] === LIVE && !isInDoubt(ctx, flow) && (isOver(f, flow) || (f.flags[flow]! & OWNED) !== 0);
  if (!over && f.guest[flow] === guest) return false;
  ctx.end(flow);
  return true;
}

/** A SYN or SYN-ACK of the peer in a flow that exists. */
function synFromPeer(ctx: PlaneContext, flow: number): void {
  const { f, packet: p } = ctx;
  const synchronized = (f.flags[flow]! & SYNCHRONIZED) !== 0;
  if (!(p.flags & TCP_ACK)) {
    // RFC 5961 §4. A peer that started anew answers the challenge with RST, and then its SYN opens a new flow.
    if (synchronized && inOffset(ctx, flow, p.seq) !== -1) return challenge(ctx, flow);
    if (!synchronized && f.openedByGuest[flow] === 0) recordFirstSyn(ctx, flow);
  } else if (f.openedByGuest[flow] === 1) {
    if (!synchronized) acceptSynAck(ctx, flow);
    if (f.flags[flow]! & LACKS_WSCALE && p.wscaleAt !== 0) stripOption(p, p.wscaleAt);
    if (f.flags[flow]! & LACKS_SACK && p.sackPermAt !== 0) stripOption(p, p.sackPermAt);
    if (f.delta[flow] !== 0) setAck(p, seqAdd(p.ack, -f.delta[flow]!));
    translateTsEcr(ctx, flow);
  }
  passSyn(ctx, flow);
}

/** Passes a SYN on, without Fast Open (S9): its data is the sender's to repeat, and nobody acknowledges it here. */
function passSyn(ctx: PlaneContext, flow: number): void {
  const { f, packet: p } = ctx;
  if (p.fastOpenAt !== 0) stripOption(p, p.fastOpenAt);
  setDestination(p, f.guestAddress[flow]! as Ipv4, f.guestPort[flow]! as Port);
  finish(p);
  ctx.forward(deviceOfLeg(f.leg[flow]!));
}

function passToGuest(ctx: PlaneContext, flow: number): void {
  const { f, packet: p } = ctx;
  const flags = f.flags[flow]!;
  if (flags & SYNCHRONIZED) recordFromPeer(ctx, flow);
  else if (p.flags & TCP_RST) {
    // Connection refused.
    if (refusesConnect(ctx, flow)) notePeerReset(ctx, flow);
    if (f.delta[flow] !== 0 && p.flags & TCP_ACK) setAck(p, seqAdd(p.ack, -f.delta[flow]!));
  }
  setDestination(p, f.guestAddress[flow]! as Ipv4, f.guestPort[flow]! as Port);
  if (flags & MANAGED && flags & SYNCHRONIZED) translateForGuest(ctx, flow);
  finish(p);
  ctx.pass(flow, deviceOfLeg(f.leg[flow]!));
  ctx.fast.settle(flow);
}
