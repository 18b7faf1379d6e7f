/** In what two states of one module differ. */
import type { ComputeState } from '../engine/engine.ts';
import { canonicalBits, canonicalStack } from '../engine/hash.ts';
import { showValue } from '../engine/points/show.ts';
import { decodeStack, type Frame, type Stack, type Value } from '../engine/points/stack.ts';
import { numericGlobals } from '../engine/points/state.ts';
import type { Letter, PointTable } from '../engine/points/table.ts';
import { differentBytes, showBytes } from './memory.ts';

/** One thing that is not the same on both sides. Values are written with their types, e.g. `i32:-1`. */
export interface Difference {
  readonly kind:
    | 'local'
    | 'operand'
    | 'place'
    | 'depth'
    | 'global'
    | 'memory'
    | 'memory-size'
    | 'table'
    | 'table-size'
    | 'dropped-segments'
    | 'outcome'
    | 'call'
    | 'call-memory';
  /** Of a local, operand, global or table; of a memory but the first. */
  readonly index?: number;
  /** Of a local or operand: the function whose frame has it. */
  readonly function?: number;
  /** Of memory, in bytes. */
  readonly address?: number;
  /** Of a table. */
  readonly element?: number;
  readonly first: string;
  readonly second: string;
  /** Both are NaNs, whose bits WebAssembly leaves open to a degree: perhaps nobody is wrong. */
  readonly nan?: true;
}

export interface Comparison {
  readonly differences: readonly Difference[];
  /** NaNs of other bits count as equal in globals, locals and operands; true when there were some. */
  readonly nan: boolean;
}

type Pair<Item> = readonly [first: Item, second: Item];

const NOTHING = new Uint8Array(0);
const EQUAL: Comparison = { differences: [], nan: false };
const LETTER: Readonly<Record<string, Letter>> = { i32: 'i', i64: 'I', f32: 'f', f64: 'F' };

/** Compares two states; quick when they are equal. Throws KEDGE_FRAMES_CORRUPT. */
export function compareStates(table: PointTable, [a, b]: Pair<ComputeState>): Comparison {
  const globals = a.globals.every(({ bits }, n) => bits === b.globals[n]?.bits);
  const frames = Buffer.compare(a.frames.bytes, b.frames.bytes) === 0;
  const memories = [memoriesOf(a), memoriesOf(b)] as const;
  const memory = memories[0].every((one, n) => Buffer.compare(one, memories[1][n] ?? NOTHING) === 0);
  if (globals && frames && memory) return EQUAL;
  const differences = [
    ...(frames ? [] : compareStacks([stackOf(a), stackOf(b)])),
    ...(globals ? [] : compareGlobals(table, [a, b])),
    ...(memory ? [] : compareMemories(memories)),
  ];
  return { differences, nan: differences.length === 0 };
}

/** All linear memories of a guest. */
export function memoriesOf({ memory, otherMemories = [] }: ComputeState): readonly Uint8Array[] {
  return [memory, ...otherMemories];
}

/** Compares all memories of two guests of one module. */
export function compareMemories([a, b]: Pair<readonly Uint8Array[]>): readonly Difference[] {
  return a.flatMap((one, n) => compareMemory([one, b[n] ?? NOTHING], n));
}

/** `index` is theirs in the module. */
function compareMemory([a, b]: Pair<Uint8Array>, index: number): readonly Difference[] {
  const which = index === 0 ? {} : { index };
  if (a.length !== b.length) {
    return [
      { kind: 'memory-size', ...which, first: `${a.length / 65_536} pages`, second: `${b.length / 65_536} pages` },
    ];
  }
  return differentBytes(a, b).map(({ at, length, nan }) => ({
    kind: 'memory',
    ...which,
    address: at,
    first: showBytes(a, at, length),
    second: showBytes(b, at, length),
    ...(nan ? { nan } : {}),
  }));
}

