/**
 * Segments of the gateway's own: where it stands in for the guest towards the peer, and for the peer towards the guest.
 * Each is written into the transmit region and queued; nothing is allocated.
 */
import { TCP_ACK, TCP_FIN, TCP_PSH, TCP_RST, TCP_SYN } from '../rewrite/tcp.ts';
import type { Ipv4, Port, Seq } from '../rewrite/numbers.ts';
import { seqAdd } from '../rewrite/numbers.ts';
import { RANGES_PER_FLOW } from './arena.ts';
import type { PlaneContext } from './context.ts';
import {
  HAS_SACK,
  HAS_TS,
  HAS_WSCALE,
  LACKS_SACK,
  LACKS_WSCALE,
  NEXT_LACKS_SACK,
  NEXT_LACKS_WSCALE,
  RESET_AFTER,
} from './flow.ts';
import { OUTSIDE, deviceOfLeg } from './out-queue.ts';
import { ackForGuest, ackPoint, inSeq, outSeq, ownTimestamp, promise } from './windows.ts';

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
 * Acknowledges to the peer all that is the guest's or in custody, and shows the window. With HAS_TS, TSecr is the peer's latest
 * TSval. A peer that is gone is told no more.
 */
export function ackPeer(ctx: PlaneContext, flow: number): void {
  const { writer: w, f } = ctx;
  const flags = f.flags[flow]!;
  if (flags & RESET_AFTER) return;
  promise(ctx, flow);
  towardsPeer(ctx, flow);
  w.flags = TCP_ACK;
  w.seq = outSeq(ctx, flow, f.sndNxt[flow]!);
  w.ack = inSeq(ctx, flow, ctx.ack);
  w.window = ctx.window;
  if (flags & HAS_TS) w.setTimestamps(ownTimestamp(ctx, flow), f.lastTsIn[flow]!);
  if (flags & HAS_SACK) reportRanges(ctx, flow);
  send(ctx, OUTSIDE);
}

/** Up to three ranges that custody holds above a gap, the one that changed last before the others (RFC 2018 §4). */
function reportRanges(ctx: PlaneContext, flow: number): void {
  const { writer: w, f } = ctx;
  const first = flow * RANGES_PER_FLOW * 2;
  const end = first + 2 * f.rangeCount[flow]!;
  const gap = ackPoint(ctx, flow);
  let latest = -1;
  for (let at = first; at < end; at += 2)
    if (f.ranges[at]! <= f.lastTaken[flow]! && f.lastTaken[flow]! < f.ranges[at + 1]!) latest = at;
  if (latest >= 0 && f.ranges[latest]! > gap) addRange(ctx, flow, latest);
  for (let at = first; at < end && w.sackCount < 3; at += 2)
    if (at !== latest && f.ranges[at]! > gap) addRange(ctx, flow, at);
}

function addRange(ctx: PlaneContext, flow: number, at: number): void {
  const { ranges } = ctx.f;
  ctx.writer.addSack(inSeq(ctx, flow, ranges[at]!), inSeq(ctx, flow, ranges[at + 1]!));
}

/** Ends the connection towards the peer, exactly at its RCV.NXT as last acknowledged (S38). */
export function rstPeer(ctx: PlaneContext, flow: number): void {
  const { writer: w, f } = ctx;
  if (f.flags[flow]! & RESET_AFTER) return;
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
  // An answer that is repeated by another listener takes nothing back (S20).
  f.maxEdge[flow] = Math.max(f.maxEdge[flow]!, Math.min(0xffff, f.guestEdge[flow]!));
  w.window = Math.min(0xffff, f.maxEdge[flow]);
  w.mss = f.guestMss[flow]!;
  if (flags & HAS_WSCALE) w.wscale = f.announcedShift[flow]!;
  if (flags & HAS_SACK) w.sackPermitted = true;
  if (flags & HAS_TS) w.setTimestamps(ownTimestamp(ctx, flow), f.openedByGuest[flow] === 0 ? f.lastTsIn[flow]! : 0);
  send(ctx, OUTSIDE);
}

/** Raw window of the peer for the guest, in units of `shift`; unscaled in a SYN (RFC 7323 §2.2). */
function peerWindow(ctx: PlaneContext, flow: number, ack: number, shift: number): number {
  const room = Math.max(0, ctx.f.peerEdge[flow]! - ack);
  return Math.min(0xffff, Math.floor(room / 2 ** shift));
}

