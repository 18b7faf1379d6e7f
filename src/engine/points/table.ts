/**
 * The custom section `kedge.points` of an instrumented module: which functions can be resumed, where, and with which values.
 * `native/src/points/metadata.rs` writes it and describes its bytes. Points are decoded when they are asked for.
 */
import { KedgeError } from '../../errors.ts';
import { Cursor } from '../wasm/cursor.ts';

/** i32, i64, f32, f64, v128, funcref, externref. */
export type Letter = 'i' | 'I' | 'f' | 'F' | 'v' | 'r' | 'e';

/** `at`: before the instruction; `in`: in the call that the instruction makes. */
export type Stand = 'at' | 'in';

/** Types of many values, most of which are alike: a module of a few bytes may declare 50,000 locals in each of its functions. */
export class Types {
  readonly length: number;
  readonly #runs: readonly { readonly type: Letter; readonly count: number }[];
  #each: readonly Letter[] | undefined;

  constructor(runs: readonly { readonly type: Letter; readonly count: number }[]) {
    this.#runs = runs;
    this.length = runs.reduce((sum, { count }) => sum + count, 0);
  }

  /** One by one. They are only made for functions that are found on a stack, and kept. */
  get each(): readonly Letter[] {
    this.#each ??= this.#runs.flatMap(({ type, count }) => Array.from({ length: count }, () => type));
    return this.#each;
  }
}

/** A function that has a resume version; its slot is its place in the list. */
export interface Resumable {
  readonly slot: number;
  /** Index in the original module. */
  readonly function: number;
  readonly firstPoint: number;
  readonly pointCount: number;
  /** Types of parameters and locals. */
  readonly locals: Types;
  /** Types of the temporaries that hold operands. */
  readonly temps: Types;
}

export interface Point {
  readonly resumable: Resumable;
  /** Byte offset of the instruction in the original module. */
  readonly offset: number;
  readonly stand: Stand;
  /** Its number within the function, from 1: what `entry` gives. */
  readonly ordinal: number;
  /** Locals whose values matter. */
  readonly live: readonly number[];
  /** Temporaries of the operands, from the bottom of the stack up. */
  readonly operands: readonly number[];
}

const SECTION = 'kedge.points';
const VERSION = 2;
const HEADER = 8;
const LETTERS: ReadonlySet<string> = new Set<Letter>(['i', 'I', 'f', 'F', 'v', 'r', 'e']);
const MOST_LOCALS = 1 << 20;
/** Before an instruction, and in the call that it makes. */
const AT_ONE_OFFSET = 2;

function invalid(what: string): KedgeError {
  return new KedgeError('KEDGE_MODULE_INVALID', `the table of stable points is damaged: ${what}`);
}

function letter(cursor: Cursor): Letter {
  const text = String.fromCharCode(cursor.u8());
  if (!LETTERS.has(text)) throw invalid('an unknown type');
  return text as Letter;
}

function list<Item>(cursor: Cursor, read: () => Item): readonly Item[] {
  const items: Item[] = [];
  for (let left = cursor.u32(); left > 0; left -= 1) items.push(read());
  return items;
}

function increasing(cursor: Cursor): readonly number[] {
  let last = 0;
  return list(cursor, () => (last += cursor.u32()));
}

function typesOf(cursor: Cursor): Types {
  let length = 0;
  const runs = list(cursor, () => {
    const count = cursor.u32();
    length += count;
    if (length > MOST_LOCALS) throw invalid('too many locals');
    return { count, type: letter(cursor) };
  });
  return new Types(runs);
}

/** The payload of the section, or undefined when a module has none. */
function find(module: Uint8Array): Cursor | undefined {
  const cursor = new Cursor(module, HEADER);
  while (!cursor.done) {
    const id = cursor.u8();
    const size = cursor.u32();
    const section = new Cursor(module, cursor.at, cursor.at + size);
    cursor.skip(size);
    if (id === 0 && section.name() === SECTION) return section;
  }
  return undefined;
}

