/**
 * Holds frames that come from outside against the module they are of, before any of them is entered: what a guest cannot have been
 * stopped at is refused at a restore, and not found out when the guest has been handed over.
 */
import { KedgeError } from '../../errors.ts';
import type { CallState, ImportedFunction, InstrumentedModule, ValueType } from '../engine.ts';
import { canonicalBits } from '../hash.ts';
import { Cursor } from '../wasm/cursor.ts';
import type { ModuleInfo } from '../wasm/module.ts';
import { OP } from '../wasm/opcodes.ts';
import { corrupt, type Frame, type Stack, type Value } from './stack.ts';
import type { Letter, Point, PointTable, Resumable } from './table.ts';

/**
 * What a restored frame takes at most on any engine, and each of its locals and operands: more than was measured, so that what is taken
 * in can go on. (V8's compiler and WAMR's decide, from 80 bytes a frame and 8 a value upwards.)
 */
const FRAME_BYTES = 256;
const VALUE_BYTES = 12;
const VECTOR_BYTES = 20;

/** How many results each function of the original module has, by its index. `info` is the instrumented form's. */
export function resultCounts({ imports, functions, types }: ModuleInfo): Uint16Array {
  const own = imports.filter(({ kind, module }) => kind === 'function' && module === 'kedge').length;
  const before = imports.filter(({ kind }) => kind === 'function').length - own;
  const count = (type: number): number => types[type]?.results.length ?? 0;
  // Behind the original's imports stand those of the pass and its function that asks whether to stop; without them there are no frames.
  return Uint16Array.from([...functions.slice(0, before), ...functions.slice(before + own + 1)], count);
}

/** What a guest is made of, beside its machine. */
export interface PointsModule {
  readonly module: InstrumentedModule;
  readonly table: PointTable;
  /** From `resultCounts`. */
  readonly results: Uint16Array;
}

export interface Room {
  /** Room for its frames. */
  readonly stackBytes: number;
  /** The original module, whose calls the frames must follow; without it that is seen when they enter. */
  readonly original: ModuleInfo | undefined;
}

/**
 * Throws KEDGE_FRAMES_CORRUPT for what is no stack of the module, and KEDGE_STACK_TOO_DEEP for one that has no room. `call` is the host
 * call that the guest stands in.
 */
export function checkStack(stack: Stack, call: CallState | undefined, of: PointsModule, room: Room): void {
  const { module, table, results } = of;
  const { stackBytes, original } = room;
  const { stage, frames } = stack;
  const [outermost, innermost] = [frames[0], frames.at(-1)];
  if (outermost === undefined || innermost === undefined) throw corrupt('there is none');
  if (stage === 'start' && !table.hasStart) throw corrupt('there is no start function');
  const points = frames.map((frame) => pointOf(frame, frame === innermost, table));
  if ((results[outermost.function] ?? 0) > 0)
    throw corrupt('the outermost is of a function that is never called first');
  checkRoom(points, stackBytes);
  const referenced = new Set(table.referenced);
  frames.forEach((frame, n) => checkValues(frame, points[n], referenced));
  checkArguments(innermost, call, module);
  if (original !== undefined) checkCalls(frames, call, original);
  checkOthers(stack, table);
}

function pointOf({ function: index, offset, stand }: Frame, innermost: boolean, table: PointTable): Point {
  if (stand !== (innermost ? 'at' : 'in')) throw corrupt('they are in no order that code can have');
  const point = table.at(index, offset, stand);
  if (point === undefined) throw corrupt(`function ${index} has no point at ${offset}`);
  return point;
}

const sizes = new WeakMap<Resumable, number>();

/** Of a function that many frames may be of. */
function frameBytes(resumable: Resumable): number {
  const known = sizes.get(resumable);
  if (known !== undefined) return known;
  const values = [...resumable.locals.each, ...resumable.temps.each];
  const bytes = values.reduce((sum, type) => sum + (type === 'v' ? VECTOR_BYTES : VALUE_BYTES), FRAME_BYTES);
  sizes.set(resumable, bytes);
  return bytes;
}

function checkRoom(points: readonly Point[], stackBytes: number): void {
  const need = points.reduce((sum, { resumable }) => sum + frameBytes(resumable), 0);
  if (need <= stackBytes) return;
  const [has, wants] = [stackBytes, need].map((bytes) => `${(bytes / 2 ** 20).toFixed(1)} MiB`);
  throw new KedgeError(
    'KEDGE_STACK_TOO_DEEP',
    `the guest's stack of ${points.length} frames may take ${wants}, and there are ${has} for it here`,
    { hint: 'try again when the guest recurses less deeply, or choose another engine' },
  );
}

/**
 * Every value that matters at the point, and each of its own type. Locals that do not matter may be there, for another version of the
 * pass may see less of that.
 */
