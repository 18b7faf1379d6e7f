/**
 * Memory as what differs from what the module itself makes of it.
 *
 * A delta (`collectDelta`), integers u32 little-endian: number of runs; for each run its first page, its count of pages and its kind
 * (0: all zeros, 1: data); then the data of all data runs. Pages here have 4 KiB; runs ascend and do not overlap. Where a module has
 * several memories, pages are counted through all of them in order, and no run is in two.
 *
 * The memory section (`packDelta`) is that delta in chunks of 1 MiB: length, packed length, and a zstd frame, or the bytes
 * themselves where both lengths are the same. So no length in it makes anyone allocate more than a chunk before its bytes are there.
 */
import { freemem } from 'node:os';
import process from 'node:process';
import { promisify } from 'node:util';
import { constants, zstdCompress, zstdCompressSync, zstdDecompress, zstdDecompressSync } from 'node:zlib';
import type { ZstdOptions } from 'node:zlib';
import { KedgeError } from '../errors.ts';
import { native } from '../native.ts';

export const DELTA_PAGE = 4096;
const WASM_PAGE = 65_536;
export const CHUNK = 1024 * 1024;
const CHUNK_HEAD = 8;
/** Chunks compressed at a time, in threads of their own. */
const PARALLEL = 4;
/** Below this, compression takes longer than it saves. */
const COMPRESS_FROM = 4096;
/** Numbers of a run, of 4 bytes each. */
const NUMBERS = 3;
const BYTES = 4;
const RUN_SIZE = NUMBERS * BYTES;
const RUNS_AT = 4;
/** Bytes of a chunk that are counted to tell noise, and how often one value may be among them. */
const SAMPLE = 2048;
/** They are counted in lines of the cache, which are what reading them costs. */
const LINE = 64;
const MOST_OF_NOISE = 29;
/** Bytes of a chunk that are compressed to see whether all of it is worth it: when the result is smaller by this. */
const PROBE = 16_384;
const WORTH = 0.98;
const ZERO = 0;
const DATA = 1;

const NO_MEMORY = new Uint8Array(0);

const compressAside = promisify(zstdCompress);
const decompressAside = promisify(zstdDecompress);
/** A chunk below this is done on the spot: to wait for another thread takes longer. */
const ASIDE_FROM = 256 * 1024;
/** Bytes that the other thread gives at a time: each is a message, and what is not filled of the last one stays in memory. */
const PACKED_AT_ONCE = 64 * 1024;

function compress(bytes: Uint8Array, options: ZstdOptions): Promise<Buffer> | Buffer {
  return bytes.length < ASIDE_FROM
    ? zstdCompressSync(bytes, options)
    : compressAside(bytes, { ...options, chunkSize: PACKED_AT_ONCE });
}

function decompress(bytes: Uint8Array, maxOutputLength: number): Promise<Buffer> | Buffer {
  const small = maxOutputLength < ASIDE_FROM;
  return small
    ? zstdDecompressSync(bytes, { maxOutputLength })
    : decompressAside(bytes, { maxOutputLength, chunkSize: maxOutputLength });
}

/** What is unpacked is there twice for a moment: as it came, and in the guest's memory. */
const COPIES = 2;
/** Bytes for which nobody asks the system: that takes longer than to unpack them. */
const ALWAYS_THERE = 16 * 1024 * 1024;

/** Pages [first, first + count) that are all zeros, or that hold data. */
interface Run {
  readonly first: number;
  readonly count: number;
  readonly kind: typeof ZERO | typeof DATA;
}

function bad(what: string, cause?: unknown): never {
  throw new KedgeError('KEDGE_IMAGE_INVALID', `the image's memory is not well-formed: ${what}`, { cause });
}

function nodeBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** What of one memory differs. */
export interface Found {
  readonly memory: Uint8Array;
  /** First page, count and kind of each run. */
  readonly runs: Uint32Array;
  /** Bytes of all its data runs. */
  readonly data: number;
}

/** Which pages of each memory differ from what the module makes of it, looked for by several threads. */
export function findRuns(memories: readonly Uint8Array[], initials: readonly Uint8Array[]): Found[] {
  return memories.map((memory, n) => {
    const runs = native.deltaRuns(memory, initials[n] ?? NO_MEMORY);
    let pages = 0;
    for (let i = 0; i < runs.length; i += NUMBERS) if (runs[i + 2] === DATA) pages += runs[i + 1] ?? 0;
    return { memory, runs, data: pages * DELTA_PAGE };
  });
}

/** The data runs, each as a view of the guest's memory. */
export function* dataRuns(found: readonly Found[]): Generator<Uint8Array> {
  for (const { memory, runs } of found) {
    for (let i = 0; i < runs.length; i += NUMBERS) {
      const start = (runs[i] ?? 0) * DELTA_PAGE;
      if (runs[i + 2] === DATA) yield memory.subarray(start, start + (runs[i + 1] ?? 0) * DELTA_PAGE);
    }
  }
}

/** Bytes of a delta before its data. */
export function runsLength(found: readonly Found[]): number {
  return RUNS_AT + BYTES * found.reduce((sum, { runs }) => sum + runs.length, 0);
}

