/**
 * What an instrumented module says of itself, as far as benchmarks need it: the memories it imports, and its stable points.
 * `native/src/points/metadata.rs` describes the bytes of the section `kedge.points`.
 */
import { Cursor } from '../../src/engine/wasm/cursor.ts';

/** Types of values by their letters: i32, i64, f32, f64, v128, funcref, externref. */
export type Letter = 'i' | 'I' | 'f' | 'F' | 'v' | 'r' | 'e';

export type Point = {
  /** Place of its function's resume version in the private table. */
  readonly slot: number;
  readonly locals: readonly Letter[];
  readonly temps: readonly Letter[];
  /** What `entry` gives: its number within the function, from 1. */
  readonly ordinal: number;
  readonly live: readonly number[];
  readonly operands: readonly number[];
};

export type MemoryImport = {
  readonly module: string;
  readonly name: string;
  readonly initial: number;
  readonly maximum: number | undefined;
  readonly shared: boolean;
};

type Section = { readonly id: number; readonly cursor: Cursor };

const IMPORTS = 2;
const MEMORY = 2;

function sections(bytes: Uint8Array): readonly Section[] {
  const cursor = new Cursor(bytes, 8);
  const found: Section[] = [];
  while (!cursor.done) {
    const id = cursor.u8();
    const size = cursor.u32();
    found.push({ id, cursor: new Cursor(bytes, cursor.at, cursor.at + size) });
    cursor.skip(size);
  }
  return found;
}

function list<Item>(cursor: Cursor, read: () => Item): Item[] {
  return Array.from({ length: cursor.u32() }, read);
}

function increasing(cursor: Cursor): number[] {
  let last = 0;
  return list(cursor, () => (last += cursor.u32()));
}

function runs(cursor: Cursor): Letter[] {
  return list(cursor, () => {
    const count = cursor.u32();
    const letter = String.fromCharCode(cursor.u8()) as Letter;
    return Array.from({ length: count }, () => letter);
  }).flat();
}

/** The memories that a module imports. Only modules whose tables and globals are not imported can be read. */
export function memoryImports(bytes: Uint8Array): readonly MemoryImport[] {
  const cursor = sections(bytes).find(({ id }) => id === IMPORTS)?.cursor;
  if (cursor === undefined) return [];
  const all = list(cursor, (): MemoryImport | undefined => {
    const module = cursor.name();
    const name = cursor.name();
    const kind = cursor.u8();
    const first = cursor.u32();
    if (kind !== MEMORY) return undefined;
    const initial = cursor.u32();
    const maximum = (first & 1) === 0 ? undefined : cursor.u32();
    return { module, name, initial, maximum, shared: (first & 2) !== 0 };
  });
  return all.filter((entry) => entry !== undefined);
}

/** All stable points of a module by their numbers; none when it was not instrumented. */
export function pointsOf(bytes: Uint8Array): readonly Point[] {
  const cursor = sections(bytes).find(({ id, cursor: c }) => id === 0 && c.name() === 'kedge.points')?.cursor;
  if (cursor === undefined) return [];
  cursor.skip(2 + 32);
  const functions = list(cursor, () => {
    cursor.u32();
    const count = cursor.u32();
    cursor.u32();
    return { count, locals: runs(cursor), temps: runs(cursor) };
  });
  list(cursor, () => [cursor.u32(), cursor.u8()]);
  for (let vector = 0; vector < 4; vector += 1) list(cursor, () => cursor.u32());
  cursor.skip(1);
  return functions.flatMap(({ count, locals, temps }, slot) =>
    Array.from({ length: count }, (_, index) => {
      cursor.u32();
      return {
        slot,
        locals,
        temps,
        ordinal: index + 1,
        live: increasing(cursor),
        operands: list(cursor, () => cursor.u32()),
      };
    }),
  );
}
