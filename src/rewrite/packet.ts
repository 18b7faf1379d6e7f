/**
 * One packet under the hand: a checked view over bytes of a buffer.
 *
 * Theory of operation. There is one `Packet` for a buffer, and it is used again for every packet in it. `parse` checks
 * everything once; a packet it accepted can be read and translated without a further check, because every offset below lies
 * within it. Nothing is allocated and nothing is copied: fields are plain numbers in host order, offsets count from the start
 * of the buffer. The translators of `translate.ts` change bytes and fields together and keep what the checksums must be
 * changed by until `finish`.
 *
 * Limits: IPv4 only, no fragments; TCP, UDP and ICMP. Fields of the other two protocols are stale after a parse.
 */
import { fold, onesSum, pseudoSum } from './checksum.ts';
import { DROP_REASONS } from './drops.ts';
import type { DropReason } from './drops.ts';
import { ICMP_HEADER, readIcmp } from './icmp.ts';
import type { IcmpFields } from './icmp.ts';
import { PROTO_ICMP, PROTO_TCP, PROTO_UDP, readIpv4 } from './ip.ts';
import type { Ipv4Fields } from './ip.ts';
import type { Ipv4, Port, Seq } from './numbers.ts';
import { readTcp } from './tcp.ts';
import type { TcpFields } from './tcp.ts';
import { clearOptions, readOptions } from './tcp-options.ts';
import type { TcpOptionFields } from './tcp-options.ts';
import { UDP_CHECKSUM, UDP_HEADER, readUdp } from './udp.ts';
import type { UdpFields } from './udp.ts';
import { VNET_HEADER, readVnet } from './vnet.ts';
import type { VnetFields } from './vnet.ts';

export class Packet implements VnetFields, Ipv4Fields, TcpFields, TcpOptionFields, UdpFields, IcmpFields {
  view: DataView = new DataView(new ArrayBuffer(0));

  /** Offset of the virtio header. */
  off = 0;
  /** Offset of the IPv4 header. */
  ip = 0;
  /** Offset of the TCP, UDP or ICMP header. */
  l4 = 0;
  /** Offset of the data behind it. */
  payload = 0;
  payloadLen = 0;
  /** Offset behind the last byte of the IP packet. */
  end = 0;

  needsCsum = false;
  gsoType = 0;
  gsoSize = 0;

  ihl = 0;
  totalLen = 0;
  proto = 0;
  ttl = 0;
  tos = 0;
  /** The reserved bit of the IPv4 flags is set (RFC 791: it must be zero). */
  reserved = false;
  src = 0 as Ipv4;
  dst = 0 as Ipv4;

  srcPort = 0 as Port;
  dstPort = 0 as Port;
  seq = 0 as Seq;
  ack = 0 as Seq;
  flags = 0;
  window = 0;
  headerLen = 0;

  mssAt = 0;
  wscaleAt = 0;
  sackPermAt = 0;
  sackAt = 0;
  tsAt = 0;
  fastOpenAt = 0;
  md5At = 0;
  aoAt = 0;
  mptcpAt = 0;
  mss = 0;
  wscale = -1;
  sackCount = 0;
  tsVal = 0;
  tsEcr = 0;
  duplicateOptions = false;

  udpLen = 0;

  icmpType = 0;
  icmpCode = 0;
  icmpId = -1;

  /** Checksum deltas not yet applied: of the IP header, of the addresses in the pseudo-header, of the L4 bytes. */
  ipDelta = 0;
  pseudoDelta = 0;
  l4Delta = 0;

  /** Makes `buffer` the one that offsets are meant in. */
  attach(buffer: Uint8Array): void {
    this.view = new DataView(buffer.buffer, buffer.byteOffset, buffer.byteLength);
  }

  /**
   * Checks the packet whose virtio header is at `off`; `len` bytes are there, that header included. Reads nothing outside of
   * them, never throws. Returns 0, with all fields filled, or the reason to drop the packet, with fields that mean nothing.
   */
  parse(off: number, len: number): DropReason | 0 {
    const view = this.view;
    if (off < 0 || len < VNET_HEADER || off + len > view.byteLength) return DROP_REASONS.truncated;
    const ip = off + VNET_HEADER;
    this.off = off;
    this.ip = ip;
    this.ipDelta = 0;
    this.pseudoDelta = 0;
    this.l4Delta = 0;
    let reason = readIpv4(view, ip, len - VNET_HEADER, this);
    if (reason !== 0) return reason;
    const l4 = ip + this.ihl;
    const length = this.totalLen - this.ihl;
    this.l4 = l4;
    this.end = l4 + length;
    if (this.proto === PROTO_TCP) reason = this.#parseTcp(view, l4, length);
    else if (this.proto === PROTO_UDP) reason = this.#parseUdp(view, l4, length);
    else if (this.proto === PROTO_ICMP) reason = this.#parseIcmp(view, l4, length);
    else return DROP_REASONS['unsupported-protocol'];
    if (reason !== 0) return reason;
    return readVnet(view, off, this.proto, this.ihl, this.totalLen, this);
  }

  #parseTcp(view: DataView, l4: number, length: number): DropReason | 0 {
    const reason = readTcp(view, l4, length, this);
    if (reason !== 0) return reason;
    this.payload = l4 + this.headerLen;
    this.payloadLen = length - this.headerLen;
    clearOptions(this);
    return readOptions(view, l4 + 20, this.payload, this);
  }

  #parseUdp(view: DataView, l4: number, length: number): DropReason | 0 {
    const reason = readUdp(view, l4, length, this);
    if (reason !== 0) return reason;
    this.payload = l4 + UDP_HEADER;
    this.payloadLen = this.udpLen - UDP_HEADER;
    return 0;
  }

  #parseIcmp(view: DataView, l4: number, length: number): DropReason | 0 {
    this.payload = l4 + ICMP_HEADER;
    this.payloadLen = length - ICMP_HEADER;
    return readIcmp(view, l4, length, this);
  }

  /**
   * Whether the TCP, UDP or ICMP checksum is right, over all data. For packets that end here: one that is passed on keeps a
   * wrong sum wrong. A partial sum (NEEDS_CSUM) is right by definition, as is the absent one of UDP (RFC 768).
   */
  verifyL4Checksum(): boolean {
    if (this.needsCsum) return true;
    let length = this.end - this.l4;
    let initial = 0;
    if (this.proto === PROTO_UDP) {
      if (this.view.getUint16(this.l4 + UDP_CHECKSUM) === 0) return true;
      length = this.udpLen;
    }
    if (this.proto !== PROTO_ICMP) initial = pseudoSum(this.src, this.dst, this.proto, length);
    return fold(onesSum(this.view, this.l4, this.l4 + length, initial)) === 0xffff;
  }
}