/** Writes what a delta has before its data, `runsLength` bytes of it. */
export function writeRuns(found: readonly Found[], into: Uint8Array): void {
  const head = nodeBuffer(into);
  head.writeUInt32LE((runsLength(found) - RUNS_AT) / RUN_SIZE, 0);
  let [base, at] = [0, RUNS_AT];
  for (const { memory, runs } of found) {
    for (let i = 0; i < runs.length; i += 1, at += BYTES)
      head.writeUInt32LE((runs[i] ?? 0) + (i % NUMBERS === 0 ? base : 0), at);
    base += memory.length / DELTA_PAGE;
  }
}

/** Which pages of one memory differ, and a copy of those. See `collectDeltas`. */
export function collectDelta(memory: Uint8Array, initial: Uint8Array): Uint8Array {
  return collectDeltas([memory], [initial]);
}

/** Which pages differ, and a copy of those: all that must happen while the guest stands still. Owns its buffer. */
export function collectDeltas(memories: readonly Uint8Array[], initials: readonly Uint8Array[]): Uint8Array {
  return copyFound(findRuns(memories, initials));
}

/** The same of what was found. Copied by several threads: nobody else reads so much at a time. */
export function copyFound(found: readonly Found[]): Uint8Array {
  let to = runsLength(found);
  const delta = new Uint8Array(found.reduce((sum, { data }) => sum + data, to));
  writeRuns(found, delta);
  for (const { memory, runs, data } of found) {
    const end = to + data;
    const copied = native.deltaCopy(memory, runs, delta.subarray(0, end), to);
    if (copied !== 0) throw new KedgeError('KEDGE_INTERNAL', `the guest's memory cannot be copied: errno ${-copied}`);
    to = end;
  }
  return delta;
}

/**
 * Makes `memory`, which is as the module made it, beyond that zero, and `pages` of 64 KiB long, equal to the captured one.
 * Throws KEDGE_IMAGE_INVALID, and then `memory` may hold a part of it.
 */
export function applyDelta(delta: Uint8Array, memory: Uint8Array, pages: number): void {
  applyDeltas(delta, [memory], [pages]);
}

/** The same for all memories of a module. */
export function applyDeltas(delta: Uint8Array, memories: readonly Uint8Array[], pages: readonly number[]): void {
  if (memories.some(({ length }, n) => length !== (pages[n] ?? 0) * WASM_PAGE))
    bad('it is of a memory of another size');
  const bytes = nodeBuffer(delta);
  const runs = readRuns(bytes, memories.reduce((sum, { length }) => sum + length, 0) / DELTA_PAGE);
  let at = RUNS_AT + RUN_SIZE * runs.length;
  const data = runs.reduce((sum, { kind, count }) => sum + (kind === DATA ? count * DELTA_PAGE : 0), 0);
  if (at + data !== bytes.length) bad('it holds another amount of data than its runs');
  let base = 0;
  let next = 0;
  for (const memory of memories) {
    const target = nodeBuffer(memory);
    for (let run = runs[next]; run !== undefined && run.first * DELTA_PAGE < base + target.length; run = runs[next]) {
      const start = run.first * DELTA_PAGE - base;
      const length = run.count * DELTA_PAGE;
      if (start + length > target.length) bad(`run ${next} is in two memories`);
      if (run.kind === ZERO) target.fill(0, start, start + length);
      else at += bytes.copy(target, start, at, at + length);
      next += 1;
    }
    base += target.length;
  }
}

function readRuns(bytes: Buffer, pages: number): Run[] {
  if (bytes.length < RUNS_AT) bad('it has no runs');
  const count = bytes.readUInt32LE(0);
  if (count > (bytes.length - RUNS_AT) / RUN_SIZE) bad('it ends within its runs');
  const runs: Run[] = [];
  let free = 0;
  for (let i = 0; i < count; i += 1) {
    const at = RUNS_AT + RUN_SIZE * i;
    const first = bytes.readUInt32LE(at);
    const length = bytes.readUInt32LE(at + 4);
    const kind = bytes.readUInt32LE(at + 8);
    if (kind !== ZERO && kind !== DATA) bad(`run ${i} is of kind ${kind}`);
    if (first < free || length === 0 || first + length > pages) bad(`run ${i} is out of place`);
    free = first + length;
    runs.push({ first, count: length, kind });
  }
  return runs;
}

/** The section's bytes, in pieces. `level` is zstd's. */
export async function packDelta(delta: Uint8Array, level: number): Promise<Uint8Array[]> {
  const chunks = [];
  for (let at = 0; at < delta.length; at += CHUNK) chunks.push(delta.subarray(at, at + CHUNK));
  return await packChunks(chunks, level);
}

/**
 * The same of a delta in chunks, of at most `CHUNK` bytes each. Parts of the result may be views of the chunks. Ends early, with
 * nothing that is of use, once `givenUp`.
 */
