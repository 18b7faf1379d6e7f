/**
 * In-place translation of a parsed packet.
 *
 * Theory of operation. Each function changes bytes and the packet's field together, and adds what that means for the checksums
 * to the packet's deltas; `finish` applies them once, whatever was changed. With a partial checksum only the pseudo-header
 * counts, so there the deltas of the TCP or UDP bytes are not used. A super-packet is translated like any other: the kernel
 * copies its header to each piece.
 *
 * No header changes its length: an option that goes is overwritten with NOPs. All functions need a packet that `parse`
 * accepted, those of TCP a TCP packet.
 */
import { delta16, delta32, onesSum, swapped, updateChecksum, updatePartial } from './checksum.ts';
import { ICMP_CHECKSUM, ICMP_IDENTIFIER } from './icmp.ts';
import { IP_CHECKSUM, IP_DESTINATION, IP_FRAGMENT, IP_RESERVED_BIT, IP_SOURCE, PROTO_ICMP, PROTO_TCP } from './ip.ts';
import { seqDiff } from './numbers.ts';
import type { Ipv4, Port, Seq } from './numbers.ts';
import type { Packet } from './packet.ts';
import { TCP_ACKNOWLEDGEMENT, TCP_CHECKSUM, TCP_FLAGS, TCP_HEADER, TCP_SEQ, TCP_WINDOW } from './tcp.ts';
import {
  FAST_OPEN_MAGIC,
  OPT_END,
  OPT_EXPERIMENT,
  OPT_FAST_OPEN,
  OPT_MSS,
  OPT_NOP,
  OPT_SACK,
  OPT_SACK_PERMITTED,
  OPT_TIMESTAMPS,
  OPT_WSCALE,
} from './tcp-options.ts';
import { UDP_CHECKSUM } from './udp.ts';
import { VNET_FLAGS, VNET_NEEDS_CSUM } from './vnet.ts';

/** Sets the source address, and the source port of TCP and UDP. */
export function setSource(p: Packet, address: Ipv4, port: Port): void {
  const delta = delta32(p.src, address);
  p.ipDelta += delta;
  p.pseudoDelta += delta;
  p.view.setUint32(p.ip + IP_SOURCE, address);
  p.src = address;
  if (p.proto === PROTO_ICMP) return;
  p.l4Delta += delta16(p.srcPort, port);
  p.view.setUint16(p.l4, port);
  p.srcPort = port;
}

/** Sets the destination address, and the destination port of TCP and UDP. */
export function setDestination(p: Packet, address: Ipv4, port: Port): void {
  const delta = delta32(p.dst, address);
  p.ipDelta += delta;
  p.pseudoDelta += delta;
  p.view.setUint32(p.ip + IP_DESTINATION, address);
  p.dst = address;
  if (p.proto === PROTO_ICMP) return;
  p.l4Delta += delta16(p.dstPort, port);
  p.view.setUint16(p.l4 + 2, port);
  p.dstPort = port;
}

/** Clears the reserved bit of the IPv4 flags, at once: it is gone however the packet ends. `reserved` still tells that it was there. */
export function clearReserved(p: Packet): void {
  const at = p.ip + IP_FRAGMENT;
  const before = p.view.getUint16(at);
  const after = before & ~IP_RESERVED_BIT;
  p.view.setUint16(at, after);
  p.view.setUint16(p.ip + IP_CHECKSUM, updateChecksum(p.view.getUint16(p.ip + IP_CHECKSUM), delta16(before, after)));
}

/** Sets the identifier of an echo request or reply; it is to ICMP what a port is to UDP (RFC 5508 §3.1). */
export function setIcmpId(p: Packet, id: number): void {
  if (id === p.icmpId) return;
  // From 0xffff to 0 is a change, though of no weight modulo 2^16 - 1: `finish` has to know of it.
  p.l4Delta += delta16(p.icmpId, id) || 0xffff;
  p.view.setUint16(p.l4 + ICMP_IDENTIFIER, id);
  p.icmpId = id;
}

export function setSeq(p: Packet, seq: Seq): void {
  p.l4Delta += delta32(p.seq, seq);
  p.view.setUint32(p.l4 + TCP_SEQ, seq);
  p.seq = seq;
}

export function setAck(p: Packet, ack: Seq): void {
  p.l4Delta += delta32(p.ack, ack);
  p.view.setUint32(p.l4 + TCP_ACKNOWLEDGEMENT, ack);
  p.ack = ack;
}

/** Sets the raw window field, 0 to 65535. */
export function setWindow(p: Packet, window: number): void {
  p.l4Delta += delta16(p.window, window);
  p.view.setUint16(p.l4 + TCP_WINDOW, window);
  p.window = window;
}

