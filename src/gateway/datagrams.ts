/**
 * UDP: a mapping that lives as long as it is used (RFC 4787), towards the leg that holds the guest.
 *
 * Limits. Datagrams of and for a frozen guest are dropped and counted; the mapping itself moves with the guest.
 */
import type { Ipv4, Port } from '../rewrite/numbers.ts';
import { finish, setDestination, setSource } from '../rewrite/translate.ts';
import type { PlaneContext } from './context.ts';
import { ESTABLISHED, FROZEN, LIVE, UDP } from './flow.ts';
import { GUEST_RUNNING } from './guests.ts';
import { OUTSIDE, deviceOfLeg } from './out-queue.ts';

/** Makes the flow of a first datagram, or counts why not. */
function open(
  ctx: PlaneContext,
  guest: number,
  guestPort: number,
  outsidePort: number,
  peer: number,
  peerPort: number,
): number {
  const { f, g } = ctx;
  const flow = ctx.open(UDP, guest, guestPort, outsidePort, peer, peerPort);
  if (flow < 0) return -1;
  f.phase[flow] = g.state[guest] === GUEST_RUNNING ? LIVE : FROZEN;
  f.state[flow] = ESTABLISHED;
  return flow;
}

/** Takes the datagram under the hand, which came from the outside device. */
export function udpFromPeer(ctx: PlaneContext): void {
  const { f, packet: p } = ctx;
  let flow = ctx.flows.findOutside(UDP, p.dstPort, p.src, p.srcPort);
  if (flow < 0) {
    const guest = ctx.ports.publishedGuest(UDP, p.dstPort);
    if (guest < 0) return ctx.drop('closed-port');
    const guestPort = ctx.ports.publishedPort(UDP, p.dstPort);
    // It came by another outside port before, and what the guest answers could leave by one only.
    if (ctx.flows.findGuest(UDP, ctx.g.address[guest]!, guestPort, p.src, p.srcPort) >= 0)
      return ctx.drop('port-collision');
    ctx.ports.acquire(UDP, guest, guestPort);
    flow = open(ctx, guest, guestPort, p.dstPort, p.src, p.srcPort);
    if (flow < 0) return;
  }
  f.packetsIn[flow] = f.packetsIn[flow]! + 1;
  f.bytesIn[flow] = f.bytesIn[flow]! + p.totalLen;
  f.lastSeen[flow] = ctx.now;
  if (f.phase[flow] !== LIVE) return ctx.drop('frozen-datagram');
  setDestination(p, f.guestAddress[flow]! as Ipv4, f.guestPort[flow]! as Port);
  finish(p);
  ctx.forward(deviceOfLeg(f.leg[flow]!));
}

/** Takes the datagram under the hand, which a guest sent over a leg. */
export function udpFromGuest(ctx: PlaneContext, guest: number, leg: number): void {
  const { f, g, packet: p } = ctx;
  if (g.leg[guest] !== leg) return ctx.drop('fenced-epoch');
  if (g.state[guest] !== GUEST_RUNNING) return ctx.drop('frozen');
  let flow = ctx.flows.findGuest(UDP, p.src, p.srcPort, p.dst, p.dstPort);
  if (flow < 0) {
    const port = ctx.ports.acquire(UDP, guest, p.srcPort);
    if (port < 0) return ctx.drop('no-outside-port');
    flow = open(ctx, guest, p.srcPort, port, p.dst, p.dstPort);
    if (flow < 0) return;
    f.openedByGuest[flow] = 1;
  }
  f.packetsOut[flow] = f.packetsOut[flow]! + 1;
  f.bytesOut[flow] = f.bytesOut[flow]! + p.totalLen;
  f.lastSeen[flow] = ctx.now;
  setSource(p, ctx.settings.outsideAddress, f.outsidePort[flow]! as Port);
  finish(p);
  ctx.forward(OUTSIDE);
}