function checkValues(frame: Frame, point: Point | undefined, referenced: ReadonlySet<number>): void {
  if (point === undefined) return;
  const { resumable, live, operands } = point;
  const mustBe = (type: Letter | undefined, value: Value | undefined, what: string): void => {
    if (value === undefined || type === undefined || value.type !== type)
      throw corrupt(`function ${frame.function} at ${frame.offset} has not the ${what} it goes on with`);
    if (type === 'r' && value.bits !== 0n && !referenced.has(Number(value.bits) - 1))
      throw corrupt('a reference to a function that cannot be referred to');
  };
  let last = -1;
  for (const local of frame.locals) {
    if (local.index <= last) throw corrupt(`function ${frame.function} has local ${local.index} twice`);
    last = local.index;
    mustBe(resumable.locals.each[local.index], local, 'locals');
  }
  const there = new Set(frame.locals.map(({ index }) => index));
  if (!live.every((index) => there.has(index))) mustBe(undefined, undefined, 'locals');
  if (frame.operands.length !== operands.length) mustBe(undefined, undefined, 'operands');
  operands.forEach((temp, n) => mustBe(resumable.temps.each[temp], frame.operands[n], 'operands'));
}

/**
 * Each frame returns what its outer frame's call gives. That is all there is to see: what is called may have called another as a tail.
 * A host call that was recorded is the one at which the innermost stands.
 */
function checkCalls(frames: readonly Frame[], call: CallState | undefined, original: ModuleInfo): void {
  const types = original.types;
  const resultsOf = (type: number | undefined): string => types[type ?? -1]?.results.join() ?? 'nothing that is known';
  frames.forEach((frame, n) => {
    const inner = frames[n + 1];
    if (inner === undefined) return;
    const { callee, type } = callAt(frame, original);
    const wanted = resultsOf(callee === undefined ? type : original.functions[callee]);
    if (resultsOf(original.functions[inner.function]) !== wanted)
      throw corrupt(`function ${frame.function} at ${frame.offset} does not call function ${inner.function}`);
  });
  const innermost = frames.at(-1);
  if (call === undefined || innermost === undefined || innermost.function < original.importedFunctions) return;
  const functions = original.imports.filter(({ kind }) => kind === 'function');
  const called = functions[callAt(innermost, original).callee ?? -1];
  if (called?.module !== call.module || called.name !== call.name)
    throw corrupt(`function ${innermost.function} at ${innermost.offset} does not call ${call.module}.${call.name}`);
}

/** The call instruction at which a frame stands: of a function, or through a table, of a type. */
function callAt({ offset }: Frame, { bytes }: ModuleInfo): { readonly callee?: number; readonly type?: number } {
  const cursor = new Cursor(bytes, offset);
  const op = cursor.u8();
  if (op === OP.call) return { callee: cursor.u32() };
  return op === OP.callIndirect ? { type: cursor.u32() } : {};
}

/**
 * A call that is issued again has the arguments that are on the stack: as operands of its caller, or in a frame of its own, where an
 * import was called by reference or as a tail.
 */
function checkArguments(innermost: Frame, call: CallState | undefined, { imports }: InstrumentedModule): void {
  const own = imports[innermost.function];
  if (call === undefined) {
    // The caller's frame is also that of a guest which has not called yet.
    if (own !== undefined) throw corrupt(`they lead to ${own.module}.${own.name}, and no call was recorded`);
    return;
  }
  // A module may import one function several times.
  const isCalled = ({ module, name }: ImportedFunction): boolean => module === call.module && name === call.name;
  const called = own ?? imports.find(isCalled);
  if (called === undefined || !isCalled(called))
    throw corrupt(`they cannot stand in a call of ${call.module}.${call.name}`);
  const { params } = called.type;
  const operands =
    own === undefined
      ? innermost.operands.slice(Math.max(0, innermost.operands.length - params.length))
      : innermost.locals;
  const bits = operands.map((value) => value.bits);
  if (operands.some(({ type }, n) => NUMBERS[params[n] ?? 'i32'] !== type) || !sameValues(params, call.args, bits))
    throw corrupt(`they call ${call.module}.${call.name} with other arguments than were recorded`);
}

const NUMBERS: Readonly<Record<ValueType, Letter>> = { i32: 'i', i64: 'I', f32: 'f', f64: 'F' };

/** Whether two lists of bits are as many as the types, and equal. An engine may change a NaN on its way to the host. */
export function sameValues(types: readonly ValueType[], a: readonly bigint[], b: readonly bigint[]): boolean {
  const same = (type: ValueType, n: number): boolean =>
    canonicalBits(type, a[n] ?? 0n) === canonicalBits(type, b[n] ?? 0n);
  return a.length === types.length && b.length === types.length && types.every(same);
}

/** What changes in this module, all of it and nothing else. */
function checkOthers({ globals, tables, data, elements }: Stack, table: PointTable): void {
  const beyondNumbers = table.globals.filter(({ type }) => type === 'r' || type === 'v');
  mustEqual(globals, beyondNumbers, 'globals');
  mustEqual(
    tables,
    table.tables.map((index) => ({ index })),
    'tables',
  );
  mustBeAmong(data, table.data, 'data segments');
  mustBeAmong(elements, table.elements, 'element segments');
}

type Indexed = readonly { readonly index: number }[];

function mustEqual(has: Indexed, wants: Indexed, what: string): void {
  if (has.length !== wants.length || has.some(({ index }, n) => index !== wants[n]?.index))
    throw corrupt(`they have other ${what} than change in this module`);
}

function mustBeAmong(has: readonly number[], wants: readonly number[], what: string): void {
  const known = new Set(wants);
  if (has.some((index, n) => !known.has(index) || index <= (has[n - 1] ?? -1)))
    throw corrupt(`they have other ${what} than change in this module`);
}
