/** The TCP header (RFC 9293 §3.1) without its options. */
import { DROP_REASONS } from './drops.ts';
import type { DropReason } from './drops.ts';
import type { Port, Seq } from './numbers.ts';

export const TCP_FIN = 0x01;
export const TCP_SYN = 0x02;
export const TCP_RST = 0x04;
export const TCP_PSH = 0x08;
export const TCP_ACK = 0x10;
export const TCP_URG = 0x20;
/** ECN (RFC 3168 §6.1). */
export const TCP_ECE = 0x40;
export const TCP_CWR = 0x80;

/** Bytes of a header without options, and with as many as fit. */
export const TCP_HEADER = 20;
export const TCP_HEADER_MAX = 60;
/** Offsets of fields from the start of the header. */
export const TCP_SEQ = 4;
export const TCP_ACKNOWLEDGEMENT = 8;
export const TCP_DATA_OFFSET = 12;
export const TCP_FLAGS = 13;
export const TCP_WINDOW = 14;
export const TCP_CHECKSUM = 16;
export const TCP_URGENT = 18;

export type TcpFields = {
  srcPort: Port;
  dstPort: Port;
  seq: Seq;
  ack: Seq;
  /** The low eight flags, CWR to FIN. */
  flags: number;
  /** Raw window field, not scaled. */
  window: number;
  /** Bytes of the header with its options. */
  headerLen: number;
};

/** Checks the header at `at`, of which `length` bytes are there, and fills the fields. */
export function readTcp(view: DataView, at: number, length: number, into: TcpFields): DropReason | 0 {
  if (length < TCP_HEADER) return DROP_REASONS.truncated;
  const headerLen = (view.getUint8(at + TCP_DATA_OFFSET) >>> 4) << 2;
  if (headerLen < TCP_HEADER || headerLen > length) return DROP_REASONS['bad-tcp-offset'];
  const flags = view.getUint8(at + TCP_FLAGS);
  if ((flags & (TCP_SYN | TCP_RST | TCP_ACK)) === 0) return DROP_REASONS['bad-tcp-flags'];
  if (flags & TCP_SYN && flags & (TCP_FIN | TCP_RST)) return DROP_REASONS['bad-tcp-flags'];
  into.srcPort = view.getUint16(at) as Port;
  into.dstPort = view.getUint16(at + 2) as Port;
  into.seq = view.getUint32(at + TCP_SEQ) as Seq;
  into.ack = view.getUint32(at + TCP_ACKNOWLEDGEMENT) as Seq;
  into.flags = flags;
  into.window = view.getUint16(at + TCP_WINDOW);
  into.headerLen = headerLen;
  return 0;
}
