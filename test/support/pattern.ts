/**
 * The byte streams of stream.ts, made and compared in blocks: what drivers of peers and hosts send and check, at the speed of
 * the network. Every byte depends on a seed and its offset, so both ends of a connection know what must come, wherever a move
 * cut it.
 */
import { createHash, type Hash } from 'node:crypto';

const BLOCK = 64 * 1024;

interface Block {
  readonly seed: number;
  readonly index: number;
  readonly bytes: Uint8Array;
}

/** The block made last, for each direction of a connection that takes turns. */
const recent: Block[] = [];
const KEEP = 8;

function block(seed: number, index: number): Uint8Array {
  const known = recent.find((candidate) => candidate.seed === seed && candidate.index === index);
  if (known !== undefined) return known.bytes;
  const words = new Int32Array(BLOCK / 4);
  // The words of stream.ts, one after the other.
  let position = (seed + Math.imul(index * words.length, 0x9e3779b9)) | 0;
  for (let at = 0; at < words.length; at++) {
    let word = Math.imul(position ^ (position >>> 16), 0x85ebca6b);
    word = Math.imul(word ^ (word >>> 13), 0xc2b2ae35);
    words[at] = word ^ (word >>> 16);
    position = (position + 0x9e3779b9) | 0;
  }
  const bytes = new Uint8Array(words.buffer);
  recent.unshift({ seed, index, bytes });
  recent.length = Math.min(recent.length, KEEP);
  return bytes;
}

/** Calls `use` with the pieces of the stream from `offset` on, `length` bytes in all; ends early when it returns false. */
function pieces(seed: number, offset: number, length: number, use: (piece: Uint8Array, at: number) => boolean): void {
  let at = 0;
  while (at < length) {
    const position = offset + at;
    const from = position % BLOCK;
    const take = Math.min(BLOCK - from, length - at);
    if (!use(block(seed, Math.floor(position / BLOCK)).subarray(from, from + take), at)) return;
    at += take;
  }
}

/** Bytes [offset, offset + length) of the stream of a seed (an integer of 32 bits). */
export function patternBytes(seed: number, offset: number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  pieces(seed, offset, length, (piece, at) => {
    bytes.set(piece, at);
    return true;
  });
  return bytes;
}

/** The first index of `bytes` that is not as the stream has it from `offset` on; -1 when all are. */
export function patternMismatch(seed: number, offset: number, bytes: Uint8Array): number {
  let wrong = -1;
  pieces(seed, offset, bytes.length, (piece, at) => {
    const got = bytes.subarray(at, at + piece.length);
    if (Buffer.compare(piece, got) === 0) return true;
    wrong = at + piece.findIndex((value, index) => got[index] !== value);
    return false;
  });
  return wrong;
}

/** A hash that has taken the first `length` bytes of the stream. */
export function patternHasher(seed: number, length: number): Hash {
  const hash = createHash('sha256');
  pieces(seed, 0, length, (piece) => {
    hash.update(piece);
    return true;
  });
  return hash;
}

/** SHA-256 of the first `length` bytes of the stream, in hex. */
export function patternHash(seed: number, length: number): string {
  return patternHasher(seed, length).digest('hex');
}
