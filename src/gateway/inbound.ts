/**
 * A packet of the peer, on its way to the guest.
 *
 * Theory of operation. While a flow was never frozen, only addresses and ports change, and what passes is recorded. In a
 * MANAGED flow the numbers are the gateway's business too: ACK, SACK and TSecr are translated to the guest's current socket,
 * and an ACK never exceeds what that socket has sent (S47). While the gateway holds the peer's bytes, the packet does not pass at
 * all: `hold.ts` takes it.
 */
import { TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN } from '../rewrite/tcp.ts';
import type { Ipv4, Port, Seq } from '../rewrite/numbers.ts';
import { seqAdd, seqDiff } from '../rewrite/numbers.ts';
import { finish, setAck, setDestination, stripOption } from '../rewrite/translate.ts';
import type { PlaneContext } from './context.ts';
import { rstReply } from './emit.ts';
import {
  ESTABLISHED,
  FROZEN,
  LIVE,
  MANAGED,
  OWNED,
  PEER_RESET,
  REOPENING,
  SYNCHRONIZED,
  SYN_MPTCP,
  TCP,
  UDP,
  isFinished,
} from './flow.ts';
import { GUEST_RUNNING } from './guests.ts';
import { holdFromPeer } from './hold.ts';
import {
  acceptSynAck,
  recordFromPeer,
  recordPeerSyn,
  synOptions,
  translateForGuest,
  translateTsEcr,
} from './inbound-record.ts';
import { OUTSIDE, deviceOfLeg } from './out-queue.ts';
import { updateState } from './state.ts';

const SYN_ONLY = TCP_SYN;
const SYN_BITS = TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN;

/** Takes the packet under the hand, which came from the outside device. */
export function fromPeer(ctx: PlaneContext): void {
  const p = ctx.packet;
  if (p.dst !== ctx.settings.outsideAddress) return ctx.drop('not-our-address');
  if (p.proto === TCP) tcpFromPeer(ctx);
  else if (p.proto === UDP) udpFromPeer(ctx);
  else ctx.drop('icmp-error');
}

function countIn(ctx: PlaneContext, flow: number): void {
  const { f, packet: p, now } = ctx;
  f.packetsIn[flow] = f.packetsIn[flow]! + 1;
  f.bytesIn[flow] = f.bytesIn[flow]! + p.totalLen;
  f.lastSeen[flow] = now;
}

function tcpFromPeer(ctx: PlaneContext): void {
  const { f, packet: p } = ctx;
  let flow = ctx.flows.findOutside(TCP, p.dstPort, p.src, p.srcPort);
  if (flow >= 0 && (p.flags & SYN_BITS) === SYN_ONLY && isFinished(f.state[flow]!) && f.phase[flow] === LIVE) {
    // The peer uses the same ports for a new connection.
    ctx.end(flow);
    flow = -1;
  }
  if (flow < 0) return openFromPeer(ctx);
  countIn(ctx, flow);
  if (f.phase[flow] !== LIVE || f.hold[flow] === 1 || f.flags[flow]! & OWNED) return holdFromPeer(ctx, flow);
  if (p.flags & TCP_SYN) return synFromPeer(ctx, flow);
  passToGuest(ctx, flow);
}

/** A first SYN makes a flow when its port is published (S15: one for a frozen listener waits in the table). */
function openFromPeer(ctx: PlaneContext): void {
  const { f, g, packet: p } = ctx;
  if ((p.flags & SYN_BITS) !== SYN_ONLY) return ctx.drop('no-flow');
  const guest = ctx.ports.publishedGuest(TCP, p.dstPort);
  if (guest < 0) {
    rstReply(ctx, OUTSIDE);
    return ctx.drop('closed-port');
  }
  const guestPort = ctx.ports.publishedPort(TCP, p.dstPort);
  const address = g.address[guest]!;
  ctx.ports.acquire(TCP, guest, guestPort);
  const flow = ctx.flows.create(TCP, guest, address, guestPort, p.dstPort, p.src, p.srcPort, ctx.now);
  if (flow < 0) {
    ctx.ports.release(TCP, guest, guestPort);
    return ctx.drop('flow-table-full');
  }
  f.leg[flow] = g.leg[guest]!;
  f.epoch[flow] = g.epoch[guest]!;
  f.openedByGuest[flow] = 0;
  countIn(ctx, flow);
  recordPeerSyn(ctx, flow);
  f.flags[flow] = synOptions(ctx) | (p.mptcpAt !== 0 ? SYN_MPTCP : 0);
  updateState(f, flow);
  if (g.state[guest] !== GUEST_RUNNING) {
    f.phase[flow] = FROZEN;
    f.flags[flow] = f.flags[flow]! | MANAGED | REOPENING;
    return;
  }
  passSyn(ctx, flow);
}

/** A SYN or SYN-ACK of the peer in a flow that exists. */
function synFromPeer(ctx: PlaneContext, flow: number): void {
  const { f, packet: p } = ctx;
  if (p.flags & TCP_ACK && f.openedByGuest[flow] === 1) {
    if (!(f.flags[flow]! & SYNCHRONIZED)) acceptSynAck(ctx, flow);
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
  if (flags & SYNCHRONIZED) {
    if (!recordFromPeer(ctx, flow)) return;
  } else if (p.flags & TCP_RST && p.flags & TCP_ACK && seqDiff(p.ack, f.outBase[flow]! as Seq) === 0) {
    // Connection refused.
    f.flags[flow] = flags | PEER_RESET;
    updateState(f, flow);
    if (f.delta[flow] !== 0) setAck(p, seqAdd(p.ack, -f.delta[flow]!));
  }
  setDestination(p, f.guestAddress[flow]! as Ipv4, f.guestPort[flow]! as Port);
  if (flags & MANAGED && flags & SYNCHRONIZED) translateForGuest(ctx, flow);
  finish(p);
  ctx.forward(deviceOfLeg(f.leg[flow]!));
}

function udpFromPeer(ctx: PlaneContext): void {
  const { f, g, packet: p } = ctx;
  let flow = ctx.flows.findOutside(UDP, p.dstPort, p.src, p.srcPort);
  if (flow < 0) {
    const guest = ctx.ports.publishedGuest(UDP, p.dstPort);
    if (guest < 0) return ctx.drop('closed-port');
    const guestPort = ctx.ports.publishedPort(UDP, p.dstPort);
    ctx.ports.acquire(UDP, guest, guestPort);
    flow = ctx.flows.create(UDP, guest, g.address[guest]!, guestPort, p.dstPort, p.src, p.srcPort, ctx.now);
    if (flow < 0) {
      ctx.ports.release(UDP, guest, guestPort);
      return ctx.drop('flow-table-full');
    }
    f.leg[flow] = g.leg[guest]!;
    f.epoch[flow] = g.epoch[guest]!;
    f.phase[flow] = g.state[guest] === GUEST_RUNNING ? LIVE : FROZEN;
    f.state[flow] = ESTABLISHED;
  }
  countIn(ctx, flow);
  if (f.phase[flow] !== LIVE) return ctx.drop('frozen-datagram');
  setDestination(p, f.guestAddress[flow]! as Ipv4, f.guestPort[flow]! as Port);
  finish(p);
  ctx.forward(deviceOfLeg(f.leg[flow]!));
}
