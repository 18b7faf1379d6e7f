/**
 * Segments of the gateway's own: where it stands in for the guest towards the peer, and for the peer towards the guest.
 * Each is written into the transmit region and queued; nothing is allocated.
 */
import { TCP_ACK, TCP_FIN, TCP_PSH, TCP_RST, TCP_SYN } from '../rewrite/tcp.ts';
import type { Ipv4, Port, Seq } from '../rewrite/numbers.ts';
import { seqAdd } from '../rewrite/numbers.ts';
import { RANGES_PER_FLOW } from './arena.ts';
import type { PlaneContext } from './context.ts';
import { HAS_SACK, HAS_TS, HAS_WSCALE } from './flow.ts';
import { OUTSIDE, deviceOfLeg } from './out-queue.ts';
import { ackForGuest, ackPoint, inSeq, outSeq, ownTimestamp, promiseWindow, rightEdge } from './windows.ts';

/** Room for a segment without data: virtio header, IPv4 header, the longest TCP header. */
const HEADERS = 10 + 20 + 60;

/** Addresses, ports and a clean set of options for a segment to the peer. */
function towardsPeer(ctx: PlaneContext, flow: number): void {
  const { writer: w, f } = ctx;
  w.reset();
  w.src = ctx.settings.outsideAddress;
  w.dst = f.peerAddress[flow]! as Ipv4;
  w.srcPort = f.outsidePort[flow]! as Port;
  w.dstPort = f.peerPort[flow]! as Port;
  w.ident = f.ident[flow] = (f.ident[flow]! + 1) & 0xffff;
}

function towardsGuest(ctx: PlaneContext, flow: number): void {
  const { writer: w, f } = ctx;
  w.reset();
  w.src = f.peerAddress[flow]! as Ipv4;
  w.dst = f.guestAddress[flow]! as Ipv4;
  w.srcPort = f.peerPort[flow]! as Port;
  w.dstPort = f.guestPort[flow]! as Port;
  w.ident = f.ident[flow] = (f.ident[flow]! + 1) & 0xffff;
}

function send(ctx: PlaneContext, device: number): void {
  const at = ctx.out.reserve(HEADERS);
  ctx.out.push(device, at, ctx.writer.write(ctx.out.buffer, at));
}

/**
 * Acknowledges to the peer all that is the guest's or in custody, shows the window, and reports up to three ranges that lie
 * above a gap (RFC 2018). With HAS_TS, TSecr is the peer's latest TSval.
 */
export function ackPeer(ctx: PlaneContext, flow: number): void {
  const { writer: w, f } = ctx;
  const flags = f.flags[flow]!;
  const ack = ackPoint(ctx, flow);
  towardsPeer(ctx, flow);
  w.flags = TCP_ACK;
  w.seq = outSeq(ctx, flow, f.sndNxt[flow]!);
  w.ack = inSeq(ctx, flow, ack);
  w.window = promiseWindow(ctx, flow, ack, rightEdge(ctx, flow));
  if (flags & HAS_TS) w.setTimestamps(ownTimestamp(ctx, flow), f.lastTsIn[flow]!);
  if (flags & HAS_SACK) {
    const first = flow * RANGES_PER_FLOW * 2;
    for (let i = 0; i < f.rangeCount[flow]! && w.sackCount < 3; i++) {
      const start = f.ranges[first + 2 * i]!;
      if (start > ack) w.addSack(inSeq(ctx, flow, start), inSeq(ctx, flow, f.ranges[first + 2 * i + 1]!));
    }
  }
  send(ctx, OUTSIDE);
}

/** Ends the connection towards the peer, exactly at its RCV.NXT as last acknowledged (S38). */
export function rstPeer(ctx: PlaneContext, flow: number): void {
  const { writer: w, f } = ctx;
  towardsPeer(ctx, flow);
  w.flags = TCP_RST | TCP_ACK;
  w.seq = outSeq(ctx, flow, Math.max(0, f.sndUna[flow]!));
  w.ack = inSeq(ctx, flow, ackPoint(ctx, flow));
  if (f.flags[flow]! & HAS_TS) w.setTimestamps(ownTimestamp(ctx, flow), f.lastTsIn[flow]!);
  send(ctx, OUTSIDE);
}

