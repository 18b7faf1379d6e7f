/**
 * The memory section of a large guest that stands still, without a copy of its memory.
 *
 * Theory of operation. Fresh memory for a copy costs the kernel more than all the rest of an image: most of a second for a gigabyte,
 * in which the guest stands still and its host has it twice. So what cannot be compressed stays where it is, in the guest's own
 * memory, and is read from there when the image is stored or sent; what can be is compressed from there. Only runs shorter than a
 * chunk are brought together in chunks of their own, for many small chunks compress badly.
 *
 * Limits. The bytes are right only as long as nobody writes to the guest's memory and it does not grow: whoever lets the guest go on
 * must wait until `packInPlace` has returned, and drop what it gave.
 */
import { sha256OfPieces } from './digest.ts';
import { CHUNK, dataRuns, packChunks, runsLength, writeRuns } from './memory-delta.ts';
import type { Found } from './memory-delta.ts';

/** Bytes of a section that are somewhere else until they are wanted, with what `SectionDigest` says of them. */
export interface StoredSection {
  readonly length: number;
  readonly digest: Uint8Array;
  /** All bytes in order, in pieces. A piece may be written over when the next one is asked for. */
  read(): AsyncIterable<Uint8Array>;
}

/** A part of an image: bytes, or where they come from. */
export type ImagePart = Uint8Array | StoredSection;

export class MemorySection {
  readonly length: number;
  readonly digest: Uint8Array;
  readonly #parts: readonly Uint8Array[];
  /** Where in the section each part ends. */
  readonly #ends: Float64Array;

  constructor(parts: readonly Uint8Array[]) {
    this.#parts = parts;
    this.#ends = new Float64Array(parts.length);
    let end = 0;
    for (const [n, { length }] of parts.entries()) this.#ends[n] = end += length;
    this.length = end;
    this.digest = sha256OfPieces(parts);
  }

  /** Copies bytes from `at` on, as many as fit into `into`, and says how many. */
  read(at: number, into: Uint8Array): number {
    let to = 0;
    for (let n = this.#partAt(at); n < this.#parts.length && to < into.length; n += 1) {
      const [part, end] = [this.#parts[n], this.#ends[n]];
      if (part === undefined || end === undefined) break;
      const from = part.length - (end - at);
      const bytes = part.subarray(from, from + into.length - to);
      into.set(bytes, to);
      to += bytes.length;
      at += bytes.length;
    }
    return to;
  }

  /** The first part that ends behind `at`. */
  #partAt(at: number): number {
    let [low, high] = [0, this.#parts.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#ends[middle] ?? 0) > at) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}

/** Gives undefined once `givenUp`: then nobody may read the guest's memory any more, and nobody does. `level` is zstd's. */
export async function packInPlace(
  found: readonly Found[],
  level: number,
  givenUp: () => boolean,
): Promise<MemorySection | undefined> {
  const parts = await packChunks(chunksOf(found), level, givenUp);
  return givenUp() ? undefined : new MemorySection(parts);
}

/** The bytes of a delta: whole chunks of a run as views, what is left of runs in chunks of their own. */
function* chunksOf(found: readonly Found[]): Generator<Uint8Array> {
  const head = new Uint8Array(runsLength(found));
  writeRuns(found, head);
  let gathered: Uint8Array[] = [];
  let size = 0;
  for (const bytes of contents(head, found)) {
    for (let at = 0; at < bytes.length;) {
      const piece = bytes.subarray(at, at + CHUNK - size);
      gathered.push(piece);
      size += piece.length;
      at += piece.length;
      if (size < CHUNK) continue;
      yield together(gathered);
      gathered = [];
      size = 0;
    }
  }
  if (size > 0) yield together(gathered);
}

function* contents(head: Uint8Array, found: readonly Found[]): Generator<Uint8Array> {
  yield head;
  yield* dataRuns(found);
}

function together(pieces: readonly Uint8Array[]): Uint8Array {
  const [first] = pieces;
  return pieces.length === 1 && first !== undefined ? first : Buffer.concat(pieces);
}
