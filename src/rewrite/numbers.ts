/**
 * The numbers of the wire, each its own type: a sequence number cannot be compared with `<`, taken for an offset, or passed
 * where a port belongs. At run time all of them are plain numbers.
 */

declare const brand: unique symbol;
type Branded<Name extends string> = number & { readonly [brand]: Name };

/** A TCP sequence number, 0 to 2^32 - 1, which wraps (RFC 9293 §3.4). */
export type Seq = Branded<'Seq'>;
/** A place in a byte stream: 0 is the first data byte, -1 the SYN. Exact up to 2^53, so it never wraps. */
export type Offset = Branded<'Offset'>;
/** A TCP or UDP port, or an ICMP echo identifier, in host order. */
export type Port = Branded<'Port'>;
/** An IPv4 address as a number in host order: 127.0.0.1 is 0x7f000001. */
export type Ipv4 = Branded<'Ipv4'>;

/** A number as a sequence number, modulo 2^32. */
export function toSeq(value: number): Seq {
  return (value >>> 0) as Seq;
}

/** `a - b` on the circle, from -2^31 to 2^31 - 1: negative when `a` is before `b` (RFC 9293 §3.4). */
export function seqDiff(a: Seq, b: Seq): number {
  return (a - b) | 0;
}

/** `seq + bytes` modulo 2^32; `bytes` is any integer up to 2^52, also a negative one. */
export function seqAdd(seq: Seq, bytes: number): Seq {
  return ((seq + bytes) >>> 0) as Seq;
}

/** Whether `a` is before `b` on the circle. */
export function seqBefore(a: Seq, b: Seq): boolean {
  return ((a - b) | 0) < 0;
}

/** The later of two sequence numbers less than 2^31 apart. */
export function seqMax(a: Seq, b: Seq): Seq {
  return ((a - b) | 0) < 0 ? b : a;
}

/** The earlier of two sequence numbers less than 2^31 apart. */
export function seqMin(a: Seq, b: Seq): Seq {
  return ((a - b) | 0) < 0 ? a : b;
}

/** The sequence number of a stream offset; `isn1` is that of offset 0, which is ISN + 1. */
export function seqOfOffset(isn1: Seq, offset: Offset): Seq {
  return ((isn1 + offset) >>> 0) as Seq;
}

/**
 * The stream offset of a sequence number: of all offsets that have it, the one nearest to the anchor. The anchor is any pair
 * known to belong together; what lies up to 2^31 bytes before or just below 2^31 behind it is found.
 */
export function offsetOfSeq(seq: Seq, anchorSeq: Seq, anchorOffset: Offset): Offset {
  return (anchorOffset + ((seq - anchorSeq) | 0)) as Offset;
}

/** Dotted quad of an address. */
export function formatIpv4(address: number): string {
  return `${(address >>> 24) & 255}.${(address >>> 16) & 255}.${(address >>> 8) & 255}.${address & 255}`;
}

const DOTTED_QUAD = /^(0|[1-9]\d{0,2})\.(0|[1-9]\d{0,2})\.(0|[1-9]\d{0,2})\.(0|[1-9]\d{0,2})$/;

/** Address of a dotted quad in plain decimal; undefined for anything else (no octal, no short forms, no spaces). */
export function parseIpv4(text: string): Ipv4 | undefined {
  const match = DOTTED_QUAD.exec(text);
  if (match === null) return undefined;
  let address = 0;
  for (let i = 1; i <= 4; i++) {
    const part = Number(match[i]);
    if (part > 255) return undefined;
    address = address * 256 + part;
  }
  return address as Ipv4;
}

/** A port from 1 to 65535; undefined for anything else. */
export function toPort(value: number): Port | undefined {
  return Number.isInteger(value) && value >= 1 && value <= 0xffff ? (value as Port) : undefined;
}
