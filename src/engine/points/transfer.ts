/**
 * How frames leave a guest and enter it again: the host functions of module `kedge` that instrumented code calls, value by value.
 *
 * Theory of operation. Leaving, each function says `frame(point)`, innermost first, and saves every local and every temporary;
 * a frame keeps those that the point names. Entering, each resume version says `next()`, outermost first, and loads as many; those that the
 * frame does not have are zero. A reference crosses as whatever the engine gives;
 * `References` turns it into an ordinal of the table and back.
 */
import { corrupt, type Frame, type Value } from './stack.ts';
import type { Letter, Point, PointTable } from './table.ts';

/** Function references of one engine. */
export interface References {
  /** The ordinal of a reference, undefined for null. Throws when it is none that the module can have. */
  readonly ordinalOf: (reference: unknown) => number | undefined;
  readonly referenceOf: (ordinal: number | undefined) => unknown;
}

interface Saved {
  readonly point: Point;
  readonly values: bigint[];
}

const LOW = 0xffff_ffff_ffff_ffffn;

export class FrameTransfer {
  readonly #table: PointTable;
  readonly #references: References;
  readonly #ordinals: ReadonlyMap<number, number>;
  /** Leaving: innermost first. */
  #saved: Saved[] = [];
  /** Where values go that are saved now, or come from that are loaded now. */
  #values: bigint[] = [];
  /** Entering: outermost first. */
  #frames: readonly Frame[] = [];
  #entered = 0;
  #entry = 0;
  #arrived = true;
  #loaded = 0;

  constructor(table: PointTable, references: References) {
    this.#table = table;
    this.#references = references;
    this.#ordinals = new Map(table.referenced.map((index, ordinal) => [index, ordinal]));
  }

  /** True when all frames that were to be entered have been: the last one, too, has asked where it stands. */
  get whole(): boolean {
    return this.#entered === this.#frames.length && this.#arrived;
  }

  /** The host functions, except `poll`. */
  readonly functions: Readonly<Record<string, (value: never) => unknown>> = {
    frame: (point: number) => {
      const saved = { point: this.#table.point(point), values: [] };
      this.#saved.push(saved);
      this.#values = saved.values;
    },
    save_i32: (value: number) => void this.#values.push(BigInt(value >>> 0)),
    save_i64: (value: bigint) => void this.#values.push(BigInt.asUintN(64, value)),
    save_func: (value: unknown) => void this.#values.push(this.bitsOf(value)),
    save_extern: () => void this.#values.push(0n),
    next: () => this.#next(),
    entry: () => {
      this.#arrived = true;
      return this.#entry;
    },
    load_i32: () => Number(BigInt.asIntN(32, this.#load())),
    load_i64: () => BigInt.asIntN(64, this.#load()),
    load_func: () => this.referenceOf(this.#load()),
    load_extern: () => {
      this.#load();
      return null;
    },
  };

  /** A function reference in the terms of the original module: its index plus 1, 0 for null. */
  bitsOf(reference: unknown): bigint {
    const ordinal = this.#references.ordinalOf(reference);
    return ordinal === undefined ? 0n : BigInt(this.#table.referenced[ordinal] ?? 0) + 1n;
  }

  /** Its place among the functions that can be referred to, plus 1; 0 for null. Throws KEDGE_FRAMES_CORRUPT for one that cannot. */
  slotOf(bits: bigint): number {
    if (bits === 0n) return 0;
    const ordinal = this.#ordinals.get(Number(bits) - 1);
    if (ordinal === undefined) throw corrupt('a reference to a function that cannot be referred to');
    return ordinal + 1;
  }

  referenceOf(bits: bigint): unknown {
    const slot = this.slotOf(bits);
    return this.#references.referenceOf(slot === 0 ? undefined : slot - 1);
  }

  /** Values that code of the module saves or loads outside of any frame. */
  around(values: bigint[], run: () => void): bigint[] {
    this.#values = values;
    this.#loaded = 0;
    run();
    return values;
  }

  /** Forgets what was left and entered: frames are about to leave. */
  begin(): void {
    this.#saved = [];
  }

  /** The frames that have left, outermost first. */
  left(): readonly Frame[] {
    return this.#saved.map(frameOf).toReversed();
  }

  /** Frames are about to enter. */
  enter(frames: readonly Frame[]): void {
    this.#frames = frames;
    this.#entered = 0;
  }

  #next(): number {
    const frame = this.#frames[this.#entered];
    if (frame === undefined) throw corrupt('one is missing');
    this.#entered += 1;
    const point = this.#table.at(frame.function, frame.offset, frame.stand);
    if (point === undefined) throw corrupt(`function ${frame.function} has no point at ${frame.offset}`);
    this.#values = valuesOf(frame, point);
    this.#loaded = 0;
    this.#entry = point.ordinal;
    this.#arrived = false;
    return point.resumable.slot;
  }

  #load(): bigint {
    const value = this.#values[this.#loaded];
    if (value === undefined) throw corrupt('a value is missing');
    this.#loaded += 1;
    return value;
  }
}

/** Every local and every temporary left, in order; what the point does not name is of no meaning and stays behind. */
function frameOf({ point, values }: Saved): Frame {
  const { resumable, offset, stand, live, operands } = point;
  let at = 0;
  const take = (type: Letter): Value => {
    const low = values[at];
    const high = type === 'v' ? values[at + 1] : 0n;
    if (low === undefined || high === undefined) throw corrupt('a value did not leave');
    at += type === 'v' ? 2 : 1;
    return { type, bits: low | (high << 64n) };
  };
  const locals = resumable.locals.each.map(take);
  const temps = resumable.temps.each.map(take);
  if (at !== values.length) throw corrupt('more values left than there are');
  const pick = (from: readonly Value[], index: number): Value => {
    const value = from[index];
    if (value === undefined) throw corrupt('a value is named that there is not');
    return value;
  };
  return {
    function: resumable.function,
    offset,
    stand,
    locals: live.map((index) => ({ index, ...pick(locals, index) })),
    operands: operands.map((temp) => pick(temps, temp)),
  };
}

/** All values that the resume version of a function loads, in order. */
function valuesOf(frame: Frame, { resumable, operands }: Point): bigint[] {
  const values: bigint[] = [];
  const push = (type: Letter, value: Value | undefined): void => {
    if (value !== undefined && value.type !== type) throw corrupt('a value has another type');
    const bits = value?.bits ?? 0n;
    values.push(bits & LOW);
    if (type === 'v') values.push(bits >> 64n);
  };
  const locals = new Map(frame.locals.map((local) => [local.index, local]));
  if (frame.operands.length !== operands.length) throw corrupt('operands are missing');
  const temps = new Map(operands.map((temp, n) => [temp, frame.operands[n]]));
  resumable.locals.each.forEach((type, index) => push(type, locals.get(index)));
  resumable.temps.each.forEach((type, temp) => push(type, temps.get(temp)));
  return values;
}
