/** The ICMP header (RFC 792): type, code, and the identifier of queries. */
import { DROP_REASONS } from './drops.ts';
import type { DropReason } from './drops.ts';

export const ICMP_HEADER = 8;
export const ICMP_CHECKSUM = 2;
export const ICMP_IDENTIFIER = 4;

export const ICMP_ECHO_REPLY = 0;
export const ICMP_UNREACHABLE = 3;
export const ICMP_ECHO = 8;
export const ICMP_TIME_EXCEEDED = 11;
export const ICMP_PARAMETER_PROBLEM = 12;

export type IcmpFields = {
  icmpType: number;
  icmpCode: number;
  /** Identifier of an echo request or reply, the port of its conversation; -1 in other messages. */
  icmpId: number;
};

/** Checks the message at `at`, of which `length` bytes are there, and fills the fields. */
export function readIcmp(view: DataView, at: number, length: number, into: IcmpFields): DropReason | 0 {
  if (length < ICMP_HEADER) return DROP_REASONS['bad-icmp-length'];
  const type = view.getUint8(at);
  into.icmpType = type;
  into.icmpCode = view.getUint8(at + 1);
  into.icmpId = type === ICMP_ECHO || type === ICMP_ECHO_REPLY ? view.getUint16(at + ICMP_IDENTIFIER) : -1;
  return 0;
}
