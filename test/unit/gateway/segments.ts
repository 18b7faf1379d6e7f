/** Segments as the test language writes them: by offsets of the two streams. */
import assert from 'node:assert/strict';
import { parseIpv4 } from '../../../src/rewrite/numbers.ts';
import type { Ipv4 } from '../../../src/rewrite/numbers.ts';

export function address(text: string): Ipv4 {
  const parsed = parseIpv4(text);
  assert.ok(parsed !== undefined);
  return parsed;
}

export const OUTSIDE_ADDRESS = address('192.0.2.1');
export const GUEST_ADDRESS = address('100.64.0.9');
export const PEER_ADDRESS = address('198.51.100.7');
/** A segment to send. Left out: ACK and PSH as fits, a window of 500, the timestamps of the moment. */
export type Segment = {
  flags?: string;
  /** Offset in the sender's stream; -1 is its SYN. */
  seq?: number;
  /** Offset in the other stream. */
  ack?: number;
  /** Bytes of the stream from `seq` on. */
  len?: number;
  /** Instead of the stream's. */
  bytes?: readonly number[];
  /** Raw window field. */
  win?: number;
  mss?: number;
  ws?: number;
  sackOk?: boolean;
  /** TSval, TSecr; false for none. */
  ts?: readonly [number, number] | false;
  /** Offsets in the stream of the other end. */
  sack?: readonly (readonly [number, number])[];
  gso?: number;
  partial?: boolean;
};

/** What a segment must be: only what is given is compared. */
export type Expected = Omit<Segment, 'bytes' | 'gso' | 'ts'> & {
  tsVal?: number;
  tsEcr?: number;
  gsoSize?: number;
  kinds?: readonly number[];
  /** Right edge in the stream of the other end, as its sender scales it. */
  edge?: number;
};

export type Side = {
  isn: number;
  /** Offset of the first byte behind the SYN. */
  base: number;
  shift: number;
  mss: number;
  sackOk: boolean;
  ts: boolean;
  /** Added to the bench's milliseconds. */
  clock: number;
};

export const SIDE: Side = { isn: 1000, base: 0, shift: 7, mss: 1460, sackOk: true, ts: true, clock: 0 };

/** A UDP datagram of four bytes without a checksum, virtio header included. */
export function datagram(src: Ipv4, dst: Ipv4, srcPort: number, dstPort: number): Uint8Array {
  const bytes = new Uint8Array(10 + 20 + 8 + 4);
  const view = new DataView(bytes.buffer);
  view.setUint16(10, 0x4500);
  view.setUint16(12, 32);
  view.setUint16(18, 0x4011);
  view.setUint32(22, src);
  view.setUint32(26, dst);
  let sum = 0;
  for (let i = 10; i < 30; i += 2) sum += view.getUint16(i);
  while (sum > 0xffff) sum = (sum >>> 16) + (sum & 0xffff);
  view.setUint16(20, ~sum & 0xffff);
  view.setUint16(30, srcPort);
  view.setUint16(32, dstPort);
  view.setUint16(34, 12);
  return bytes;
}
