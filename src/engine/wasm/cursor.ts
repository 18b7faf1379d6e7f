import { KedgeError } from '../../errors.ts';

// A byte order mark is a part of a name like any other character.
const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** Reads WebAssembly's binary primitives, bounds first. Everything that does not fit throws KEDGE_MODULE_INVALID. */
export class Cursor {
  readonly bytes: Uint8Array;
  readonly end: number;
  at: number;

  /** Reads `bytes[at, end)`. */
  constructor(bytes: Uint8Array, at = 0, end = bytes.length) {
    this.bytes = bytes;
    this.at = at;
    this.end = end;
  }

  get done(): boolean {
    return this.at >= this.end;
  }

  fail(what: string): KedgeError {
    return new KedgeError('KEDGE_MODULE_INVALID', `the module is not valid WebAssembly: ${what} at byte ${this.at}`);
  }

  u8(): number {
    const byte = this.at < this.end ? this.bytes[this.at] : undefined;
    if (byte === undefined) {
      throw this.fail('it ends too early');
    }
    this.at += 1;
    return byte;
  }

  /** Unsigned LEB128 of at most 32 bits. */
  u32(): number {
    let result = 0;
    for (let shift = 0; shift < 35; shift += 7) {
      const byte = this.u8();
      result += (byte & 0x7f) * 2 ** shift;
      if ((byte & 0x80) === 0) {
        if (result > 0xffffffff) {
          break;
        }
        return result;
      }
    }
    throw this.fail('a number is out of range');
  }

  /** Signed LEB128 of at most 64 bits. */
  s64(): bigint {
    let result = 0n;
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const byte = this.u8();
      result |= BigInt(byte & 0x7f) << shift;
      if ((byte & 0x80) === 0) {
        return BigInt.asIntN(64, (byte & 0x40) === 0 ? result : result - (1n << (shift + 7n)));
      }
    }
    throw this.fail('a number is out of range');
  }

  /** Passes over any LEB128 number (up to 10 bytes). */
  skipLeb(): void {
    for (let i = 0; i < 10; i += 1) {
      if ((this.u8() & 0x80) === 0) {
        return;
      }
    }
    throw this.fail('a number is too long');
  }

  skip(length: number): void {
    if (length > this.end - this.at) {
      throw this.fail('it ends too early');
    }
    this.at += length;
  }

  /** A view of the next `length` bytes. */
  take(length: number): Uint8Array {
    const from = this.at;
    this.skip(length);
    return this.bytes.subarray(from, this.at);
  }

  name(): string {
    const raw = this.take(this.u32());
    try {
      return UTF8.decode(raw);
    } catch {
      throw this.fail('a name is not UTF-8');
    }
  }
}