function compareGlobals(table: PointTable, [a, b]: Pair<ComputeState>): readonly Difference[] {
  return numericGlobals(table).flatMap(({ index, type }, n) => {
    const [first, second] = [a.globals[n]?.bits ?? 0n, b.globals[n]?.bits ?? 0n];
    if (canonicalBits(type, first) === canonicalBits(type, second)) return [];
    const show = (bits: bigint): string => showValue({ type: LETTER[type] ?? 'i', bits });
    return [{ kind: 'global', index, first: show(first), second: show(second) } as const];
  });
}

/** The frames of a guest that has not begun are none. */
function stackOf({ frames }: ComputeState): Stack {
  if (frames.bytes.length > 0) return canonicalStack(decodeStack(frames.bytes));
  return { stage: 'start', frames: [], globals: [], tables: [], data: [], elements: [] };
}

function compareStacks([a, b]: Pair<Stack>): readonly Difference[] {
  const depth = { kind: 'depth', first: `${a.frames.length} frames`, second: `${b.frames.length} frames` } as const;
  const frames = a.frames.map((frame, n) => {
    const other = b.frames[n];
    return other === undefined ? [] : compareFrames([frame, other]);
  });
  return [
    ...(a.frames.length === b.frames.length ? [] : [depth]),
    // What stands innermost says most.
    ...frames.toReversed().flat(),
    ...compareReferences([a.globals, b.globals]),
    ...compareTables([a.tables, b.tables]),
    ...dropped('data', [a.data, b.data]),
    ...dropped('elements', [a.elements, b.elements]),
  ];
}

function compareFrames([a, b]: Pair<Frame>): readonly Difference[] {
  if (a.function !== b.function || a.offset !== b.offset || a.stand !== b.stand) {
    return [{ kind: 'place', first: showPlace(a), second: showPlace(b) }];
  }
  const locals = new Map(b.locals.map((local) => [local.index, local]));
  const different = (
    kind: 'local' | 'operand',
    index: number,
    [first, second]: Pair<Value | undefined>,
  ): readonly Difference[] =>
    first?.bits === second?.bits
      ? []
      : [{ kind, index, function: a.function, first: showMaybe(first), second: showMaybe(second) }];
  return [
    ...a.operands.flatMap((operand, n) => different('operand', n, [operand, b.operands[n]])),
    ...a.locals.flatMap((local) => different('local', local.index, [local, locals.get(local.index)])),
  ];
}

function showPlace({ function: index, offset }: Frame): string {
  return `function ${index} at 0x${offset.toString(16)}`;
}

function showMaybe(value: Value | undefined): string {
  return value === undefined ? '-' : showValue(value);
}

/** Globals that hold references or vectors. */
function compareReferences([a, b]: Pair<Stack['globals']>): readonly Difference[] {
  return a.flatMap(({ index, bits }, n) => {
    const other = b[n]?.bits ?? 0n;
    return bits === other
      ? []
      : [{ kind: 'global', index, first: `0x${bits.toString(16)}`, second: `0x${other.toString(16)}` } as const];
  });
}

function compareTables([a, b]: Pair<Stack['tables']>): readonly Difference[] {
  return a.flatMap(({ index, elements }, n): readonly Difference[] => {
    const others = b[n]?.elements ?? [];
    if (others.length !== elements.length) {
      const [first, second] = [`${elements.length} elements`, `${others.length} elements`];
      return [{ kind: 'table-size', index, first, second }];
    }
    const show = (value: number): string => showValue({ type: 'r', bits: BigInt(value) });
    return elements.flatMap((element, at): readonly Difference[] => {
      const other = others[at] ?? 0;
      return element === other
        ? []
        : [{ kind: 'table', index, element: at, first: show(element), second: show(other) }];
    });
  });
}

function dropped(what: string, [a, b]: Pair<readonly number[]>): readonly Difference[] {
  const [first, second] = [a, b].map((list) => `${what} ${list.join(', ') || 'none'}`);
  return first === second ? [] : [{ kind: 'dropped-segments', first: first ?? '', second: second ?? '' }];
}
