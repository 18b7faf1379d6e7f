/**
 * The slow, obvious side of the property tests: packets are described, not patched. A description is written out byte by byte, every
 * checksum computed over the whole packet; what a translation should give is the description changed and written out again. Uses
 * nothing of the code under test.
 */

export type Option =
  | { kind: 'nop' }
  | { kind: 'end' }
  | { kind: 'mss'; mss: number }
  | { kind: 'wscale'; shift: number }
  | { kind: 'sackPermitted' }
  | { kind: 'sack'; blocks: [number, number][] }
  | { kind: 'timestamps'; value: number; echo: number }
  /** Any other option, or bytes behind an END. */
  | { kind: 'raw'; bytes: number[] };

type Ip = {
  src: number;
  dst: number;
  tos: number;
  ident: number;
  dontFragment: boolean;
  ttl: number;
  /** IPv4 options; a multiple of four bytes. */
  ipOptions: number[];
};

export type TcpPacket = Ip & {
  proto: 'tcp';
  /** Who computes the checksum: it is done, left to the device, or left to it for each piece of `gsoSize`. */
  checksum: 'full' | 'checked' | 'partial' | 'gso';
  gsoSize: number;
  ecn: boolean;
  srcPort: number;
  dstPort: number;
  seq: number;
  ack: number;
  flags: number;
  window: number;
  urgent: number;
  /** Four bits between data offset and flags. */
  reserved: number;
  options: Option[];
  payload: number[];
  /** Bytes behind the IP packet. */
  padding: number[];
};

export type UdpPacket = Ip & {
  proto: 'udp';
  checksum: 'full' | 'partial' | 'none';
  srcPort: number;
  dstPort: number;
  payload: number[];
  /** Bytes between the end of the datagram and that of the IP packet (RFC 9868). */
  surplus: number[];
};

export type IcmpPacket = Ip & {
  proto: 'icmp';
  type: number;
  code: number;
  id: number;
  sequence: number;
  payload: number[];
};

export const VNET = 10;

/** `count` times the same. */
export function repeated<T>(count: number, value: T): T[] {
  return Array.from({ length: count }, () => value);
}

export function be16(value: number): number[] {
  return [(value >>> 8) & 255, value & 255];
}

export function be32(value: number): number[] {
  return [...be16(value >>> 16), ...be16(value & 0xffff)];
}

function le16(value: number): number[] {
  return [value & 255, (value >>> 8) & 255];
}

/** The sum of all 16-bit words, in exact arithmetic, carried round until it fits. */
export function referenceSum(bytes: readonly number[]): number {
  let sum = 0n;
  for (let i = 0; i < bytes.length; i += 2) sum += BigInt((bytes[i] ?? 0) * 256 + (bytes[i + 1] ?? 0));
  while (sum > 0xffffn) sum = (sum >> 16n) + (sum & 0xffffn);
  return Number(sum);
}

export function referenceChecksum(bytes: readonly number[]): number {
  return 0xffff - referenceSum(bytes);
}

export function pseudoHeader(src: number, dst: number, protocol: number, length: number): number[] {
  return [...be32(src), ...be32(dst), 0, protocol, ...be16(length)];
}

export function encodeOption(option: Option): number[] {
  switch (option.kind) {
    case 'end':
      return [0];
    case 'nop':
      return [1];
    case 'mss':
      return [2, 4, ...be16(option.mss)];
    case 'wscale':
      return [3, 3, option.shift];
    case 'sackPermitted':
      return [4, 2];
    case 'sack':
      return [
        5,
        2 + 8 * option.blocks.length,
        ...option.blocks.flatMap(([left, right]) => [...be32(left), ...be32(right)]),
      ];
    case 'timestamps':
      return [8, 10, ...be32(option.value), ...be32(option.echo)];
    case 'raw':
      return option.bytes;
  }
}

/** All options, filled up to a multiple of four bytes with END, as the RFC has it. */
export function encodeOptions(options: readonly Option[]): number[] {
  const bytes = options.flatMap(encodeOption);
  while (bytes.length % 4 !== 0) bytes.push(0);
  return bytes;
}

/** Offset of each option from the start of the TCP header. */
export function optionOffsets(options: readonly Option[]): number[] {
  let at = 20;
  return options.map((option) => {
    const here = at;
    at += encodeOption(option).length;
    return here;
  });
}

function ipHeader(ip: Ip, protocol: number, l4Length: number): number[] {
  const length = 20 + ip.ipOptions.length;
  const before = [
    0x40 | (length / 4),
    ip.tos,
    ...be16(length + l4Length),
    ...be16(ip.ident),
    ip.dontFragment ? 0x40 : 0,
    0,
    ip.ttl,
    protocol,
  ];
  const after = [...be32(ip.src), ...be32(ip.dst), ...ip.ipOptions];
  return [...before, ...be16(referenceChecksum([...before, 0, 0, ...after])), ...after];
}

