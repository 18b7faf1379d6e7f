/**
 * Bytes of a stream between two offsets: `start` is the first byte held, `end` one past the last. Offsets count the bytes of
 * the whole stream in a double, exact to 2^53, so they never wrap.
 *
 * Used twice by each connection: as the *tail*, what the guest wrote and the peer has not acknowledged, and as the *inbound*
 * buffer, what was read from the kernel and not yet by the guest.
 *
 * Theory of operation: a queue of chunks. A new chunk is as large as all that is held, between 1 KiB and 256 KiB: a quiet
 * connection costs little, a busy one few chunks, and no byte is ever moved. Appending copies once; trimming drops whole
 * chunks. The last chunk is kept and used again when it becomes empty, unless it is large: then many idle connections
 * would keep what one burst needed.
 */

const SMALLEST_CHUNK = 1024;
const LARGEST_CHUNK = 256 * 1024;
/** An empty buffer keeps a chunk up to this size. */
const KEPT_CHUNK = 16 * 1024;

interface Chunk {
  readonly bytes: Uint8Array;
  /** Stream offset of the first byte. */
  base: number;
  /** Bytes written so far. */
  used: number;
}

const EMPTY = new Uint8Array(0);

export class StreamBuffer {
  #start: number;
  #end: number;
  readonly #chunks: Chunk[] = [];

  /** An empty buffer at an offset, or one that holds `bytes` from there on. */
  constructor(start = 0, bytes?: Uint8Array) {
    this.#start = start;
    this.#end = start;
    if (bytes !== undefined) this.append(bytes, 0, bytes.length);
  }

  get start(): number {
    return this.#start;
  }

  get end(): number {
    return this.#end;
  }

  get length(): number {
    return this.#end - this.#start;
  }

  /** Takes a copy of `length` bytes from `offset`. They must lie within `data`. */
  append(data: Uint8Array, offset: number, length: number): void {
    let done = 0;
    while (done < length) {
      const chunk = this.#room(length - done);
      const part = Math.min(chunk.bytes.length - chunk.used, length - done);
      chunk.bytes.set(data.subarray(offset + done, offset + done + part), chunk.used);
      chunk.used += part;
      this.#end += part;
      done += part;
    }
  }

  /** Counts bytes that passed by without being held; the buffer must be empty. */
  skip(length: number): void {
    if (this.length > 0) throw new RangeError('only an empty buffer can be skipped');
    this.#start += length;
    this.#end = this.#start;
    this.#empty();
  }

  /** Forgets everything below an offset. One below `start` changes nothing; one above `end` throws RangeError. */
  trim(offset: number): void {
    if (offset > this.#end) throw new RangeError(`trim to ${offset} beyond the end ${this.#end}`);
    if (offset <= this.#start) return;
    this.#start = offset;
    if (offset === this.#end) return this.#empty();
    for (let head = this.#chunks[0]; head !== undefined && head.base + head.used <= offset; head = this.#chunks[0]) {
      this.#chunks.shift();
    }
  }

  /** A live view of bytes from `from` on: as many as lie together, at least one when `from` is below `end`. */
  view(from: number): Uint8Array {
    if (from < this.#start || from > this.#end) throw new RangeError(`${from} is not held`);
    for (const chunk of this.#chunks) {
      if (from < chunk.base + chunk.used) return chunk.bytes.subarray(from - chunk.base, chunk.used);
    }
    return EMPTY;
  }

  /** Copies up to `length` bytes from `start` on into `target`; returns how many. They stay until trimmed. */
  copyTo(target: Uint8Array, offset: number, length: number): number {
    const wanted = Math.min(length, this.length);
    let done = 0;
    while (done < wanted) {
      const part = this.view(this.#start + done);
      const taken = Math.min(part.length, wanted - done);
      target.set(part.subarray(0, taken), offset + done);
      done += taken;
    }
    return done;
  }

  /** A copy of all bytes held. */
  bytes(): Uint8Array {
    const all = new Uint8Array(this.length);
    this.copyTo(all, 0, all.length);
    return all;
  }

  #room(wanted: number): Chunk {
    const last = this.#chunks.at(-1);
    if (last !== undefined && last.used < last.bytes.length) return last;
    const size = Math.min(LARGEST_CHUNK, Math.max(SMALLEST_CHUNK, this.length, wanted));
    const chunk = { bytes: new Uint8Array(size), base: this.#end, used: 0 };
    this.#chunks.push(chunk);
    return chunk;
  }

  #empty(): void {
    const last = this.#chunks.at(-1);
    if (last === undefined) return;
    this.#chunks.length = 0;
    if (last.bytes.length > KEPT_CHUNK) return;
    last.base = this.#start;
    last.used = 0;
    this.#chunks.push(last);
  }
}