/** Sends the guest's SYN or SYN-ACK to the peer from what is recorded of it: the first ISN, the first options. */
export function synPeer(ctx: PlaneContext, flow: number): void {
  const { writer: w, f } = ctx;
  const flags = f.flags[flow]!;
  towardsPeer(ctx, flow);
  w.flags = TCP_SYN;
  w.seq = outSeq(ctx, flow, -1);
  if (f.openedByGuest[flow] === 0) {
    w.flags = TCP_SYN | TCP_ACK;
    w.ack = inSeq(ctx, flow, 0);
  }
  w.window = Math.min(0xffff, f.guestEdge[flow]!);
  w.mss = f.guestMss[flow]!;
  if (flags & HAS_WSCALE) w.wscale = f.announcedShift[flow]!;
  if (flags & HAS_SACK) w.sackPermitted = true;
  if (flags & HAS_TS) w.setTimestamps(ownTimestamp(ctx, flow), f.openedByGuest[flow] === 0 ? f.lastTsIn[flow]! : 0);
  send(ctx, OUTSIDE);
}

/** Raw window of the peer for the guest; unscaled in a SYN (RFC 7323 §2.2). */
function peerWindow(ctx: PlaneContext, flow: number, ack: number, shift: number): number {
  const room = Math.max(0, ctx.f.peerEdge[flow]! - ack);
  return Math.min(0xffff, Math.floor(room / 2 ** shift));
}

/**
 * Answers the SYN of an attached socket as the peer would (S8, S10): ISN + 1 is the next byte the guest expects, and only
 * options that the connection and the SYN both have are offered.
 */
export function synAckGuest(ctx: PlaneContext, flow: number, leg: number): void {
  const { writer: w, f } = ctx;
  const flags = f.flags[flow]!;
  towardsGuest(ctx, flow);
  w.flags = TCP_SYN | TCP_ACK;
  w.seq = seqAdd(inSeq(ctx, flow, f.rcvNxt[flow]!), -1);
  if (f.cut[flow]! >= 0) w.seq = seqAdd(inSeq(ctx, flow, f.cut[flow]!), -1);
  w.ack = seqAdd(f.nextIsn[flow]! as Seq, 1);
  w.window = peerWindow(ctx, flow, f.nextBase[flow]!, 0);
  w.mss = Math.min(f.peerMss[flow]!, ctx.settings.mtu - 40);
  if (flags & HAS_WSCALE) w.wscale = f.peerShift[flow]!;
  if (flags & HAS_SACK) w.sackPermitted = true;
  if (flags & HAS_TS) w.setTimestamps(f.lastTsIn[flow]!, f.nextTs[flow]!);
  send(ctx, deviceOfLeg(leg));
}

/** Opens towards the guest's listener as the peer did, from what is recorded of its SYN. */
export function synGuest(ctx: PlaneContext, flow: number): void {
  const { writer: w, f } = ctx;
  const flags = f.flags[flow]!;
  towardsGuest(ctx, flow);
  w.flags = TCP_SYN;
  w.seq = inSeq(ctx, flow, -1);
  w.window = Math.min(0xffff, f.peerWindow[flow]!);
  w.mss = f.peerMss[flow]!;
  if (flags & HAS_WSCALE) w.wscale = f.peerShift[flow]!;
  if (flags & HAS_SACK) w.sackPermitted = true;
  if (flags & HAS_TS) w.setTimestamps(f.lastTsIn[flow]!, 0);
  send(ctx, deviceOfLeg(f.leg[flow]!));
}

