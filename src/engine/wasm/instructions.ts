/** Instructions in words, for people who look at one. */
import { Cursor } from './cursor.ts';

const INTEGER_COMPARISONS = 'eqz eq ne lt_s lt_u gt_s gt_u le_s le_u ge_s ge_u';
const FLOAT_COMPARISONS = 'eq ne lt gt le ge';
const INTEGERS = 'clz ctz popcnt add sub mul div_s div_u rem_s rem_u and or xor shl shr_s shr_u rotl rotr';
const FLOATS = 'abs neg ceil floor trunc nearest sqrt add sub mul div min max copysign';

/** Runs of opcodes: the first, what all names begin with, and the rest of each. */
const RUNS: readonly (readonly [first: number, prefix: string, names: string])[] = [
  [0x00, '', 'unreachable nop block loop if else'],
  [0x0b, '', 'end br br_if br_table return call call_indirect return_call return_call_indirect'],
  [0x1a, '', 'drop select select'],
  [0x20, 'local.', 'get set tee'],
  [0x23, 'global.', 'get set'],
  [0x25, 'table.', 'get set'],
  [0x28, '', 'i32.load i64.load f32.load f64.load i32.load8_s i32.load8_u i32.load16_s i32.load16_u'],
  [0x30, 'i64.', 'load8_s load8_u load16_s load16_u load32_s load32_u'],
  [0x36, '', 'i32.store i64.store f32.store f64.store i32.store8 i32.store16 i64.store8 i64.store16 i64.store32'],
  [0x3f, 'memory.', 'size grow'],
  [0x41, '', 'i32.const i64.const f32.const f64.const'],
  [0x45, 'i32.', INTEGER_COMPARISONS],
  [0x50, 'i64.', INTEGER_COMPARISONS],
  [0x5b, 'f32.', FLOAT_COMPARISONS],
  [0x61, 'f64.', FLOAT_COMPARISONS],
  [0x67, 'i32.', INTEGERS],
  [0x79, 'i64.', INTEGERS],
  [0x8b, 'f32.', FLOATS],
  [0x99, 'f64.', FLOATS],
  [0xa7, 'i32.', 'wrap_i64 trunc_f32_s trunc_f32_u trunc_f64_s trunc_f64_u'],
  [0xac, 'i64.', 'extend_i32_s extend_i32_u trunc_f32_s trunc_f32_u trunc_f64_s trunc_f64_u'],
  [0xb2, 'f32.', 'convert_i32_s convert_i32_u convert_i64_s convert_i64_u demote_f64'],
  [0xb7, 'f64.', 'convert_i32_s convert_i32_u convert_i64_s convert_i64_u promote_f32'],
  [0xbc, '', 'i32.reinterpret_f32 i64.reinterpret_f64 f32.reinterpret_i32 f64.reinterpret_i64'],
  [0xc0, '', 'i32.extend8_s i32.extend16_s i64.extend8_s i64.extend16_s i64.extend32_s'],
  [0xd0, 'ref.', 'null is_null func'],
];

const PREFIXED: readonly string[] = [
  ...'i32.trunc_sat_f32_s i32.trunc_sat_f32_u i32.trunc_sat_f64_s i32.trunc_sat_f64_u'.split(' '),
  ...'i64.trunc_sat_f32_s i64.trunc_sat_f32_u i64.trunc_sat_f64_s i64.trunc_sat_f64_u'.split(' '),
  ...'memory.init data.drop memory.copy memory.fill table.init elem.drop table.copy table.grow table.size table.fill'.split(
    ' ',
  ),
];

const NAMES: ReadonlyMap<number, string> = new Map(
  RUNS.flatMap(([first, prefix, names]) => names.split(' ').map((name, n) => [first + n, prefix + name] as const)),
);

const MISCELLANEOUS = 0xfc;
const VECTOR = 0xfd;
/** One index behind the opcode: of a label, function, local, global or table. */
const INDEXED = /^(br|br_if|call|return_call|ref\.func|(local|global)\..*|table\.(get|set))$/u;

/** In a memory argument's first number. */
const OTHER_MEMORY = 0x40;

/**
 * The instruction at a byte offset of a module with its immediates, e.g. `i32.load offset=8`; a function that it names is
 * called by its name, too. What is no instruction known here is shown by its first bytes.
 */
export function describeInstruction(
  module: Uint8Array,
  offset: number,
  names: ReadonlyMap<number, string> = new Map(),
): string {
  try {
    return describe(new Cursor(module, offset), names);
  } catch {
    return 'no instruction';
  }
}

function describe(cursor: Cursor, names: ReadonlyMap<number, string>): string {
  const opcode = cursor.u8();
  if (opcode === VECTOR) return `0xfd 0x${cursor.u32().toString(16)}`;
  if (opcode === MISCELLANEOUS) {
    const number = cursor.u32();
    return PREFIXED[number] ?? `0xfc 0x${number.toString(16)}`;
  }
  const name = NAMES.get(opcode);
  if (name === undefined) return `0x${opcode.toString(16).padStart(2, '0')}`;
  if (INDEXED.test(name)) {
    const index = cursor.u32();
    const called = /call|func/u.test(name) ? names.get(index) : undefined;
    return called === undefined ? `${name} ${index}` : `${name} ${index} (${called})`;
  }
  if (name === 'call_indirect' || name === 'return_call_indirect') return `${name} type ${cursor.u32()}`;
  if (/\.(load|store)/u.test(name)) {
    // The alignment, and whether the index of a memory follows.
    const memory = (cursor.u32() & OTHER_MEMORY) === 0 ? 0 : cursor.u32();
    const at = cursor.u32();
    return `${name}${memory === 0 ? '' : ` ${memory}`}${at === 0 ? '' : ` offset=${at}`}`;
  }
  return name.endsWith('.const') ? `${name} ${constant(cursor, opcode)}` : name;
}

function constant(cursor: Cursor, opcode: number): string {
  if (opcode === 0x41 || opcode === 0x42) return String(cursor.s64());
  const view = new DataView(cursor.bytes.buffer, cursor.bytes.byteOffset + cursor.at);
  const value = opcode === 0x43 ? view.getFloat32(0, true) : view.getFloat64(0, true);
  return Object.is(value, -0) ? '-0' : String(value);
}
