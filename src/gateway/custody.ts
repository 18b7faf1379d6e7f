/**
 * Custody: the peer's bytes the gateway holds for a socket that does not exist at the moment, or that is still catching up.
 *
 * Theory of operation. A flow's custody is a reassembly buffer over the window [base, base + CUSTODY_CAPACITY). Bytes live in
 * chunks of a pool in the arena, found by their stream offset; sorted, disjoint ranges say which of them are there, so that
 * out-of-order bytes are kept (S5). Nothing is acknowledged before it is here. Bytes leave only when the guest's kernel
 * acknowledged them, or an export showed that the image has them.
 *
 * Limits. A flow remembers RANGES_PER_FLOW ranges. A segment that would need one more takes the place of the highest, which may
 * be forgotten as it was never acknowledged (RFC 2018 §8); one that lies above them all is not held, and comes again. Likewise,
 * an empty pool takes what lies highest from the flow itself, or else does not hold.
 */
import type { Arena, FlowColumns } from './arena.ts';
import { CHUNKS_PER_FLOW, CHUNK_BYTES, CUSTODY_CAPACITY, GAUGE, RANGES_PER_FLOW } from './arena.ts';

export class Custody {
  readonly #arena: Arena;
  readonly #f: FlowColumns;
  /**
   * As a Buffer, because `copy` goes from one memory to another without a view of the part, which for every segment would be garbage,
   * and is quicker at it than `set`.
   */
  readonly #data: Buffer;
  #source: Uint8Array = new Uint8Array(0);
  #sourceBytes = Buffer.alloc(0) as Buffer;

  constructor(arena: Arena) {
    this.#arena = arena;
    this.#f = arena.flows;
    const { buffer, byteOffset, length } = arena.chunkData;
    this.#data = Buffer.from(buffer, byteOffset, length);
  }

  /** Bytes held for a flow. */
  held(flow: number): number {
    const { ranges, rangeCount } = this.#f;
    let bytes = 0;
    const first = flow * RANGES_PER_FLOW * 2;
    for (let i = 0; i < rangeCount[flow]!; i++) bytes += ranges[first + 2 * i + 1]! - ranges[first + 2 * i]!;
    return bytes;
  }

  isEmpty(flow: number): boolean {
    return this.#f.rangeCount[flow] === 0;
  }

  /** Bytes the pool has left, for all flows together. */
  room(): number {
    return (this.#arena.chunkFree.length - this.#arena.gauges[GAUGE.chunksUsed]!) * CHUNK_BYTES;
  }

  /** End of all that is held, or the base when nothing is. */
  highest(flow: number): number {
    const n = this.#f.rangeCount[flow]!;
    return n === 0 ? this.#f.custodyBase[flow]! : this.#f.ranges[flow * RANGES_PER_FLOW * 2 + 2 * n - 1]!;
  }

  /** First offset at or above `from` that is not held. */
  contiguousEnd(flow: number, from: number): number {
    const { ranges, rangeCount } = this.#f;
    const first = flow * RANGES_PER_FLOW * 2;
    for (let i = 0; i < rangeCount[flow]!; i++) {
      const start = ranges[first + 2 * i]!;
      if (start > from) return from;
      const end = ranges[first + 2 * i + 1]!;
      if (end > from) return end;
    }
    return from;
  }

  /**
   * Takes bytes `[offset, offset + length)` of the stream from `source[at…]`. What lies below the base or beyond the capacity, and
   * what the pool has no room for, is not taken.
   */
  insert(flow: number, offset: number, source: Uint8Array, at: number, length: number): void {
    const base = this.#f.custodyBase[flow]!;
    const from = Math.max(offset, base);
    let to = Math.min(offset + length, base + CUSTODY_CAPACITY);
    if (to <= from) return;
    if (!this.#makeRoom(flow, from, to)) return;
    to = this.#write(flow, from, to, source, at + (from - offset));
    if (to <= from) return;
    this.#addRange(flow, from, to);
    this.#f.lastTaken[flow] = from;
  }

  /** Whether a range can be remembered: it touches one that is there, there is a place for one more, or the highest makes way. */
  #makeRoom(flow: number, from: number, to: number): boolean {
    const { ranges, rangeCount } = this.#f;
    const n = rangeCount[flow]!;
    if (n < RANGES_PER_FLOW) return true;
    const first = flow * RANGES_PER_FLOW * 2;
    for (let i = 0; i < n; i++) if (ranges[first + 2 * i]! <= to && ranges[first + 2 * i + 1]! >= from) return true;
    const last = first + 2 * n - 2;
    if (from > ranges[last + 1]!) return false;
    // Its chunks go, but for one it shares with the range below.
    const shared = Math.floor((ranges[last - 1]! - 1) / CHUNK_BYTES);
    const end = Math.floor((ranges[last + 1]! - 1) / CHUNK_BYTES);
    for (let c = Math.max(Math.floor(ranges[last]! / CHUNK_BYTES), shared + 1); c <= end; c++)
      this.#free(flow * CHUNKS_PER_FLOW + (c % CHUNKS_PER_FLOW), this.#f.chunks);
    rangeCount[flow] = n - 1;
    return true;
  }

  /** A source as a Buffer. All segments come from one, so that it is made once. */
  #bufferOf(source: Uint8Array): Buffer {
    if (source !== this.#source) {
      this.#source = source;
      this.#sourceBytes = Buffer.from(source.buffer, source.byteOffset, source.length);
    }
    return this.#sourceBytes;
  }

