/**
 * The virtio network header before each packet of a TUN device with IFF_VNET_HDR (virtio 1.2 §5.1.6): ten bytes, little-endian.
 *
 * It says whether the checksum is only begun (NEEDS_CSUM: the field holds the pseudo-header's sum, whoever sends the packet
 * out adds the rest), and whether the packet is a super-packet to be cut into pieces of `gso_size` data bytes.
 */
import { DROP_REASONS } from './drops.ts';
import type { DropReason } from './drops.ts';
import { PROTO_TCP, PROTO_UDP } from './ip.ts';
import { TCP_CHECKSUM } from './tcp.ts';
import { UDP_CHECKSUM } from './udp.ts';

export const VNET_HEADER = 10;
/** Offsets of fields. */
export const VNET_FLAGS = 0;
export const VNET_GSO_TYPE = 1;
export const VNET_HEADER_LENGTH = 2;
export const VNET_GSO_SIZE = 4;
export const VNET_CSUM_START = 6;
export const VNET_CSUM_OFFSET = 8;

export const VNET_NEEDS_CSUM = 1;
/** The receiver need not check the sum. */
export const VNET_DATA_VALID = 2;

export const GSO_NONE = 0;
export const GSO_TCPV4 = 1;
/** UDP, cut as IP fragments. */
export const GSO_UDP = 3;
export const GSO_TCPV6 = 4;
/** UDP, cut as datagrams. */
export const GSO_UDP_L4 = 5;
/** Set on a type: the first piece alone keeps CWR. */
export const GSO_ECN = 0x80;

/** Linux keeps this size for another meaning and refuses it. */
const GSO_BY_FRAGMENTS = 0xffff;

export type VnetFields = {
  needsCsum: boolean;
  /** One of the GSO types, with or without GSO_ECN. */
  gsoType: number;
  /** Data bytes of each piece; 0 when not GSO. */
  gsoSize: number;
};

/**
 * Checks the header at `at` against the packet behind it: protocol, `l4` bytes of IP header, `totalLen` bytes in all. What
 * passes here is taken by Linux when it is written to a TUN again.
 */
export function readVnet(
  view: DataView,
  at: number,
  proto: number,
  l4: number,
  totalLen: number,
  into: VnetFields,
): DropReason | 0 {
  const flags = view.getUint8(at + VNET_FLAGS);
  const gsoType = view.getUint8(at + VNET_GSO_TYPE);
  const needsCsum = (flags & VNET_NEEDS_CSUM) !== 0;
  into.needsCsum = needsCsum;
  into.gsoType = gsoType;
  into.gsoSize = 0;
  if (needsCsum) {
    const offset = proto === PROTO_TCP ? TCP_CHECKSUM : proto === PROTO_UDP ? UDP_CHECKSUM : -1;
    if (view.getUint16(at + VNET_CSUM_START, true) !== l4 || view.getUint16(at + VNET_CSUM_OFFSET, true) !== offset)
      return DROP_REASONS['bad-vnet-header'];
  }
  if (view.getUint16(at + VNET_HEADER_LENGTH, true) > totalLen) return DROP_REASONS['bad-vnet-header'];
  if (gsoType === GSO_NONE) return 0;
  const type = gsoType & ~GSO_ECN;
  const wanted = type === GSO_TCPV4 ? PROTO_TCP : type === GSO_UDP || type === GSO_UDP_L4 ? PROTO_UDP : -1;
  const size = view.getUint16(at + VNET_GSO_SIZE, true);
  if (wanted !== proto || !needsCsum || size === 0 || size === GSO_BY_FRAGMENTS) return DROP_REASONS['bad-vnet-header'];
  into.gsoSize = size;
  return 0;
}
