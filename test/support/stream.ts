/**
 * The deterministic byte stream of the example guests (`examples/README.md`), for peers in tests. Uses nothing of Kedge.
 */
import { createHash } from 'node:crypto';

/** The word (32 bits) at an index of the stream of a seed. */
export function patternWord(seed: number, index: number): number {
  let x = (seed + Math.imul(index, 0x9e3779b9)) | 0;
  x = Math.imul(x ^ (x >>> 16), 0x85ebca6b);
  x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
  return (x ^ (x >>> 16)) >>> 0;
}

/** The `length` bytes of the stream from byte `position` on. */
export function pattern(seed: number, position: number, length: number): Uint8Array {
  const first = Math.floor(position / 4);
  const skip = position - first * 4;
  const words = Math.ceil((skip + length) / 4);
  const bytes = new Uint8Array(words * 4);
  const view = new DataView(bytes.buffer);
  for (let i = 0; i < words; i += 1) {
    view.setUint32(4 * i, patternWord(seed, first + i), true);
  }
  return bytes.subarray(skip, skip + length);
}

/** SHA-256 (hex) of the first `length` bytes of the stream. */
export function patternHash(seed: number, length: number): string {
  const hash = createHash('sha256');
  const piece = 65536;
  for (let at = 0; at < length; at += piece) {
    hash.update(pattern(seed, at, Math.min(piece, length - at)));
  }
  return hash.digest('hex');
}

/** Compares what arrives, piece by piece, with the stream. */
export class PatternChecker {
  readonly seed: number;
  /** Bytes seen so far. */
  position = 0;
  /** Position of the first wrong byte; -1 when there is none. */
  wrongAt = -1;

  constructor(seed: number) {
    this.seed = seed;
  }

  push(bytes: Uint8Array): void {
    if (this.wrongAt < 0) {
      const expected = pattern(this.seed, this.position, bytes.length);
      if (Buffer.compare(expected, bytes) !== 0) {
        this.wrongAt = this.position + bytes.findIndex((byte, i) => byte !== expected[i]);
      }
    }
    this.position += bytes.length;
  }
}
