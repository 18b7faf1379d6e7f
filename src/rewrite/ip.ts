/** The IPv4 header (RFC 791 §3.1): a check that fills plain numbers, after which reading cannot fail. */
import { fold } from './checksum.ts';
import { DROP_REASONS } from './drops.ts';
import type { DropReason } from './drops.ts';
import type { Ipv4 } from './numbers.ts';

export const PROTO_ICMP = 1;
export const PROTO_TCP = 6;
export const PROTO_UDP = 17;

/** Bytes of a header without options. */
export const IPV4_HEADER = 20;
/** Offsets of fields from the start of the header. */
export const IP_TOS = 1;
export const IP_TOTAL_LENGTH = 2;
export const IP_IDENT = 4;
export const IP_FRAGMENT = 6;
export const IP_TTL = 8;
export const IP_PROTOCOL = 9;
export const IP_CHECKSUM = 10;
export const IP_SOURCE = 12;
export const IP_DESTINATION = 16;

export const IP_DONT_FRAGMENT = 0x4000;
/** More fragments, or an offset above 0. */
const FRAGMENT_BITS = 0x3fff;
/** The bit of the flags that must be zero. */
export const IP_RESERVED_BIT = 0x8000;

export type Ipv4Fields = {
  /** Bytes of the header with its options. */
  ihl: number;
  /** Bytes of header and payload; what follows in the buffer is padding. */
  totalLen: number;
  proto: number;
  ttl: number;
  /** DSCP and ECN (RFC 2474, 3168). */
  tos: number;
  reserved: boolean;
  src: Ipv4;
  dst: Ipv4;
};

/** Checks the header at `at`, of which `length` bytes are there, and fills the fields. Reads nothing beyond `length`. */
export function readIpv4(view: DataView, at: number, length: number, into: Ipv4Fields): DropReason | 0 {
  if (length < 1) return DROP_REASONS.truncated;
  const first = view.getUint8(at);
  if (first >>> 4 !== 4) return first >>> 4 === 6 ? DROP_REASONS.ipv6 : DROP_REASONS['bad-version'];
  if (length < IPV4_HEADER) return DROP_REASONS.truncated;
  const ihl = (first & 15) << 2;
  if (ihl < IPV4_HEADER) return DROP_REASONS['bad-header-length'];
  const lengthWord = view.getUint16(at + IP_TOTAL_LENGTH);
  if (lengthWord < ihl) return DROP_REASONS['bad-total-length'];
  if (lengthWord > length) return DROP_REASONS.truncated;
  const fragment = view.getUint16(at + IP_FRAGMENT);
  const protocol = view.getUint16(at + IP_TTL);
  const src = view.getUint32(at + IP_SOURCE);
  const dst = view.getUint32(at + IP_DESTINATION);
  let sum =
    view.getUint16(at) +
    lengthWord +
    view.getUint16(at + IP_IDENT) +
    fragment +
    protocol +
    view.getUint16(at + IP_CHECKSUM) +
    (src >>> 16) +
    (src & 0xffff) +
    (dst >>> 16) +
    (dst & 0xffff);
  for (let i = at + IPV4_HEADER; i < at + ihl; i += 2) sum += view.getUint16(i);
  if (fold(sum) !== 0xffff) return DROP_REASONS['bad-ip-checksum'];
  if (fragment & FRAGMENT_BITS) return DROP_REASONS.fragment;
  into.ihl = ihl;
  into.totalLen = lengthWord;
  into.proto = protocol & 255;
  into.ttl = protocol >>> 8;
  into.reserved = (fragment & IP_RESERVED_BIT) !== 0;
  into.tos = view.getUint8(at + IP_TOS);
  into.src = src as Ipv4;
  into.dst = dst as Ipv4;
  return 0;
}
