/**
 * The first half of the instrumentation, on the binary itself: polls at loop heads and in recursive functions, and the
 * exports by which an engine reaches what it has to capture.
 *
 * Nothing is renumbered: new types, functions and memories are appended, so every index in the guest's code stays right.
 * The poll function and the stop memory are appended as definitions for that reason; the second half (Binaryen) turns
 * them into imports. A poll is
 *
 *     (if (i32.atomic.load $stop (i32.const 0)) (then (call $poll)))
 *
 * with an atomic load, because a plain one may be hoisted out of a loop by any optimiser on the way, ours or the engine's.
 */
import { KedgeError } from '../../src/errors.ts';
import type { ValueType } from '../../src/engine/engine.ts';
import { type ModuleInfo, SECTION, unsupported } from '../../src/engine/wasm/module.ts';
import { Writer } from './writer.ts';
import { FRAME_PAGES, NAMES } from './names.ts';
import { recursiveFunctions, scanCode, type ScannedFunction } from './scan.ts';

const FUNCTION = 0;
const MEMORY = 2;
const END = 0x0b;
const CALL = 0x10;

/** Instructions that make an i64 of a value of the type, and back. */
const TO_BITS: Readonly<Record<ValueType, readonly number[]>> = {
  i32: [0xad], // i64.extend_i32_u
  i64: [],
  f32: [0xbc, 0xad], // i32.reinterpret_f32, i64.extend_i32_u
  f64: [0xbd], // i64.reinterpret_f64
};
const FROM_BITS: Readonly<Record<ValueType, readonly number[]>> = {
  i32: [0xa7], // i32.wrap_i64
  i64: [],
  f32: [0xa7, 0xbe], // i32.wrap_i64, f32.reinterpret_i32
  f64: [0xbf], // f64.reinterpret_i64
};

interface AddedFunction {
  readonly exportName: string;
  /** Index among the three appended types: () -> (), () -> i64, (i64) -> (). */
  readonly type: 0 | 1 | 2;
  readonly code: Uint8Array;
}

/** Types of the mutable globals, in order. Throws KEDGE_MODULE_UNSUPPORTED for one that cannot be captured. */
export function mutableGlobals(info: ModuleInfo): readonly { readonly index: number; readonly type: ValueType }[] {
  return info.globals.flatMap((global, index) => {
    if (!global.mutable) {
      return [];
    }
    if (global.type === 'v128' || global.type === 'reference') {
      throw unsupported(global.type === 'v128' ? 'mutable v128 globals' : 'reference values');
    }
    return [{ index, type: global.type }];
  });
}

/** Rewrites a validated module. */
export function rewriteModule(info: ModuleInfo): Uint8Array {
  const functions = scanCode(info);
  const added = addedFunctions(info);
  const firstAdded = info.functions.length;
  const memories = info.memories.length;
  const poll = pollCode(memories, firstAdded);
  const replaced = new Map<number, Uint8Array>();

  replaced.set(SECTION.type, append(info, SECTION.type, 3, [0x60, 0, 0, 0x60, 0, 1, 0x7e, 0x60, 1, 0x7e, 0]));
  const types = new Writer();
  for (const { type } of added) {
    types.u32(info.types.length + type);
  }
  replaced.set(SECTION.function, append(info, SECTION.function, added.length, [...types.view()]));
  const limits = new Writer().u8(3, 1, 1, 1).u32(FRAME_PAGES).u32(FRAME_PAGES);
  replaced.set(SECTION.memory, append(info, SECTION.memory, 2, [...limits.view()]));
  replaced.set(SECTION.export, exportSection(added, firstAdded, memories));
  replaced.set(SECTION.code, codeSection(info, functions, added, poll));
  return assemble(info, replaced);
}

/** Functions appended to the module, the poll function first. */
function addedFunctions(info: ModuleInfo): readonly AddedFunction[] {
  const entry = info.exports.find((item) => item.name === '_start' && item.kind === 'function');
  const type = info.types[info.functions[entry?.index ?? -1] ?? -1];
  if (entry === undefined || type === undefined || type.params.length + type.results.length > 0) {
    throw new KedgeError('KEDGE_MODULE_NO_START', 'the module exports no function _start without parameters', {
      hint: 'build a WASI command (with a main function), not a library or reactor',
    });
  }
  const main = new Writer();
  if (info.startFunction !== undefined) {
    main.u8(CALL).u32(info.startFunction);
  }
  main.u8(CALL).u32(entry.index);
  const added: AddedFunction[] = [{ exportName: NAMES.poll, type: 0, code: new Uint8Array(0) }];
  added.push({ exportName: NAMES.main, type: 0, code: main.view() });
  mutableGlobals(info).forEach((global, n) => {
    const get = new Writer()
      .u8(0x23)
      .u32(global.index)
      .u8(...TO_BITS[global.type]);
    const set = new Writer().u8(0x20, 0, ...FROM_BITS[global.type], 0x24).u32(global.index);
    added.push({ exportName: NAMES.getGlobal(n), type: 1, code: get.view() });
    added.push({ exportName: NAMES.setGlobal(n), type: 2, code: set.view() });
  });
  return added;
}