export async function packChunks(
  chunks: Iterable<Uint8Array>,
  level: number,
  givenUp: () => boolean = () => false,
): Promise<Uint8Array[]> {
  const parts: Uint8Array[] = [];
  let group: Promise<Uint8Array[]>[] = [];
  const settle = async (): Promise<void> => {
    for (const part of (await Promise.all(group)).flat()) parts.push(part);
    group = [];
  };
  for (const chunk of chunks) {
    if (givenUp()) break;
    if (group.push(packChunk(chunk, level)) === PARALLEL) await settle();
  }
  await settle();
  return parts;
}

async function packChunk(bytes: Uint8Array, level: number): Promise<Uint8Array[]> {
  const params = { [constants.ZSTD_c_compressionLevel]: level };
  const tried = looksCompressible(bytes) ? await compress(bytes, { params }) : bytes;
  const packed = tried.length < bytes.length ? tried : bytes;
  const head = Buffer.alloc(CHUNK_HEAD);
  head.writeUInt32LE(bytes.length, 0);
  head.writeUInt32LE(packed.length, 4);
  return [head, packed];
}

/**
 * Whether compression is worth a try. Noise is told by a sample from all over the chunk, in which all bytes are about equally
 * frequent; a part of it is compressed then, since bytes may be equally frequent and in order.
 */
function looksCompressible(bytes: Uint8Array): boolean {
  if (bytes.length < COMPRESS_FROM) return false;
  if (bytes.length < ASIDE_FROM || !looksLikeNoise(bytes)) return true;
  const start = Math.floor(bytes.length / 2 / DELTA_PAGE) * DELTA_PAGE;
  const part = bytes.subarray(start, start + PROBE);
  const params = { [constants.ZSTD_c_compressionLevel]: 1 };
  return zstdCompressSync(part, { params }).length < part.length * WORTH;
}

function looksLikeNoise(bytes: Uint8Array): boolean {
  const counts = new Uint16Array(256);
  const step = Math.floor((bytes.length / SAMPLE) * LINE);
  for (let start = 0, n = 0; n < SAMPLE; start += step) {
    for (let at = start; at < start + LINE; at += 1, n += 1) {
      const byte = bytes[at] ?? 0;
      counts[byte] = (counts[byte] ?? 0) + 1;
    }
  }
  // Of 2048 random bytes each value comes 8 times; 29 times none in ten thousand samples.
  return counts.every((count) => count < MOST_OF_NOISE);
}

/**
 * The delta of a section, of a memory of `pages`, which bounds what it can be. A few bytes may stand for a mebibyte, so what it will
 * take is known before any of it is unpacked. Throws KEDGE_IMAGE_INVALID, and KEDGE_RESTORE_MEMORY when this host has not that much.
 */
export async function unpackDelta(section: Uint8Array, pages: number): Promise<Uint8Array> {
  const bytes = nodeBuffer(section);
  const most = RUNS_AT + ((pages * WASM_PAGE) / DELTA_PAGE) * (RUN_SIZE + DELTA_PAGE);
  const chunks: { readonly at: number; readonly length: number; readonly packed: Buffer }[] = [];
  let total = 0;
  for (let at = 0; at < bytes.length;) {
    if (at + CHUNK_HEAD > bytes.length) bad('it ends within a chunk');
    const length = bytes.readUInt32LE(at);
    const packed = bytes.readUInt32LE(at + 4);
    at += CHUNK_HEAD;
    if (length === 0 || length > CHUNK || packed > length || at + packed > bytes.length)
      bad('a chunk is out of bounds');
    if (total % CHUNK !== 0) bad('a chunk follows a short one');
    chunks.push({ at: total, length, packed: bytes.subarray(at, at + packed) });
    total += length;
    at += packed;
    if (total > most) bad('it is larger than the memory it is of');
  }
  mustHave(COPIES * total);
  // A copy of its own, which may be posted to another thread: a view would take the whole image along.
  const delta = new Uint8Array(total);
  for (let i = 0; i < chunks.length; i += PARALLEL) {
    const group = chunks.slice(i, i + PARALLEL);
    await Promise.all(group.map(async (chunk) => delta.set(await unpackChunk(chunk), chunk.at)));
  }
  return delta;
}

/**
 * Throws KEDGE_RESTORE_MEMORY. In a control group all of its limit counts: what is in use there includes files that the kernel would
 * give up.
 */
function mustHave(bytes: number): void {
  if (bytes < ALWAYS_THERE) return;
  const has = Math.min(freemem(), process.constrainedMemory() || Infinity);
  if (bytes <= has) return;
  const [wants, free] = [bytes, has].map((n) => `${Math.round(n / 2 ** 20)} MiB`);
  throw new KedgeError('KEDGE_RESTORE_MEMORY', `the guest's memory takes ${wants} here, and there are ${free}`, {
    hint: 'make room on this host, or choose another',
  });
}

async function unpackChunk({ length, packed }: { length: number; packed: Buffer }): Promise<Uint8Array> {
  if (packed.length === length) return packed;
  let data: Buffer;
  try {
    data = await decompress(packed, length);
  } catch (cause) {
    return bad('a chunk does not decompress', cause);
  }
  if (data.length !== length) bad('a chunk has another length than it says');
  return data;
}
