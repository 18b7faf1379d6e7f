/** Segments as the ends of a connection may send them, and as they should not: drawn from a seed, about where the connection is. */
import type { Bench } from '../../unit/gateway/lang.ts';
import { be32, type Frame } from './fast-path-frames.ts';
import { FROM_GUEST, FROM_PEER, GUEST, OUTSIDE, PEER, PLAIN } from './fast-path-rig.ts';

export type Kind = { readonly name: string; readonly way: number; readonly frame: Frame };

const ACK = 0x10;
const PSH = 0x08;

/** What a segment is changed to. Those of PLAIN_KINDS are for the kernel to carry when the numbers allow it, the others never. */
type Change = (f: Frame, draw: Segments) => Partial<Frame>;
export const PLAIN_KINDS: Readonly<Record<string, Change>> = {
  plain: () => ({}),
  push: () => ({ flags: ACK | PSH }),
  ecn: (_, d) => ({ flags: ACK | (d.below(4) << 6), tos: d.below(256) }),
  partial: () => ({ checksum: 'partial' }),
  'super-packet': (_, d) => ({ checksum: 'partial', gso: 536, payload: d.bytes(537 + d.below(3000)) }),
  padded: (_, d) => ({ payload: [], options: [], padding: 1 + d.below(6) }),
  'odd length': (_, d) => ({ payload: d.bytes(2 * d.below(500) + 1) }),
};
export const SPECIAL_KINDS: Readonly<Record<string, Change>> = {
  fin: () => ({ flags: ACK | 0x01 }),
  reset: () => ({ flags: ACK | 0x04 }),
  syn: () => ({ flags: 0x02 }),
  urgent: () => ({ flags: ACK | 0x20 }),
  'no acknowledgement': () => ({ flags: 0 }),
  'IPv4 options': () => ({ ipOptions: [1, 1, 1, 0] }),
  'more fragments': () => ({ fragment: 0x2000 }),
  'a later fragment': () => ({ fragment: 0x0010 }),
  'reserved bit': () => ({ fragment: 0xc000 }),
  'few hops left': (_, d) => ({ ttl: d.below(3) }),
  'damaged segment': () => ({ checksum: 'spoiled' }),
  'damaged header': () => ({ ipChecksum: 'spoiled' }),
  'pseudo-header sum in a whole segment': (_, d) => ({ checksum: 'pseudo', payload: d.bytes(40) }),
  'unknown option': (f) => ({ options: [...f.options.slice(0, 12), 253, 4, 1, 2] }),
  'options in another order': (f) => ({ options: [8, 10, ...f.options.slice(4, 12), 1, 1].slice(0, 12) }),
  'broken option': () => ({ options: [1, 1, 8, 1] }),
  datagram: () => ({ proto: 17 }),
  'for another device': () => ({ to: 0xbb }),
};

export class Segments {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0 || 1;
  }

  /** A number from 0 to `n` - 1 (xorshift). */
  below(n: number): number {
    let x = this.#state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.#state = x >>> 0;
    return this.#state % n;
  }

  bytes(length: number): number[] {
    return Array.from({ length }, () => this.below(256));
  }

  #oneOf<T>(list: readonly T[]): T {
    return list[this.below(list.length)]!;
  }

  #options(timestamps: readonly [number, number] | undefined, blocks: readonly number[]): number[] {
    const ts = timestamps === undefined ? [] : [1, 1, 8, 10, ...timestamps.flatMap(be32)];
    const sack = blocks.length === 0 ? [] : [1, 1, 5, 2 + 4 * blocks.length, ...blocks.flatMap(be32)];
    return [...ts, ...sack];
  }

  /** Up to three blocks above a sequence number; sometimes what no block may be. */
  #blocks(from: number, room: number): number[] {
    const count = this.below(4) === 0 ? 1 + this.below(3) : 0;
    const start = this.below(6) === 0 ? from - this.below(5000) : from + this.below(Math.max(1, room));
    return Array.from({ length: 2 * count }, (_, i) => (start + i * (1 + this.below(200))) >>> 0);
  }

  #data(): number[] {
    return this.bytes(this.#oneOf([0, 0, 1, 100, 536, 1400]));
  }

  /** A step back or forth from where the other end expects something: none, mostly. */
  #step(): number {
    return this.#oneOf([0, 0, 0, 0, 0, 0, -1, -500, 700, 3000, -100_000, 0x4000_0000, -0x4000_0000]);
  }

  next(t: Bench): Kind {
    const way = this.#oneOf([FROM_PEER, FROM_GUEST]);
    const plain = this.below(3) > 0;
    const base = way === FROM_PEER ? this.#fromPeer(t) : this.#fromGuest(t);
    const kinds = plain ? PLAIN_KINDS : SPECIAL_KINDS;
    const name = this.#oneOf(Object.keys(kinds));
    return { name, way, frame: { ...base, ...kinds[name]?.(base, this) } };
  }

  #fromPeer(t: Bench): Frame {
    const { f } = t;
    const i = t.slot();
    const acked = this.#oneOf([f.sndNxt[i]!, f.sndUna[i]!, f.sndUna[i]! + this.below(f.sndNxt[i]! - f.sndUna[i]! + 1)]);
    const ack = (f.outBase[i]! + acked + this.#step() * (this.below(8) === 0 ? 1 : 0)) >>> 0;
    const clock: [number, number] = [
      (f.peerTs[i]! + this.below(20) - 3) >>> 0,
      (f.lastTsOut[i]! - this.below(30) + 2) >>> 0,
    ];
    const room = f.sndNxt[i]! - acked;
    return {
      ...PLAIN,
      ...{ source: PEER, destination: OUTSIDE, sourcePort: t.ports.peer, destinationPort: t.ports.outside },
      seq: (f.inBase[i]! + f.peerNxt[i]! + this.#step()) >>> 0,
      ack,
      window: this.#oneOf([0, 1, 500, 500, 65_535]),
      options: this.#options(t.peer.ts ? clock : undefined, this.#blocks(ack, room)),
      payload: this.#data(),
      ttl: 3 + this.below(253),
    };
  }

  #fromGuest(t: Bench): Frame {
    const { f } = t;
    const i = t.slot();
    const acked = this.#oneOf([
      f.peerNxt[i]!,
      f.rcvNxt[i]!,
      f.rcvNxt[i]! + this.below(f.peerNxt[i]! - f.rcvNxt[i]! + 1),
    ]);
    const ack = (f.inBase[i]! + acked + this.#step() * (this.below(8) === 0 ? 1 : 0)) >>> 0;
    const clock: [number, number] = [(f.guestTs[i]! + this.below(20) - 3) >>> 0, (f.peerTs[i]! - this.below(5)) >>> 0];
    return {
      ...PLAIN,
      ...{ source: GUEST, destination: PEER, sourcePort: t.ports.guest, destinationPort: t.ports.peer },
      seq: (f.outBase[i]! + f.sndNxt[i]! - f.delta[i]! + this.#step()) >>> 0,
      ack,
      window: this.#oneOf([0, 1, 500, 500, 501, 65_535]),
      options: this.#options(t.peer.ts ? clock : undefined, this.#blocks(ack, f.peerNxt[i]! - acked)),
      payload: this.#data(),
      ttl: 3 + this.below(253),
    };
  }
}