/** Answers the SYN of a socket that an attach announced. */
export function synAckAttached(ctx: PlaneContext, flow: number, leg: number): void {
  const { f, writer: w } = ctx;
  const lacks = f.flags[flow]!;
  const cut = f.cut[flow]! >= 0 ? f.cut[flow]! : f.rcvNxt[flow]!;
  asListener(ctx, flow, cut, f.nextBase[flow]!, (lacks & NEXT_LACKS_WSCALE) === 0, (lacks & NEXT_LACKS_SACK) === 0);
  w.ack = seqAdd(f.nextIsn[flow]! as Seq, 1);
  if (lacks & HAS_TS) w.setTimestamps(f.peerTs[flow]!, f.nextTs[flow]!);
  send(ctx, deviceOfLeg(leg));
}

/** Answers the SYN of the guest's current socket, whose answer from the peer the gateway took, or which was lost (S9). */
export function synAckGuest(ctx: PlaneContext, flow: number): void {
  const { f, writer: w } = ctx;
  const lacks = f.flags[flow]!;
  asListener(ctx, flow, f.rcvNxt[flow]!, f.socketBase[flow]!, (lacks & LACKS_WSCALE) === 0, (lacks & LACKS_SACK) === 0);
  w.ack = seqAdd(f.guestIsn[flow]! as Seq, 1);
  if (lacks & HAS_TS) w.setTimestamps(f.peerTs[flow]!, f.tsFloor[flow]!);
  send(ctx, deviceOfLeg(f.leg[flow]!));
}

/**
 * A SYN-ACK as the peer would send it (S8, S10): ISN + 1 is `offset`, the next byte the guest expects, and only options that the
 * connection and the SYN both have are offered. `base` is the offset of the socket's first byte.
 */
function asListener(
  ctx: PlaneContext,
  flow: number,
  offset: number,
  base: number,
  wscale: boolean,
  sack: boolean,
): void {
  const { writer: w, f } = ctx;
  const flags = f.flags[flow]!;
  towardsGuest(ctx, flow);
  w.flags = TCP_SYN | TCP_ACK;
  w.seq = seqAdd(inSeq(ctx, flow, offset), -1);
  w.window = peerWindow(ctx, flow, base, 0);
  w.mss = Math.min(f.peerMss[flow]!, ctx.settings.mtu - 40);
  if (flags & HAS_WSCALE && wscale) w.wscale = f.peerShift[flow]!;
  if (flags & HAS_SACK && sack) w.sackPermitted = true;
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
  if (flags & HAS_TS) w.setTimestamps(f.peerTs[flow]!, 0);
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
  w.window = peerWindow(ctx, flow, ack, f.flags[flow]! & LACKS_WSCALE ? 0 : f.peerShift[flow]!);
  if (f.flags[flow]! & HAS_TS) w.setTimestamps(f.peerTs[flow]!, f.guestTs[flow]!);
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
export function playSegment(
  ctx: PlaneContext,
  flow: number,
  offset: number,
  length: number,
  fin: boolean,
  mss: number,
): void {
  const { writer: w, out } = ctx;
  asPeer(ctx, flow, offset);
  w.flags = TCP_ACK | TCP_PSH | (fin ? TCP_FIN : 0);
  w.payloadLen = length;
  w.gsoSize = length > mss ? mss : 0;
  const at = out.reserve(HEADERS + length);
  if (length > 0) ctx.custody.copy(flow, offset, length, out.buffer, w.payloadOffset(at));
  out.push(deviceOfLeg(ctx.f.leg[flow]!), at, w.write(out.buffer, at));
}

/**
 * Resets the guest's current socket. Its RCV.NXT lies between what it was seen to acknowledge and what was sent to it: a RST at
 * the end of that is accepted, or challenged, and the challenge is answered at the very number (`rstReply`).
 */
export function rstGuest(ctx: PlaneContext, flow: number): void {
  const { f } = ctx;
  asPeer(ctx, flow, Math.max(f.rcvNxt[flow]!, Math.min(f.peerNxt[flow]!, f.guestEdge[flow]!)));
  ctx.writer.flags = TCP_RST | TCP_ACK;
  send(ctx, deviceOfLeg(f.leg[flow]!));
}

/** Asks the old kernel whether it has a socket for this flow: a keepalive, which a missing socket answers with RST. */
export function probeGuest(ctx: PlaneContext, flow: number): void {
  asPeer(ctx, flow, ctx.f.rcvNxt[flow]! - 1);
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