function pollCode(stopMemory: number, pollFunction: number): Uint8Array {
  return new Writer()
    .u8(0x41, 0) // i32.const 0
    .u8(0xfe, 0x10, 0x42) // i32.atomic.load, alignment 4, memory index follows
    .u32(stopMemory)
    .u8(0) // offset
    .u8(0x04, 0x40, CALL) // if, call
    .u32(pollFunction)
    .u8(END)
    .view();
}

function exportSection(added: readonly AddedFunction[], firstAdded: number, memories: number): Uint8Array {
  const entries: { name: string; kind: number; index: number }[] = added.map((item, i) => ({
    name: item.exportName,
    kind: FUNCTION,
    index: firstAdded + i,
  }));
  if (memories > 0) {
    entries.push({ name: NAMES.memory, kind: MEMORY, index: 0 });
  }
  entries.push({ name: NAMES.stop, kind: MEMORY, index: memories });
  entries.push({ name: NAMES.frames, kind: MEMORY, index: memories + 1 });
  const section = new Writer().u32(entries.length);
  for (const entry of entries) {
    section.name(entry.name).u8(entry.kind).u32(entry.index);
  }
  return section.view();
}

function codeSection(
  info: ModuleInfo,
  functions: readonly ScannedFunction[],
  added: readonly AddedFunction[],
  poll: Uint8Array,
): Uint8Array {
  const recursive = recursiveFunctions(info, functions);
  const section = new Writer(info.bytes.length).u32(functions.length + added.length);
  functions.forEach((scanned, index) => {
    const { start, end } = scanned.body;
    const places = recursive.has(index) ? [scanned.codeStart, ...scanned.loops] : scanned.loops;
    section.u32(end - start + places.length * poll.length);
    let from = start;
    for (const place of places) {
      section.raw(info.bytes.subarray(from, place)).raw(poll);
      from = place;
    }
    section.raw(info.bytes.subarray(from, end));
  });
  for (const { code } of added) {
    section
      .u32(code.length + 2)
      .u8(0)
      .raw(code)
      .u8(END);
  }
  return section.view();
}

/** A vector section with more entries at its end. */
function append(info: ModuleInfo, id: number, count: number, entries: readonly number[]): Uint8Array {
  const section = info.sections.find((item) => item.id === id);
  const writer = new Writer();
  if (section === undefined) {
    return writer
      .u32(count)
      .u8(...entries)
      .view();
  }
  let at = section.start;
  let old = 0;
  for (let shift = 0; ; shift += 7) {
    const byte = info.bytes[at] ?? 0;
    at += 1;
    old += (byte & 0x7f) * 2 ** shift;
    if (byte < 0x80) {
      break;
    }
  }
  return writer
    .u32(old + count)
    .raw(info.bytes.subarray(at, section.end))
    .u8(...entries)
    .view();
}

/** Sections in the order that the specification wants. Of the custom ones only the function names stay, for messages. */
const ORDER = [1, 2, 3, 4, 5, 6, 7, 9, 12, 10, 11] as const;

function assemble(info: ModuleInfo, replaced: ReadonlyMap<number, Uint8Array>): Uint8Array {
  const out = new Writer(info.bytes.length * 2).raw(info.bytes.subarray(0, 8));
  for (const id of ORDER) {
    const section = info.sections.find((item) => item.id === id);
    const payload = replaced.get(id) ?? (section && info.bytes.subarray(section.start, section.end));
    if (payload !== undefined) {
      out.u8(id).sized(payload);
    }
  }
  const names = info.sections.find((item) => item.id === SECTION.custom && item.name === 'name');
  if (names !== undefined) {
    out.u8(SECTION.custom).sized(info.bytes.subarray(names.start, names.end));
  }
  return out.view();
}
