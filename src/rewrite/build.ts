/**
 * Writes whole TCP/IPv4 segments, virtio header included: what the gateway says in its own name or in a peer's.
 *
 * One writer is used again for every segment; `reset`, set the fields, `write`. Options are placed as Linux places them, every
 * one padded to a multiple of four bytes. Data is not copied: it is put where `payloadOffset` says, before or after.
 */
import { fold, onesSum, pseudoSum } from './checksum.ts';
import {
  IPV4_HEADER,
  IP_CHECKSUM,
  IP_DESTINATION,
  IP_DONT_FRAGMENT,
  IP_FRAGMENT,
  IP_IDENT,
  IP_SOURCE,
  IP_TOTAL_LENGTH,
  IP_TTL,
  PROTO_TCP,
} from './ip.ts';
import type { Ipv4, Port, Seq } from './numbers.ts';
import {
  TCP_ACKNOWLEDGEMENT,
  TCP_CHECKSUM,
  TCP_DATA_OFFSET,
  TCP_HEADER,
  TCP_HEADER_MAX,
  TCP_SEQ,
  TCP_URGENT,
  TCP_WINDOW,
} from './tcp.ts';
import { OPT_MSS, OPT_NOP, OPT_SACK, OPT_SACK_PERMITTED, OPT_TIMESTAMPS, OPT_WSCALE } from './tcp-options.ts';
import {
  GSO_NONE,
  GSO_TCPV4,
  VNET_CSUM_OFFSET,
  VNET_CSUM_START,
  VNET_GSO_SIZE,
  VNET_HEADER,
  VNET_HEADER_LENGTH,
  VNET_NEEDS_CSUM,
} from './vnet.ts';

/** Blocks that fit in a header without other options. */
const SACK_MAX = 4;
const TTL = 64;

export class SegmentWriter {
  src = 0 as Ipv4;
  dst = 0 as Ipv4;
  srcPort = 0 as Port;
  dstPort = 0 as Port;
  seq = 0 as Seq;
  ack = 0 as Seq;
  /** CWR to FIN. */
  flags = 0;
  /** Raw window field. */
  window = 0;
  /** IP identification, 16 bits. */
  ident = 0;
  /** DSCP and ECN. */
  tos = 0;
  /** Maximum segment size option; 0 for none. */
  mss = 0;
  /** Window scale option; -1 for none. */
  wscale = -1;
  sackPermitted = false;
  timestamps = false;
  tsVal = 0;
  tsEcr = 0;
  /** Edges of SACK blocks, left and right in turn. Set them by `addSack`. */
  readonly sackEdges = new Uint32Array(2 * SACK_MAX);
  sackCount = 0;
  /** Data bytes. */
  payloadLen = 0;
  /** More data than this is sent as a super-packet to be cut into pieces of this size; 0 for never. */
  gsoSize = 0;
  /** Leave the checksum to whoever sends the packet out (NEEDS_CSUM). A super-packet always does. */
  partial = true;

  #buffer: Uint8Array | undefined = undefined;
  #view: DataView = new DataView(new ArrayBuffer(0));

  /** Clears everything: no addresses, no options, no data, partial checksum. */
  reset(): void {
    this.src = 0 as Ipv4;
    this.dst = 0 as Ipv4;
    this.srcPort = 0 as Port;
    this.dstPort = 0 as Port;
    this.seq = 0 as Seq;
    this.ack = 0 as Seq;
    this.flags = 0;
    this.window = 0;
    this.ident = 0;
    this.tos = 0;
    this.mss = 0;
    this.wscale = -1;
    this.sackPermitted = false;
    this.timestamps = false;
    this.tsVal = 0;
    this.tsEcr = 0;
    this.sackCount = 0;
    this.payloadLen = 0;
    this.gsoSize = 0;
    this.partial = true;
  }

  setTimestamps(value: number, echo: number): void {
    this.timestamps = true;
    this.tsVal = value;
    this.tsEcr = echo;
  }

  /** Adds a SACK block [left, right). False, and nothing added, when as many are there as a header can hold. */
  addSack(left: Seq, right: Seq): boolean {
    if (this.sackCount === SACK_MAX) return false;
    this.sackEdges[2 * this.sackCount] = left;
    this.sackEdges[2 * this.sackCount + 1] = right;
    this.sackCount++;
    return true;
  }

  /** Bytes of the TCP header with the options that are set. */
  headerLength(): number {
    const length = this.#fixedLength();
    const blocks = this.#blocksIn(length);
    return blocks === 0 ? length : length + 4 + 8 * blocks;
  }

  /** Where the data belongs when the virtio header is written at `off`. It depends on the options: set them first. */
  payloadOffset(off: number): number {
    return off + VNET_HEADER + IPV4_HEADER + this.headerLength();
  }