function withWord(bytes: readonly number[], at: number, word: number): number[] {
  return [...bytes.slice(0, at), ...be16(word), ...bytes.slice(at + 2)];
}

function vnet(
  flags: number,
  gsoType: number,
  hdrLen: number,
  gsoSize: number,
  start: number,
  offset: number,
): number[] {
  return [flags, gsoType, ...le16(hdrLen), ...le16(gsoSize), ...le16(start), ...le16(offset)];
}

/** The packet's bytes, virtio header first. */
export function encodeTcp(p: TcpPacket): number[] {
  const options = encodeOptions(p.options);
  const headerLength = 20 + options.length;
  const bare = [
    ...be16(p.srcPort),
    ...be16(p.dstPort),
    ...be32(p.seq),
    ...be32(p.ack),
    ((headerLength / 4) << 4) | p.reserved,
    p.flags,
    ...be16(p.window),
    0,
    0,
    ...be16(p.urgent),
    ...options,
    ...p.payload,
  ];
  const pseudo = pseudoHeader(p.src, p.dst, 6, bare.length);
  const partial = p.checksum === 'partial' || p.checksum === 'gso';
  const field = partial ? referenceSum(pseudo) : referenceChecksum([...pseudo, ...bare]);
  const l4 = 20 + p.ipOptions.length;
  const gso = p.checksum === 'gso';
  const header = vnet(
    partial ? 1 : p.checksum === 'checked' ? 2 : 0,
    gso ? (p.ecn ? 0x81 : 1) : 0,
    gso ? l4 + headerLength : 0,
    gso ? p.gsoSize : 0,
    partial ? l4 : 0,
    partial ? 16 : 0,
  );
  return [...header, ...ipHeader(p, 6, bare.length), ...withWord(bare, 16, field), ...p.padding];
}

export function encodeUdp(p: UdpPacket): number[] {
  const length = 8 + p.payload.length;
  const bare = [...be16(p.srcPort), ...be16(p.dstPort), ...be16(length), 0, 0, ...p.payload];
  const pseudo = pseudoHeader(p.src, p.dst, 17, length);
  let field = 0;
  if (p.checksum === 'partial') field = referenceSum(pseudo);
  if (p.checksum === 'full') field = referenceChecksum([...pseudo, ...bare]) || 0xffff;
  const partial = p.checksum === 'partial';
  const l4 = 20 + p.ipOptions.length;
  const header = vnet(partial ? 1 : 0, 0, 0, 0, partial ? l4 : 0, partial ? 6 : 0);
  return [...header, ...ipHeader(p, 17, length + p.surplus.length), ...withWord(bare, 6, field), ...p.surplus];
}

export function encodeIcmp(p: IcmpPacket): number[] {
  const bare = [p.type, p.code, 0, 0, ...be16(p.id), ...be16(p.sequence), ...p.payload];
  return [...vnet(0, 0, 0, 0, 0, 0), ...ipHeader(p, 1, bare.length), ...withWord(bare, 2, referenceChecksum(bare))];
}

/** What a device makes of a packet that left its checksum to it: the finished IP packet, without virtio header. */
export function completed(packet: readonly number[]): number[] {
  const ip = packet.slice(VNET);
  if (((packet[0] ?? 0) & 1) === 0) return ip;
  const start = (packet[6] ?? 0) | ((packet[7] ?? 0) << 8);
  const field = start + ((packet[8] ?? 0) | ((packet[9] ?? 0) << 8));
  const total = (ip[2] ?? 0) * 256 + (ip[3] ?? 0);
  return withWord(ip, field, referenceChecksum(ip.slice(start, total)) || 0xffff);
}

/** Whether the IP and the TCP or UDP checksum of a finished IP packet verify. */
export function verifies(ip: readonly number[]): boolean {
  const headerLength = ((ip[0] ?? 0) & 15) * 4;
  const total = (ip[2] ?? 0) * 256 + (ip[3] ?? 0);
  const l4 = ip.slice(headerLength, total);
  const pseudo = [...ip.slice(12, 20), 0, ip[9] ?? 0, ...be16(l4.length)];
  return referenceSum(ip.slice(0, headerLength)) === 0xffff && referenceSum([...pseudo, ...l4]) === 0xffff;
}

/** What a packet is once it was finished: a sum that was called checked is an ordinary one. */
export function passedOn(p: TcpPacket): TcpPacket {
  return p.checksum === 'checked' ? { ...p, checksum: 'full' } : p;
}
