import type { MemoryWatch } from '../engine/engine.ts';
import { MOST_IOVECS, withinOneCall } from '../wasi-sock/iovecs.ts';
import { ERRNO, WasiError } from './errno.ts';

/** Linux's PATH_MAX without the NUL. */
const LONGEST_PATH = 4095;

// A byte order mark is a part of a name like any other character.
const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/**
 * The guest's linear memory for the length of one host call, every access checked. An address outside the memory, or a
 * length that reaches over its end, throws `WasiError` EFAULT. Pointers and lengths may be signed, as they arrive.
 * Little-endian, whatever the host is.
 */
export class GuestMemory {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #watch: MemoryWatch | undefined;

  constructor(bytes: Uint8Array, watch?: MemoryWatch) {
    this.#bytes = bytes;
    this.#watch = watch;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** A live view. */
  bytes(pointer: number, length: number): Uint8Array {
    const at = this.#check(pointer, length >>> 0);
    return this.#bytes.subarray(at, at + (length >>> 0));
  }

  u8(pointer: number): number {
    return this.#view.getUint8(this.#check(pointer, 1));
  }

  u16(pointer: number): number {
    return this.#view.getUint16(this.#check(pointer, 2), true);
  }

  u32(pointer: number): number {
    return this.#view.getUint32(this.#check(pointer, 4), true);
  }

  u64(pointer: number): bigint {
    return this.#view.getBigUint64(this.#check(pointer, 8), true);
  }

  setU8(pointer: number, value: number): void {
    this.#view.setUint8(this.#check(pointer, 1), value);
  }

  setU16(pointer: number, value: number): void {
    this.#view.setUint16(this.#check(pointer, 2), value, true);
  }

  setU32(pointer: number, value: number): void {
    this.#view.setUint32(this.#check(pointer, 4), value, true);
  }

  setU64(pointer: number, value: bigint): void {
    this.#view.setBigUint64(this.#check(pointer, 8), BigInt.asUintN(64, value), true);
  }

  /** A path in UTF-8; EILSEQ when it is not, or holds a NUL. ENAMETOOLONG before anything is made of it. */
  text(pointer: number, length: number): string {
    const raw = this.bytes(pointer, length);
    if (raw.length > LONGEST_PATH) {
      throw new WasiError(ERRNO.ENAMETOOLONG);
    }
    if (raw.includes(0)) {
      throw new WasiError(ERRNO.EILSEQ);
    }
    try {
      return UTF8.decode(raw);
    } catch {
      throw new WasiError(ERRNO.EILSEQ);
    }
  }

  /**
   * The buffers of an iovec array, each a live view, cut to what one call may move. Only the first are taken where there are too many,
   * as where they have too many bytes: Linux has EINVAL for that, but programs for WASI do not know of a limit.
   */
  buffers(pointer: number, count: number): readonly Uint8Array[] {
    const entries = Math.min(count >>> 0, MOST_IOVECS);
    const first = this.#check(pointer, entries * 8);
    return withinOneCall(entries, this.#bytes.length, (i) =>
      this.bytes(this.u32(first + 8 * i), this.u32(first + 8 * i + 4)),
    );
  }

  #check(pointer: number, length: number): number {
    const at = pointer >>> 0;
    if (at + length > this.#bytes.length) {
      throw new WasiError(ERRNO.EFAULT);
    }
    this.#watch?.touch(at, length);
    return at;
  }
}