  /** Header and options other than SACK blocks. */
  #fixedLength(): number {
    let length = TCP_HEADER;
    if (this.mss !== 0) length += 4;
    if (this.timestamps) length += 12;
    else if (this.sackPermitted) length += 4;
    if (this.wscale >= 0) length += 4;
    return length;
  }

  /** SACK blocks that find room behind `length` bytes of header; the first ones matter most (RFC 2018 §4). */
  #blocksIn(length: number): number {
    return Math.min(this.sackCount, Math.max(0, TCP_HEADER_MAX - length - 4) >>> 3);
  }

  /**
   * Writes the segment, its virtio header at `off`, and returns the bytes it takes up, that header included. Throws a RangeError
   * when header and data exceed an IP packet or the buffer: that is the caller's mistake, not the wire's.
   */
  write(buffer: Uint8Array, off: number): number {
    if (buffer !== this.#buffer) {
      this.#buffer = buffer;
      this.#view = new DataView(buffer.buffer, buffer.byteOffset, buffer.byteLength);
    }
    const view = this.#view;
    const headerLen = this.headerLength();
    const l4Length = headerLen + this.payloadLen;
    const total = IPV4_HEADER + l4Length;
    if (total > 0xffff || off + VNET_HEADER + total > view.byteLength) throw new RangeError('segment too long');
    const gso = this.gsoSize > 0 && this.payloadLen > this.gsoSize;
    const partial = this.partial || gso;
    this.#writeVnet(view, off, partial, gso ? IPV4_HEADER + headerLen : 0);
    const ip = off + VNET_HEADER;
    this.#writeIp(view, ip, total);
    const l4 = ip + IPV4_HEADER;
    this.#writeTcp(view, l4, headerLen);
    const pseudo = pseudoSum(this.src, this.dst, PROTO_TCP, l4Length);
    const field = partial ? pseudo : ~onesSum(view, l4, l4 + l4Length, pseudo) & 0xffff;
    view.setUint16(l4 + TCP_CHECKSUM, field);
    return VNET_HEADER + total;
  }

  /** `gsoHeader` is the length of all headers of a super-packet, 0 for an ordinary one. */
  #writeVnet(view: DataView, at: number, partial: boolean, gsoHeader: number): void {
    view.setUint8(at, partial ? VNET_NEEDS_CSUM : 0);
    view.setUint8(at + 1, gsoHeader > 0 ? GSO_TCPV4 : GSO_NONE);
    view.setUint16(at + VNET_HEADER_LENGTH, gsoHeader, true);
    view.setUint16(at + VNET_GSO_SIZE, gsoHeader > 0 ? this.gsoSize : 0, true);
    view.setUint16(at + VNET_CSUM_START, partial ? IPV4_HEADER : 0, true);
    view.setUint16(at + VNET_CSUM_OFFSET, partial ? TCP_CHECKSUM : 0, true);
  }

  #writeIp(view: DataView, at: number, total: number): void {
    const { src, dst } = this;
    view.setUint16(at, 0x4500 | this.tos);
    view.setUint16(at + IP_TOTAL_LENGTH, total);
    view.setUint16(at + IP_IDENT, this.ident);
    view.setUint16(at + IP_FRAGMENT, IP_DONT_FRAGMENT);
    view.setUint16(at + IP_TTL, (TTL << 8) | PROTO_TCP);
    view.setUint32(at + IP_SOURCE, src);
    view.setUint32(at + IP_DESTINATION, dst);
    const fixed = (0x4500 | this.tos) + total + this.ident + IP_DONT_FRAGMENT + ((TTL << 8) | PROTO_TCP);
    const addresses = (src >>> 16) + (src & 0xffff) + (dst >>> 16) + (dst & 0xffff);
    view.setUint16(at + IP_CHECKSUM, ~fold(fixed + addresses) & 0xffff);
  }

  #writeTcp(view: DataView, at: number, headerLen: number): void {
    view.setUint16(at, this.srcPort);
    view.setUint16(at + 2, this.dstPort);
    view.setUint32(at + TCP_SEQ, this.seq);
    view.setUint32(at + TCP_ACKNOWLEDGEMENT, this.ack);
    view.setUint16(at + TCP_DATA_OFFSET, (headerLen << 10) | this.flags);
    view.setUint16(at + TCP_WINDOW, this.window);
    view.setUint16(at + TCP_CHECKSUM, 0);
    view.setUint16(at + TCP_URGENT, 0);
    this.#writeOptions(view, at + TCP_HEADER);
  }

  #writeOptions(view: DataView, start: number): void {
    const blocks = this.#blocksIn(this.#fixedLength());
    let at = start;
    if (this.mss !== 0) {
      view.setUint32(at, (OPT_MSS << 24) | (4 << 16) | this.mss);
      at += 4;
    }
    const beforeTimestamps = this.sackPermitted ? (OPT_SACK_PERMITTED << 8) | 2 : (OPT_NOP << 8) | OPT_NOP;
    if (this.timestamps) {
      view.setUint16(at, beforeTimestamps);
      view.setUint16(at + 2, (OPT_TIMESTAMPS << 8) | 10);
      view.setUint32(at + 4, this.tsVal);
      view.setUint32(at + 8, this.tsEcr);
      at += 12;
    }
    if (this.wscale >= 0) {
      view.setUint32(at, (OPT_NOP << 24) | (OPT_WSCALE << 16) | (3 << 8) | this.wscale);
      at += 4;
    }
    if (this.sackPermitted && !this.timestamps) {
      view.setUint32(at, (OPT_NOP << 24) | (OPT_NOP << 16) | beforeTimestamps);
      at += 4;
    }
    if (blocks > 0) this.#writeSack(view, at, blocks);
  }

  #writeSack(view: DataView, at: number, blocks: number): void {
    view.setUint32(at, (OPT_NOP << 24) | (OPT_NOP << 16) | (OPT_SACK << 8) | (2 + 8 * blocks));
    for (let i = 0; i < 2 * blocks; i++) view.setUint32(at + 4 + 4 * i, this.sackEdges[i] ?? 0);
  }
}