/** Sets the low eight flags, CWR to FIN. */
export function setFlags(p: Packet, flags: number): void {
  // They are the low half of their word.
  p.l4Delta += delta16(p.flags, flags);
  p.view.setUint8(p.l4 + TCP_FLAGS, flags);
  p.flags = flags;
}

/** Sets TSval and TSecr (RFC 7323 §3.2); nothing where the segment has no timestamps. */
export function setTimestamps(p: Packet, value: number, echo: number): void {
  const at = p.tsAt;
  if (at === 0) return;
  const delta = delta32(p.tsVal, value) + delta32(p.tsEcr, echo);
  p.l4Delta += (at - p.l4) & 1 ? swapped(delta) : delta;
  p.view.setUint32(at + 2, value);
  p.view.setUint32(at + 6, echo);
  p.tsVal = value;
  p.tsEcr = echo;
}

/** Sets the maximum segment size in bytes; nothing where the option is absent. */
export function setMss(p: Packet, mss: number): void {
  const at = p.mssAt;
  if (at === 0) return;
  const delta = delta16(p.mss, mss);
  p.l4Delta += (at - p.l4) & 1 ? swapped(delta) : delta;
  p.view.setUint16(at + 2, mss);
  p.mss = mss;
}

/** Sets the shift count of the window scale option; nothing where it is absent. */
export function setWindowScale(p: Packet, shift: number): void {
  const at = p.wscaleAt;
  if (at === 0) return;
  const delta = delta16(p.wscale, shift);
  // The count is the option's third byte, so the low half of a word where the option begins on an odd offset.
  p.l4Delta += (at - p.l4) & 1 ? delta : swapped(delta);
  p.view.setUint8(at + 2, shift);
  p.wscale = shift;
}

/**
 * Adds `delta` (any integer, modulo 2^32) to both edges of every SACK block, and keeps those blocks that then lie within
 * [lowest, highest] (RFC 2018 §3), two numbers less than 2^31 apart. The others go, what is kept moves up, in order, so that a D-SACK block stays first
 * (RFC 2883 §4); one that lies below the acknowledgement is kept if `lowest` allows it. Without blocks left the option goes.
 */
export function translateSack(p: Packet, delta: number, lowest: Seq, highest: Seq): void {
  const at = p.sackAt;
  if (at === 0) return;
  const view = p.view;
  const length = view.getUint8(at + 1);
  const before = onesSum(view, at, at + length, 0);
  // Below zero when the bounds leave no room at all.
  const room = seqDiff(highest, lowest);
  let kept = 0;
  for (let i = 0; i < p.sackCount; i++) {
    const left = (view.getUint32(at + 2 + 8 * i) + delta) >>> 0;
    const right = (view.getUint32(at + 6 + 8 * i) + delta) >>> 0;
    const from = (left - lowest) >>> 0;
    const to = (right - lowest) >>> 0;
    if (from >= to || to > room) continue;
    view.setUint32(at + 2 + 8 * kept, left);
    view.setUint32(at + 6 + 8 * kept, right);
    kept++;
  }
  const used = kept === 0 ? 0 : 2 + 8 * kept;
  for (let i = at + used; i < at + length; i++) view.setUint8(i, OPT_NOP);
  if (kept === 0) p.sackAt = 0;
  else view.setUint8(at + 1, used);
  p.sackCount = kept;
  noteChange(p, at, length, before);
}

/** Overwrites the option whose kind byte is at `at`, one of the packet's `...At` offsets, with NOPs. */
export function stripOption(p: Packet, at: number): void {
  const view = p.view;
  const length = view.getUint8(at + 1);
  const before = onesSum(view, at, at + length, 0);
  for (let i = at; i < at + length; i++) view.setUint8(i, OPT_NOP);
  noteChange(p, at, length, before);
  forgetOption(p, at);
}

/** Adds the delta of `length` bytes at `at` whose sum was `before`. */
function noteChange(p: Packet, at: number, length: number, before: number): void {
  const delta = delta16(before, onesSum(p.view, at, at + length, 0));
  p.l4Delta += (at - p.l4) & 1 ? swapped(delta) : delta;
}

function forgetOption(p: Packet, at: number): void {
  if (at === p.mssAt) {
    p.mssAt = 0;
    p.mss = 0;
  } else if (at === p.wscaleAt) {
    p.wscaleAt = 0;
    p.wscale = -1;
  } else if (at === p.sackAt) {
    p.sackAt = 0;
    p.sackCount = 0;
  } else if (at === p.tsAt) {
    p.tsAt = 0;
    p.tsVal = 0;
    p.tsEcr = 0;
  } else if (at === p.sackPermAt) p.sackPermAt = 0;
  else if (at === p.fastOpenAt) p.fastOpenAt = 0;
  else if (at === p.md5At) p.md5At = 0;
  else if (at === p.aoAt) p.aoAt = 0;
  else if (at === p.mptcpAt) p.mptcpAt = 0;
}

