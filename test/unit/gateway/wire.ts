/**
 * The slow, obvious reading of a packet, by which the tests judge what the gateway emits. It shares no code with `src/rewrite`: every
 * checksum is computed over the whole packet, partial ones after they were completed as a device would.
 */
import assert from 'node:assert/strict';

export type Seen = {
  /** Device it was queued for: 0 is the outside, leg n is n + 1. */
  device: number;
  proto: number;
  src: number;
  dst: number;
  srcPort: number;
  dstPort: number;
  /** TCP only; raw numbers of the wire. */
  seq: number;
  ack: number;
  /** As letters, in the order of `FLAG_LETTERS`. */
  flags: string;
  window: number;
  mss: number | undefined;
  wscale: number | undefined;
  sackOk: boolean;
  ts: readonly [number, number] | undefined;
  sack: readonly (readonly [number, number])[];
  /** Kinds of all options, NOP and END left out. */
  kinds: readonly number[];
  payload: Uint8Array;
  gsoSize: number;
  partial: boolean;
};

/** Bit 0 (FIN) first. */
const FLAG_LETTERS = 'FSRPAUEC';

export function flagBits(letters: string): number {
  let bits = 0;
  for (const letter of letters) {
    const bit = FLAG_LETTERS.indexOf(letter);
    assert.ok(bit >= 0, `no flag ${letter}`);
    bits |= 1 << bit;
  }
  return bits;
}

function flagLetters(bits: number): string {
  return [...FLAG_LETTERS].filter((_, bit) => (bits >> bit) & 1).join('');
}

/** One's complement sum of big-endian words, folded; an odd last byte is a high half. */
export function wordSum(bytes: Uint8Array, from: number, to: number, initial = 0): number {
  let sum = initial;
  for (let i = from; i < to; i += 2) sum += bytes[i]! * 256 + (i + 1 < to ? bytes[i + 1]! : 0);
  while (sum > 0xffff) sum = Math.floor(sum / 0x10000) + (sum % 0x10000);
  return sum;
}

const be16 = (b: Uint8Array, at: number): number => b[at]! * 256 + b[at + 1]!;
const be32 = (b: Uint8Array, at: number): number => be16(b, at) * 65536 + be16(b, at + 2);
const le16 = (b: Uint8Array, at: number): number => b[at]! + b[at + 1]! * 256;

/** Reads a packet with its virtio header, and asserts that everything about it is as a receiver wants it. */
export function decode(device: number, whole: Uint8Array): Seen {
  const ip = whole.slice(10);
  assert.equal(ip[0]! >> 4, 4, 'IPv4');
  const ihl = (ip[0]! & 15) * 4;
  assert.equal(be16(ip, 2), ip.length, 'IP total length is what was queued');
  assert.equal(wordSum(ip, 0, ihl), 0xffff, 'IP header checksum');
  const proto = ip[9]!;
  const partial = checkVnet(whole, ip, ihl, proto);
  const checksumAt = ihl + (proto === 6 ? 16 : 6);
  if (partial) completeChecksum(ip, ihl, checksumAt);
  const pseudo = wordSum(ip, 12, 20) + proto + (ip.length - ihl);
  if (proto !== 1 && (proto !== 17 || be16(ip, checksumAt) !== 0))
    assert.equal(wordSum(ip, ihl, ip.length, pseudo), 0xffff, 'L4 checksum');
  const common = { device, proto, src: be32(ip, 12), dst: be32(ip, 16), gsoSize: le16(whole, 4), partial };
  const ports = { srcPort: be16(ip, ihl), dstPort: be16(ip, ihl + 2) };
  if (proto !== 6) return { ...common, ...ports, ...NO_TCP, payload: ip.slice(ihl + 8) };
  const header = (ip[ihl + 12]! >> 4) * 4;
  assert.ok(header >= 20 && ihl + header <= ip.length, 'data offset');
  return {
    ...common,
    ...ports,
    seq: be32(ip, ihl + 4),
    ack: be32(ip, ihl + 8),
    flags: flagLetters(ip[ihl + 13]!),
    window: be16(ip, ihl + 14),
    ...readOptions(ip.slice(ihl + 20, ihl + header)),
    payload: ip.slice(ihl + header),
  };
}

const NO_OPTIONS = { mss: undefined, wscale: undefined, sackOk: false, ts: undefined, sack: [], kinds: [] };
const NO_TCP = { seq: 0, ack: 0, flags: '', window: 0, ...NO_OPTIONS };

/** The virtio header, checked against the packet behind it. True when the checksum is partial. */
function checkVnet(whole: Uint8Array, ip: Uint8Array, ihl: number, proto: number): boolean {
  const partial = (whole[0]! & 1) !== 0;
  assert.equal(whole[0]! & ~1, 0, 'no virtio flags a device may not set');
  if (partial) {
    assert.equal(le16(whole, 6), ihl, 'csum_start');
    assert.equal(le16(whole, 8), proto === 6 ? 16 : 6, 'csum_offset');
  }
  const gso = whole[1]! & 0x7f;
  if (gso !== 0) {
    assert.ok(partial, 'a super-packet has a partial checksum');
    assert.ok(le16(whole, 4) > 0, 'gso_size');
    assert.ok(ip.length > le16(whole, 4), 'a super-packet is longer than a piece');
  }
  return partial;
}

/** As a device completes it: the field must hold the pseudo-header's sum, the rest is added. */
function completeChecksum(ip: Uint8Array, ihl: number, at: number): void {
  const pseudo = wordSum(ip, 12, 20, ip[9]! + (ip.length - ihl));
  assert.equal(be16(ip, at), pseudo, 'a partial checksum is that of the pseudo-header');
  const sum = 0xffff - wordSum(ip, ihl, ip.length);
  ip[at] = sum >> 8;
  ip[at + 1] = sum & 255;
}

function readOptions(bytes: Uint8Array): Pick<Seen, 'mss' | 'wscale' | 'sackOk' | 'ts' | 'sack' | 'kinds'> {
  const found: Pick<Seen, 'mss' | 'wscale' | 'sackOk' | 'ts'> = { ...NO_OPTIONS };
  const sack: [number, number][] = [];
  const kinds: number[] = [];
  for (let at = 0; at < bytes.length && bytes[at] !== 0;) {
    const kind = bytes[at]!;
    if (kind === 1) {
      at++;
      continue;
    }
    const length = bytes[at + 1]!;
    assert.ok(length >= 2 && at + length <= bytes.length, 'option length');
    assert.ok(!kinds.includes(kind), `option ${kind} once`);
    kinds.push(kind);
    if (kind === 2) found.mss = be16(bytes, at + 2);
    if (kind === 3) found.wscale = bytes[at + 2]!;
    if (kind === 4) found.sackOk = true;
    if (kind === 8) found.ts = [be32(bytes, at + 2), be32(bytes, at + 6)];
    if (kind === 5)
      for (let block = at + 2; block < at + length; block += 8) sack.push([be32(bytes, block), be32(bytes, block + 4)]);
    at += length;
  }
  return { ...found, sack, kinds };
}

/** Byte of a stream at an offset: another for each stream, without a short period. */
export function pattern(stream: number, offset: number): number {
  const x = Math.imul((offset + stream * 7919) | 0, 0x9e3779b1) ^ Math.floor(offset / 4096);
  return (x >>> 13) & 255;
}

/** Bytes [from, from + length) of a stream. */
export function patternBytes(stream: number, from: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let i = 0; i < length; i++) bytes[i] = pattern(stream, from + i);
  return bytes;
}