/** Sets the fields every segment to the guest's current socket shares; `offset` is its place in the peer's stream. */
function asPeer(ctx: PlaneContext, flow: number, offset: number): void {
  const { writer: w, f } = ctx;
  const ack = ackForGuest(ctx, flow);
  towardsGuest(ctx, flow);
  w.flags = TCP_ACK;
  w.seq = inSeq(ctx, flow, offset);
  w.ack = seqAdd(outSeq(ctx, flow, ack), -f.delta[flow]!);
  w.window = peerWindow(ctx, flow, ack, f.peerShift[flow]!);
  if (f.flags[flow]! & HAS_TS) w.setTimestamps(f.lastTsIn[flow]!, f.tsFloor[flow]!);
  f.ackedToGuest[flow] = ack;
  f.edgeToGuest[flow] = f.peerEdge[flow]!;
}

/** A pure ACK to the guest: news of the peer's acknowledgement and window. */
export function ackGuest(ctx: PlaneContext, flow: number): void {
  asPeer(ctx, flow, Math.max(ctx.f.playNxt[flow]!, ctx.f.rcvNxt[flow]!));
  send(ctx, deviceOfLeg(ctx.f.leg[flow]!));
}

/**
 * Sends `length` bytes of custody from `offset` on to the guest, with the peer's FIN behind them when `fin`. Longer than one
 * MSS, it is a GSO super-packet of `mss` byte pieces.
 */
export function playSegment(ctx: PlaneContext, flow: number, offset: number, length: number, fin: boolean, mss: number): void {
  const { writer: w, out } = ctx;
  asPeer(ctx, flow, offset);
  w.flags = TCP_ACK | TCP_PSH | (fin ? TCP_FIN : 0);
  w.payloadLen = length;
  w.gsoSize = length > mss ? mss : 0;
  const at = out.reserve(HEADERS + length);
  if (length > 0) ctx.custody.copy(flow, offset, length, out.buffer, w.payloadOffset(at));
  out.push(deviceOfLeg(ctx.f.leg[flow]!), at, w.write(out.buffer, at));
}

/** Resets the guest's current socket exactly at its RCV.NXT. */
export function rstGuest(ctx: PlaneContext, flow: number): void {
  asPeer(ctx, flow, ctx.f.rcvNxt[flow]!);
  ctx.writer.flags = TCP_RST | TCP_ACK;
  send(ctx, deviceOfLeg(ctx.f.leg[flow]!));
}

/** Resets the socket of an attach that will not be committed. */
export function rstAttached(ctx: PlaneContext, flow: number, leg: number): void {
  const { writer: w, f } = ctx;
  towardsGuest(ctx, flow);
  w.flags = TCP_RST | TCP_ACK;
  w.seq = inSeq(ctx, flow, f.cut[flow]! >= 0 ? f.cut[flow]! : f.rcvNxt[flow]!);
  w.ack = seqAdd(f.nextIsn[flow]! as Seq, 1);
  send(ctx, deviceOfLeg(leg));
}

/**
 * Answers the packet under the hand with a RST that its sender accepts (RFC 9293 §3.10.7.1): at the sequence number it
 * acknowledged, or, where it acknowledged nothing, acknowledging all it sent. A RST is never answered.
 */
export function rstReply(ctx: PlaneContext, device: number): void {
  const p = ctx.packet;
  const w = ctx.writer;
  if (p.flags & TCP_RST) return;
  w.reset();
  w.src = p.dst;
  w.dst = p.src;
  w.srcPort = p.dstPort;
  w.dstPort = p.srcPort;
  const length = p.payloadLen + (p.flags & TCP_SYN ? 1 : 0) + (p.flags & TCP_FIN ? 1 : 0);
  if (p.flags & TCP_ACK) {
    w.flags = TCP_RST;
    w.seq = p.ack;
  } else {
    w.flags = TCP_RST | TCP_ACK;
    w.seq = 0 as Seq;
    w.ack = seqAdd(p.seq, length);
  }
  send(ctx, device);
}