/**
 * Overwrites what comes a second time of the kinds that are translated: receivers differ in which one they take, and they
 * shall all read what was translated.
 */
function stripDuplicates(p: Packet): void {
  const view = p.view;
  for (let at = p.l4 + TCP_HEADER; at < p.payload;) {
    const kind = view.getUint8(at);
    if (kind === OPT_END) break;
    if (kind === OPT_NOP) {
      at++;
      continue;
    }
    const length = view.getUint8(at + 1);
    if (isDuplicate(p, kind, at, length)) stripOption(p, at);
    at += length;
  }
  p.duplicateOptions = false;
}

function isDuplicate(p: Packet, kind: number, at: number, length: number): boolean {
  if (kind === OPT_MSS) return at !== p.mssAt;
  if (kind === OPT_WSCALE) return at !== p.wscaleAt;
  if (kind === OPT_SACK_PERMITTED) return at !== p.sackPermAt;
  if (kind === OPT_SACK) return at !== p.sackAt;
  if (kind === OPT_TIMESTAMPS) return at !== p.tsAt;
  const experiment = kind === OPT_EXPERIMENT && length >= 4 && p.view.getUint16(at + 2) === FAST_OPEN_MAGIC;
  return (kind === OPT_FAST_OPEN || experiment) && at !== p.fastOpenAt;
}

/**
 * Writes the IP and L4 checksums after all changes. UDP without a checksum keeps none, and a sum that comes out as 0 is sent as
 * 0xffff (RFC 768). A virtio header that called the sum checked no longer does: a device takes that flag, it never sets it.
 */
export function finish(p: Packet): void {
  const view = p.view;
  if (p.duplicateOptions && p.proto === PROTO_TCP) stripDuplicates(p);
  if (p.ipDelta !== 0) {
    const at = p.ip + IP_CHECKSUM;
    view.setUint16(at, updateChecksum(view.getUint16(at), p.ipDelta));
    p.ipDelta = 0;
  }
  view.setUint8(p.off + VNET_FLAGS, p.needsCsum ? VNET_NEEDS_CSUM : 0);
  if (p.proto === PROTO_ICMP) {
    if (p.l4Delta !== 0) finishIcmp(p);
  } else {
    const at = p.l4 + (p.proto === PROTO_TCP ? TCP_CHECKSUM : UDP_CHECKSUM);
    if (p.needsCsum) view.setUint16(at, updatePartial(view.getUint16(at), p.pseudoDelta));
    else if (p.proto === PROTO_TCP) addTo(view, at, p.pseudoDelta + p.l4Delta);
    else finishUdp(view, at, p.pseudoDelta + p.l4Delta);
  }
  p.pseudoDelta = 0;
  p.l4Delta = 0;
}

function addTo(view: DataView, at: number, delta: number): void {
  if (delta !== 0) view.setUint16(at, updateChecksum(view.getUint16(at), delta));
}

/**
 * ICMP has no pseudo-header: an echo reply of nothing but zeros is the one packet whose sum is 0, which arithmetic modulo 2^16 - 1
 * does not tell from 0xffff. Its checksum is 0xffff, and a receiver drops it with the 0 that an update gives.
 */
function finishIcmp(p: Packet): void {
  const at = p.l4 + ICMP_CHECKSUM;
  addTo(p.view, at, p.l4Delta);
  if (p.view.getUint16(at) === 0 && onesSum(p.view, p.l4, p.end, 0) === 0) p.view.setUint16(at, 0xffff);
}

function finishUdp(view: DataView, at: number, delta: number): void {
  const before = view.getUint16(at);
  if (before === 0 || delta === 0) return;
  const after = updateChecksum(before, delta);
  view.setUint16(at, after === 0 ? 0xffff : after);
}

/** The raw window field for a window of `bytes`: rounded down, at most 65535 (RFC 7323 §2.3). `shift` is 0 to 14. */
export function scaleWindow(bytes: number, shift: number): number {
  if (bytes <= 0) return 0;
  const raw = Math.floor(bytes / (1 << shift));
  return raw > 0xffff ? 0xffff : raw;
}

/** Bytes that a raw window field stands for; a SYN's window is never scaled, so its shift is 0. */
export function windowBytes(raw: number, shift: number): number {
  return raw * (1 << shift);
}

/**
 * A raw window as a receiver with another shift must read it, never more than was given. Rounding down is stable: translated
 * there and back, and there again, it gives the same field.
 */
export function translateWindow(raw: number, from: number, to: number): number {
  return scaleWindow(windowBytes(raw, from), to);
}
