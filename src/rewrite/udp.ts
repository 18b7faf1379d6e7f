/** The UDP header (RFC 768). */
import { DROP_REASONS } from './drops.ts';
import type { DropReason } from './drops.ts';
import type { Port } from './numbers.ts';

export const UDP_HEADER = 8;
/** Offsets of fields from the start of the header. */
export const UDP_LENGTH = 4;
export const UDP_CHECKSUM = 6;

export type UdpFields = {
  srcPort: Port;
  dstPort: Port;
  /** Bytes of header and data; the IP payload may be longer (RFC 9868 puts options there). */
  udpLen: number;
};

/** Checks the header at `at`, of which `length` bytes are there, and fills the fields. */
export function readUdp(view: DataView, at: number, length: number, into: UdpFields): DropReason | 0 {
  if (length < UDP_HEADER) return DROP_REASONS.truncated;
  const udpLen = view.getUint16(at + UDP_LENGTH);
  if (udpLen < UDP_HEADER || udpLen > length) return DROP_REASONS['bad-udp-length'];
  into.srcPort = view.getUint16(at) as Port;
  into.dstPort = view.getUint16(at + 2) as Port;
  into.udpLen = udpLen;
  return 0;
}