export class PointTable {
  readonly functions: readonly Resumable[];
  /** Mutable globals of the original. */
  readonly globals: readonly { readonly index: number; readonly type: Letter }[];
  /** Original indices of the functions that can be referred to; a place in this list is an ordinal. */
  readonly referenced: readonly number[];
  /** Tables, data and element segments that can change at run time. */
  readonly tables: readonly number[];
  readonly data: readonly number[];
  readonly elements: readonly number[];
  readonly hasStart: boolean;
  readonly #bytes: Uint8Array;
  readonly #ranges: readonly { readonly start: number; readonly end: number }[];
  readonly #byFunction: ReadonlyMap<number, Resumable>;
  readonly #decoded = new Map<number, readonly Point[]>();

  /** Throws KEDGE_MODULE_INVALID when the module was not instrumented. */
  constructor(module: Uint8Array) {
    const cursor = find(module);
    if (cursor === undefined) throw invalid('there is none');
    if (cursor.u8() !== VERSION) throw invalid('an unknown version');
    cursor.skip(1 + 32); // policy and hash are known from elsewhere
    let index = 0;
    let firstPoint = 0;
    const sizes: number[] = [];
    this.functions = list(cursor, () => {
      index += cursor.u32();
      const pointCount = cursor.u32();
      sizes.push(cursor.u32());
      const resumable = { slot: sizes.length - 1, function: index, firstPoint, pointCount };
      firstPoint += pointCount;
      return { ...resumable, locals: typesOf(cursor), temps: typesOf(cursor) };
    });
    this.#byFunction = new Map(this.functions.map((resumable) => [resumable.function, resumable]));
    this.globals = list(cursor, () => ({ index: cursor.u32(), type: letter(cursor) }));
    this.referenced = increasing(cursor);
    this.tables = list(cursor, () => cursor.u32());
    this.data = list(cursor, () => cursor.u32());
    this.elements = list(cursor, () => cursor.u32());
    this.hasStart = (cursor.u8() & 1) !== 0;
    let start = cursor.at;
    this.#ranges = sizes.map((size) => {
      const range = { start, end: start + size };
      start += size;
      return range;
    });
    if (start !== cursor.end) throw invalid('points are missing');
    this.#bytes = module;
  }

  /** The point of a number, as `frame` is told. */
  point(number: number): Point {
    let low = 0;
    let high = this.functions.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.functions[middle]?.firstPoint ?? 0) <= number) low = middle + 1;
      else high = middle;
    }
    const found = this.#pointsOf(low - 1)[number - (this.functions[low - 1]?.firstPoint ?? 0)];
    if (found === undefined) throw invalid(`no point ${number}`);
    return found;
  }

  /** By the index of the original function. */
  resumable(index: number): Resumable | undefined {
    return this.#byFunction.get(index);
  }

  /** The point at a place of the original module. */
  at(index: number, offset: number, stand: Stand): Point | undefined {
    const resumable = this.#byFunction.get(index);
    if (resumable === undefined) return undefined;
    // Offsets increase; there are at most two points at one.
    const points = this.#pointsOf(resumable.slot);
    let [low, high] = [0, points.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((points[middle]?.offset ?? 0) < offset) low = middle + 1;
      else high = middle;
    }
    return points.slice(low, low + AT_ONE_OFFSET).find((point) => point.offset === offset && point.stand === stand);
  }

  #pointsOf(slot: number): readonly Point[] {
    const known = this.#decoded.get(slot);
    const resumable = this.functions[slot];
    const range = this.#ranges[slot];
    if (known !== undefined || resumable === undefined || range === undefined) return known ?? [];
    const cursor = new Cursor(this.#bytes, range.start, range.end);
    const points: Point[] = [];
    let offset = 0;
    for (let ordinal = 1; ordinal <= resumable.pointCount; ordinal += 1) {
      const packed = cursor.u32();
      offset += Math.floor(packed / 2);
      const live = increasing(cursor);
      const operands = list(cursor, () => cursor.u32());
      if ((live.at(-1) ?? -1) >= resumable.locals.length || operands.some((temp) => temp >= resumable.temps.length))
        throw invalid('a point with a local that its function has not');
      points.push({ resumable, offset, stand: packed % 2 === 0 ? 'at' : 'in', ordinal, live, operands });
    }
    this.#decoded.set(slot, points);
    return points;
  }
}