  #write(flow: number, from: number, to: number, source: Uint8Array, at: number): number {
    const bytes = this.#bufferOf(source);
    let offset = from;
    let position = at;
    while (offset < to) {
      const chunk = this.#chunk(flow, offset);
      if (chunk < 0) return offset;
      const within = offset % CHUNK_BYTES;
      const n = Math.min(CHUNK_BYTES - within, to - offset);
      bytes.copy(this.#data, chunk * CHUNK_BYTES + within, position, position + n);
      offset += n;
      position += n;
    }
    return to;
  }

  /** The chunk of an offset, taken from the pool when there is none yet; -1 when the pool is empty. */
  #chunk(flow: number, offset: number): number {
    const { chunks } = this.#f;
    const i = flow * CHUNKS_PER_FLOW + (Math.floor(offset / CHUNK_BYTES) % CHUNKS_PER_FLOW);
    const known = chunks[i]!;
    if (known !== 0) return known - 1;
    if (this.room() <= 0 && !this.#forgetAbove(flow, offset)) return -1;
    const used = this.#arena.gauges[GAUGE.chunksUsed]!;
    const chunk = this.#arena.chunkFree[used]!;
    this.#arena.gauges[GAUGE.chunksUsed] = used + 1;
    chunks[i] = chunk + 1;
    return chunk;
  }

