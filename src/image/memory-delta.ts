/**
 * Memory as what differs from what the module itself makes of it.
 *
 * Layout of the section, before compression: a bitmap of two bits for each 4 KiB block (0 as the module made it, 1 zero, 2 stored)
 * and then the stored blocks in order. Blocks that are all zero are never stored. The whole is one zstd frame, behind one byte
 * that says so (1) or not (0: little there is, compression would only cost time), and the length before compression (u32 × 2, little
 * endian).
 */
import { promisify } from 'node:util';
import { constants, zstdCompress, zstdDecompress } from 'node:zlib';
import { KedgeError } from '../errors.ts';

const BLOCK = 4096;
const PAGE = 65536;
const HEADER = 9;
/** Below this, compression costs more time than its bytes. */
const COMPRESS_FROM = 16 * 1024;
const ZERO = new Uint8Array(BLOCK);
const AS_MADE = 0;
const CLEARED = 1;
const STORED = 2;

const compress = promisify(zstdCompress);
const decompress = promisify(zstdDecompress);

function view(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Which blocks differ, and a copy of those: all that must happen while the guest stands still. Cheap, no compression. */
export function collectDelta(memory: Uint8Array, initial: Uint8Array): Uint8Array {
  const now = view(memory);
  const made = view(initial);
  const zero = view(ZERO);
  const blocks = memory.length / BLOCK;
  const kinds = new Uint8Array(Math.ceil(blocks / 4));
  const stored: number[] = [];
  for (let b = 0; b < blocks; b++) {
    const from = b * BLOCK;
    const to = from + BLOCK;
    const within = to <= made.length;
    const same = within ? now.compare(made, from, to, from, to) === 0 : false;
    if (same) continue;
    const isZero = now.compare(zero, 0, BLOCK, from, to) === 0;
    // Beyond what the module made, memory is zero to begin with.
    if (isZero && !within) continue;
    kinds[b >> 2] = (kinds[b >> 2] ?? 0) | ((isZero ? CLEARED : STORED) << ((b & 3) * 2));
    if (!isZero) stored.push(from);
  }
  const delta = new Uint8Array(kinds.length + stored.length * BLOCK);
  delta.set(kinds);
  stored.forEach((from, i) => delta.set(memory.subarray(from, from + BLOCK), kinds.length + i * BLOCK));
  return delta;
}

/** The section's bytes of a delta. */
export async function packDelta(delta: Uint8Array): Promise<Uint8Array> {
  const small = delta.length < COMPRESS_FROM;
  const body = small
    ? delta
    : await compress(delta, { params: { [constants.ZSTD_c_compressionLevel]: 1 }, pledgedSrcSize: delta.length });
  const section = new Uint8Array(HEADER + body.length);
  const header = new DataView(section.buffer);
  header.setUint8(0, small ? 0 : 1);
  header.setBigUint64(1, BigInt(delta.length), true);
  section.set(body, HEADER);
  return section;
}

/** The delta of a section. `pages` bounds what is allocated for it. Throws KEDGE_IMAGE_INVALID. */
export async function unpackDelta(section: Uint8Array, pages: number): Promise<Uint8Array> {
  const kinds = Math.ceil((pages * PAGE) / BLOCK / 4);
  if (section.length < HEADER) throw invalid('is too short');
  const header = new DataView(section.buffer, section.byteOffset, HEADER);
  const length = Number(header.getBigUint64(1, true));
  if (length < kinds || length > kinds + pages * PAGE) throw invalid('does not fit the memory it is of');
  const body = section.subarray(HEADER);
  if (header.getUint8(0) === 0) {
    if (body.length !== length) throw invalid('has another length than it says');
    return body;
  }
  const delta = await decompress(body, { maxOutputLength: Math.max(1, length) }).catch((cause: unknown) => {
    throw new KedgeError('KEDGE_IMAGE_INVALID', 'the memory section cannot be decompressed', { cause });
  });
  if (delta.length !== length) throw invalid('has another length than it says');
  return delta;
}

/** Turns memory as the module made it, already `pages` long, into the guest's. Throws KEDGE_IMAGE_INVALID. */
export function applyDelta(delta: Uint8Array, memory: Uint8Array, pages: number): void {
  if (memory.length !== pages * PAGE) throw invalid('is of a memory of another size');
  const blocks = memory.length / BLOCK;
  let from = Math.ceil(blocks / 4);
  for (let b = 0; b < blocks; b++) {
    const kind = ((delta[b >> 2] ?? 0) >> ((b & 3) * 2)) & 3;
    if (kind === AS_MADE) continue;
    if (kind === CLEARED) memory.fill(0, b * BLOCK, (b + 1) * BLOCK);
    else if (kind === STORED) {
      if (from + BLOCK > delta.length) throw invalid('has fewer blocks than it says');
      memory.set(delta.subarray(from, from + BLOCK), b * BLOCK);
      from += BLOCK;
    } else throw invalid('has a block of an unknown kind');
  }
  if (from !== delta.length) throw invalid('has more blocks than it says');
}

function invalid(what: string): KedgeError {
  return new KedgeError('KEDGE_IMAGE_INVALID', `the memory section ${what}`);
}
