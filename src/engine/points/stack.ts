/**
 * The compute state of a stopped guest beyond memory and numeric globals, in terms of its original module: frames, tables that
 * changed, segments that were dropped, globals that hold references. The same on every engine; the encoding is `points-1`.
 *
 * ```text
 * version    byte, 1
 * stage      byte: 0 in the start function, 1 in `_start`
 * frames     vector, outermost first, of
 *              function, offset * 2 + stand (0 at, 1 in)
 *              locals    vector of index (minus the one before), type letter, value
 *              operands  vector of type letter, value
 * globals    vector of index, value            (references and vectors; numbers are elsewhere in an image)
 * tables     vector of index, vector of values
 * data       vector of indices                 (dropped)
 * elements   vector of indices                 (dropped)
 * ```
 *
 * A value is its bits as unsigned LEB128; a function reference is the original index plus 1, null is 0.
 */
import { KedgeError } from '../../errors.ts';
import type { Letter, Stand } from './table.ts';

export const ENCODING = 'points-1';

export interface Value {
  readonly type: Letter;
  readonly bits: bigint;
}

export interface Frame {
  /** Index in the original module. */
  readonly function: number;
  /** Byte offset in the original module. */
  readonly offset: number;
  readonly stand: Stand;
  readonly locals: readonly (Value & { readonly index: number })[];
  readonly operands: readonly Value[];
}

export interface Stack {
  readonly stage: 'start' | 'main';
  /** Outermost first. */
  readonly frames: readonly Frame[];
  readonly globals: readonly { readonly index: number; readonly bits: bigint }[];
  readonly tables: readonly { readonly index: number; readonly elements: readonly number[] }[];
  readonly data: readonly number[];
  readonly elements: readonly number[];
}

const VERSION = 1;
/**
 * What is more is no stack of any engine: V8 gives 16 MiB to a guest's frames, of which one takes 48 bytes and each value 8. A few
 * bytes of an image become an object of a hundred here, so it is counted while they are read.
 */
const MOST_FRAMES = 1 << 19;
const MOST_VALUES = 1 << 21;
/** Elements of all tables, and whatever else a module has: engines end at ten million in one. */
const MOST_OTHERS = 1 << 25;
const BITS: Readonly<Record<Letter, bigint>> = { i: 32n, I: 64n, f: 32n, F: 64n, v: 128n, r: 33n, e: 0n };

class Out {
  #bytes = new Uint8Array(1024);
  #length = 0;

  u8(byte: number): void {
    if (this.#length === this.#bytes.length) {
      const larger = new Uint8Array(this.#bytes.length * 2);
      larger.set(this.#bytes);
      this.#bytes = larger;
    }
    this.#bytes[this.#length] = byte;
    this.#length += 1;
  }

  number(value: number): void {
    let left = value;
    for (; left >= 0x80; left = Math.floor(left / 0x80)) this.u8((left % 0x80) | 0x80);
    this.u8(left);
  }

  bits(value: bigint): void {
    let left = value;
    for (; left > 0x1f_ffff_ffff_ffffn; left >>= 7n) this.u8(Number(left & 0x7fn) | 0x80);
    this.number(Number(left));
  }

  list<Item>(items: readonly Item[], write: (item: Item) => void): void {
    this.number(items.length);
    for (const item of items) write(item);
  }

  take(): Uint8Array {
    return this.#bytes.slice(0, this.#length);
  }
}

export function encodeStack(stack: Stack): Uint8Array {
  const out = new Out();
  const value = ({ type, bits }: Value): void => {
    out.u8(type.charCodeAt(0));
    out.bits(bits);
  };
  out.u8(VERSION);
  out.u8(stack.stage === 'start' ? 0 : 1);
  out.list(stack.frames, (frame) => {
    out.number(frame.function);
    out.number(frame.offset * 2 + (frame.stand === 'at' ? 0 : 1));
    let last = 0;
    out.list(frame.locals, (local) => {
      out.number(local.index - last);
      last = local.index;
      value(local);
    });
    out.list(frame.operands, value);
  });
  out.list(stack.globals, ({ index, bits }) => {
    out.number(index);
    out.bits(bits);
  });
  out.list(stack.tables, ({ index, elements }) => {
    out.number(index);
    out.list(elements, (element) => out.number(element));
  });
  out.list(stack.data, (index) => out.number(index));
  out.list(stack.elements, (index) => out.number(index));
  return out.take();
}

/** What is wrong with frames that come from outside. */
export function corrupt(what: string): KedgeError {
  return new KedgeError('KEDGE_FRAMES_CORRUPT', `the frames are damaged: ${what}`);
}

/** How many items of one kind may still come. */
interface Budget {
  readonly of: string;
  left: number;
}

class In {
  readonly #bytes: Uint8Array;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  u8(): number {
    const byte = this.#bytes[this.#at];
    if (byte === undefined) throw corrupt('they end too early');
    this.#at += 1;
    return byte;
  }

  bits(most: bigint): bigint {
    let value = 0n;
    for (let shift = 0n; shift < 133n; shift += 7n) {
      const byte = this.u8();
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) {
        if (value >> most !== 0n) break;
        return value;
      }
    }
    throw corrupt('a value does not fit its type');
  }

  number(): number {
    return Number(this.bits(33n));
  }

  list<Item>(budget: Budget, read: () => Item): readonly Item[] {
    const items: Item[] = [];
    let left = this.number();
    budget.left -= left;
    if (budget.left < 0) throw corrupt(`they have more ${budget.of} than any guest`);
    for (; left > 0; left -= 1) items.push(read());
    return items;
  }

  end(): void {
    if (this.#at !== this.#bytes.length) throw corrupt('something follows them');
  }
}

/** Throws KEDGE_FRAMES_CORRUPT for what `encodeStack` cannot have written. */
export function decodeStack(bytes: Uint8Array): Stack {
  const read = new In(bytes);
  const value = (): Value => {
    const type = String.fromCharCode(read.u8()) as Letter;
    if (!Object.hasOwn(BITS, type)) throw corrupt('an unknown type');
    return { type, bits: read.bits(BITS[type]) };
  };
  if (read.u8() !== VERSION) throw corrupt('an unknown version');
  const stage = read.u8();
  if (stage > 1) throw corrupt('an unknown stage');
  const values = { of: 'values', left: MOST_VALUES };
  const others = { of: 'elements', left: MOST_OTHERS };
  const frames = read.list({ of: 'frames', left: MOST_FRAMES }, (): Frame => {
    const index = read.number();
    const packed = read.number();
    let last = 0;
    const locals = read.list(values, () => {
      last += read.number();
      return { index: last, ...value() };
    });
    const stand = packed % 2 === 0 ? 'at' : 'in';
    return { function: index, offset: Math.floor(packed / 2), stand, locals, operands: read.list(values, value) };
  });
  const globals = read.list(others, () => ({ index: read.number(), bits: read.bits(128n) }));
  const tables = read.list(others, () => ({ index: read.number(), elements: read.list(others, () => read.number()) }));
  const data = read.list(others, () => read.number());
  const elements = read.list(others, () => read.number());
  read.end();
  return { stage: stage === 0 ? 'start' : 'main', frames, globals, tables, data, elements };
}
