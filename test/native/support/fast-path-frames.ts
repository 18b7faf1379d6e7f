/** Frames as they are put on a device: a virtio header, an Ethernet header, IPv4, TCP. Written out byte by byte. */

export const VNET = 10;
export const ETHERNET = 14;

export type Frame = {
  source: string;
  destination: string;
  sourcePort: number;
  destinationPort: number;
  seq: number;
  ack: number;
  flags: number;
  window: number;
  /** TCP options, a multiple of four bytes. */
  options: readonly number[];
  payload: readonly number[];
  ttl: number;
  tos: number;
  /** Third word of the IPv4 header behind the identification: flags and offset. */
  fragment: number;
  /** IPv4 options. */
  ipOptions: readonly number[];
  proto: number;
  /** Who makes the checksum; `spoiled` is one that is wrong, `pseudo` the bare sum of the pseudo header in a packet that claims to be whole. */
  checksum: 'full' | 'partial' | 'spoiled' | 'pseudo';
  ipChecksum: 'right' | 'spoiled';
  /** Bytes of a piece when it is a super-packet; the checksum must be partial. */
  gso: number;
  /** Zeros behind the IP packet. */
  padding: number;
  /** Last byte of the device's address it is sent to. */
  to: number;
};

export const be16 = (n: number): number[] => [(n >>> 8) & 255, n & 255];
export const be32 = (n: number): number[] => [...be16(n >>> 16), ...be16(n)];
const le16 = (n: number): number[] => [n & 255, n >>> 8];
const octets = (address: string): number[] => address.split('.').map(Number);

export function sum(bytes: readonly number[]): number {
  let total = 0;
  for (let i = 0; i < bytes.length; i += 2) total += bytes[i]! * 256 + (bytes[i + 1] ?? 0);
  while (total > 0xffff) total = (total & 0xffff) + (total >>> 16);
  return total;
}

const checksum = (bytes: readonly number[]): number => 0xffff - sum(bytes);

function tcp(f: Frame): number[] {
  const header = 20 + f.options.length;
  const bare = [
    ...[f.sourcePort, f.destinationPort].flatMap(be16),
    ...[f.seq, f.ack].flatMap(be32),
    (header / 4) << 4,
    f.flags,
    ...be16(f.window),
    ...[0, 0, 0, 0],
    ...f.options,
    ...f.payload,
  ];
  const pseudo = [...octets(f.source), ...octets(f.destination), 0, f.proto, ...be16(bare.length)];
  const right = checksum([...pseudo, ...bare]);
  const partial = f.checksum === 'partial' || f.checksum === 'pseudo';
  const field = partial ? sum(pseudo) : f.checksum === 'full' ? right : right ^ 0x0101;
  bare.splice(16, 2, ...be16(field));
  return bare;
}

/** Header and what is behind it, padding included. */
export function packet(f: Frame): number[] {
  const segment = tcp(f);
  const header = 20 + f.ipOptions.length;
  const bytes = [
    0x40 | (header / 4),
    f.tos,
    ...be16(header + segment.length),
    7,
    7,
    ...be16(f.fragment),
    f.ttl,
    f.proto,
  ];
  bytes.push(0, 0, ...octets(f.source), ...octets(f.destination), ...f.ipOptions);
  bytes.splice(10, 2, ...be16(checksum(bytes) ^ (f.ipChecksum === 'right' ? 0 : 0x0101)));
  return [...bytes, ...segment, ...Array.from({ length: f.padding }, () => 0)];
}

/** The virtio header, for what has `link` bytes before its IPv4 header. */
export function vnet(f: Frame, link: number): number[] {
  const start = link + 20 + f.ipOptions.length;
  if (f.checksum !== 'partial') return Array.from({ length: VNET }, () => 0);
  const gso = f.gso > 0;
  const headers = start + 20 + f.options.length;
  return [1, gso ? 1 : 0, ...le16(gso ? headers : 0), ...le16(f.gso), ...le16(start), ...le16(16)];
}

export function frame(f: Frame): number[] {
  const link = [2, 0, 0, 0, 0, f.to, 2, 0, 0, 0, 0, 1, 8, 0];
  return [...vnet(f, ETHERNET), ...link, ...packet(f)];
}

/** What a packet is after two routers. */
export function routed(bytes: readonly number[]): number[] {
  const after = [...bytes];
  after[8] = after[8]! - 2;
  after.splice(10, 2, 0, 0);
  after.splice(10, 2, ...be16(checksum(after.slice(0, (after[0]! & 15) * 4))));
  return after;
}