  /**
   * Frees the flow's highest chunk, if it lies above the one of `offset`. A byte without a chunk lies in a gap, so that nothing
   * above it was acknowledged; without it, the bytes that are held would keep out the one they wait for.
   */
  #forgetAbove(flow: number, offset: number): boolean {
    const { ranges, rangeCount, chunks } = this.#f;
    const n = rangeCount[flow]!;
    if (n === 0) return false;
    const first = flow * RANGES_PER_FLOW * 2;
    const highest = Math.floor((ranges[first + 2 * n - 1]! - 1) / CHUNK_BYTES);
    if (highest <= Math.floor(offset / CHUNK_BYTES)) return false;
    const edge = highest * CHUNK_BYTES;
    let kept = n;
    while (kept > 0 && ranges[first + 2 * kept - 2]! >= edge) kept--;
    if (kept > 0 && ranges[first + 2 * kept - 1]! > edge) ranges[first + 2 * kept - 1] = edge;
    rangeCount[flow] = kept;
    this.#free(flow * CHUNKS_PER_FLOW + (highest % CHUNKS_PER_FLOW), chunks);
    return true;
  }

  #addRange(flow: number, from: number, to: number): void {
    const { ranges, rangeCount } = this.#f;
    const first = flow * RANGES_PER_FLOW * 2;
    const n = rangeCount[flow]!;
    let start = from;
    let end = to;
    let i = 0;
    while (i < n && ranges[first + 2 * i + 1]! < start) i++;
    let j = i;
    while (j < n && ranges[first + 2 * j]! <= end) {
      start = Math.min(start, ranges[first + 2 * j]!);
      end = Math.max(end, ranges[first + 2 * j + 1]!);
      j++;
    }
    // Ranges i…j-1 become one.
    ranges.copyWithin(first + 2 * (i + 1), first + 2 * j, first + 2 * n);
    ranges[first + 2 * i] = start;
    ranges[first + 2 * i + 1] = end;
    rangeCount[flow] = n - (j - i) + 1;
  }

  /** Copies held bytes out. `[offset, offset + length)` must be held. */
  copy(flow: number, offset: number, length: number, target: Uint8Array, at: number): void {
    const { chunks } = this.#f;
    let from = offset;
    let position = at;
    const to = offset + length;
    while (from < to) {
      const chunk = chunks[flow * CHUNKS_PER_FLOW + (Math.floor(from / CHUNK_BYTES) % CHUNKS_PER_FLOW)]! - 1;
      const within = from % CHUNK_BYTES;
      const n = Math.min(CHUNK_BYTES - within, to - from);
      const start = chunk * CHUNK_BYTES + within;
      this.#data.copy(target, position, start, start + n);
      from += n;
      position += n;
    }
  }

  /** Drops all below `offset`, which becomes the base. The base never moves back. */
  release(flow: number, offset: number): void {
    const { ranges, rangeCount, custodyBase, chunks } = this.#f;
    const base = custodyBase[flow]!;
    if (offset <= base) return;
    const first = flow * RANGES_PER_FLOW * 2;
    const n = rangeCount[flow]!;
    let gone = 0;
    while (gone < n && ranges[first + 2 * gone + 1]! <= offset) gone++;
    if (gone > 0) {
      ranges.copyWithin(first, first + 2 * gone, first + 2 * n);
      rangeCount[flow] = n - gone;
    }
    if (rangeCount[flow]! > 0 && ranges[first]! < offset) ranges[first] = offset;
    const to = Math.floor(offset / CHUNK_BYTES);
    // A base that jumps further than the window needs no more than one turn of the ring.
    for (let c = Math.max(Math.floor(base / CHUNK_BYTES), to - CHUNKS_PER_FLOW); c < to; c++)
      this.#free(flow * CHUNKS_PER_FLOW + (c % CHUNKS_PER_FLOW), chunks);
    custodyBase[flow] = offset;
    if (rangeCount[flow] === 0)
      // The chunk that the base points into holds nothing either.
      this.#free(flow * CHUNKS_PER_FLOW + (to % CHUNKS_PER_FLOW), chunks);
  }

  #free(i: number, chunks: Uint32Array): void {
    const chunk = chunks[i]!;
    if (chunk === 0) return;
    const used = this.#arena.gauges[GAUGE.chunksUsed]! - 1;
    this.#arena.chunkFree[used] = chunk - 1;
    this.#arena.gauges[GAUGE.chunksUsed] = used;
    chunks[i] = 0;
  }

  /** Starts anew at an offset, holding nothing. */
  reset(flow: number, base: number): void {
    const { chunks, rangeCount, custodyBase } = this.#f;
    if (rangeCount[flow] !== 0 || custodyBase[flow] !== base)
      for (let i = flow * CHUNKS_PER_FLOW; i < (flow + 1) * CHUNKS_PER_FLOW; i++) this.#free(i, chunks);
    rangeCount[flow] = 0;
    custodyBase[flow] = base;
  }
}
