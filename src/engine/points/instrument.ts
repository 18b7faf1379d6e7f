/**
 * Makes the form of a module that has stable points, for one kind of engine. Frames do not depend on the form: all forms of a
 * module, and all policies, understand each other's, as long as a form has the points at which the frames stand.
 */
import { createHash } from 'node:crypto';
import { LRUCache } from 'lru-cache';
import { KedgeError, isErrorCode } from '../../errors.ts';
import { native } from '../../native.ts';
import type { FlagKind, FunctionType, ImportedFunction, InstrumentedModule, Policy, ValueType } from '../engine.ts';
import { checkHeader, type ExternalKind, type ModuleInfo, parseModule, type WasmType } from '../wasm/module.ts';
import { decodeStack, ENCODING } from './stack.ts';
import { numericGlobals } from './state.ts';
import { PointTable } from './table.ts';

/** A place in the original module: function index and byte offset. */
export interface Place {
  readonly function: number;
  readonly offset: number;
}

/** The places at which a stopped guest stands, for `instrument`. Throws KEDGE_FRAMES_CORRUPT. */
export function placesOf(frames: Uint8Array): readonly Place[] {
  return frames.length === 0 ? [] : decodeStack(frames).frames;
}

/** Whether all frames of a stopped guest can be entered in this form of its module. Throws KEDGE_FRAMES_CORRUPT. */
export function hasPlaces(form: InstrumentedModule, frames: Uint8Array): boolean {
  if (frames.length === 0) return true;
  const table = new PointTable(form.bytes);
  return decodeStack(frames).frames.every(({ function: index, offset, stand }) => table.at(index, offset, stand));
}

/**
 * The form in which a stopped guest goes on: the usual one of the policy, unless that lacks a point at which the guest stands,
 * because it was stopped under another policy or by another version of the pass.
 */
export function instrumentFor(
  frames: Uint8Array,
  module: Uint8Array,
  policy: Policy,
  flag: FlagKind,
): InstrumentedModule {
  const form = instrument(module, policy, flag);
  return hasPlaces(form, frames) ? form : instrument(module, policy, flag, placesOf(frames));
}

const ENTRIES = 8;
const made = new LRUCache<string, InstrumentedModule>({ max: ENTRIES });

/**
 * Checks a module and instruments it. `entries` are places that must be possible to continue at, whatever the policy. The last few
 * results are kept.
 *
 * Throws KEDGE_MODULE_INVALID (not WebAssembly, truncated, not valid), KEDGE_MODULE_NO_START (no WASI command),
 * KEDGE_MODULE_UNSUPPORTED (the message names the feature and the byte offset), KEDGE_IMPORT_UNKNOWN (an import that is no
 * function).
 */
export function instrument(
  module: Uint8Array,
  policy: Policy,
  flag: FlagKind,
  entries: readonly Place[] = [],
): InstrumentedModule {
  const originalHash = sha256(module);
  const places = entries.flatMap(({ function: index, offset }) => [index, offset]);
  const key = [originalHash, policy, flag, ...places].join('-');
  const result = made.get(key) ?? make(module, policy, flag, places, originalHash);
  made.set(key, result);
  return result;
}

function make(
  module: Uint8Array,
  policy: Policy,
  flag: FlagKind,
  entries: readonly number[],
  originalHash: string,
): InstrumentedModule {
  checkHeader(module);
  const bytes = pass(module, policy, flag, entries);
  const info = parseModule(module);
  const imports = importedFunctions(info);
  const entry = info.exports.find((item) => item.name === '_start' && item.kind === 'function');
  const type = info.types[info.functions[entry?.index ?? -1] ?? -1];
  if (type === undefined || type.params.length + type.results.length > 0) {
    throw new KedgeError('KEDGE_MODULE_NO_START', 'the module exports no function _start without parameters', {
      hint: 'build a WASI command (with a main function), not a library or reactor',
    });
  }
  const globals = numericGlobals(new PointTable(bytes)).map((global) => global.type);
  return { bytes, encoding: ENCODING, policy, flag, originalHash, hash: sha256(bytes), imports, globals };
}

function pass(module: Uint8Array, policy: Policy, flag: FlagKind, entries: readonly number[]): Uint8Array {
  try {
    // Without a call that can suspend nor a poll, no function is touched.
    const options = policy === 'none' ? ({ policy: 'call', suspending: [] } as const) : { policy };
    return native.instrument(module, { ...options, flag, entries: [...entries] });
  } catch (cause) {
    if (!(cause instanceof Error && 'code' in cause)) throw cause;
    const code = String(cause.code);
    if (!isErrorCode(code)) throw cause;
    const hint = 'hint' in cause ? String(cause.hint) : undefined;
    throw new KedgeError(code, cause.message, { cause, ...(hint === undefined ? {} : { hint }) });
  }
}

/** What to do about an import that is no function. */
const INSTEAD: Readonly<Record<Exclude<ExternalKind, 'function'>, string>> = {
  memory: 'link it without --import-memory, so that it has and exports a memory of its own',
  table: 'link it without --import-table, so that it has a table of its own',
  global: 'link it as a program of its own, not as a shared library',
  tag: 'compile it without exception handling',
};

/** The function imports of a module. Throws KEDGE_IMPORT_UNKNOWN for imports of another kind. */
function importedFunctions(info: ModuleInfo): readonly ImportedFunction[] {
  return info.imports.map(({ module, name, kind, type, offset }) => {
    const place = `at byte 0x${offset.toString(16)}`;
    if (kind !== 'function') {
      throw new KedgeError('KEDGE_IMPORT_UNKNOWN', `the module imports the ${kind} ${module}.${name} (${place})`, {
        hint: `only functions of WASI can be imported: ${INSTEAD[kind]}`,
      });
    }
    const found = info.types[type];
    if (found === undefined) {
      throw new KedgeError('KEDGE_MODULE_INVALID', `the import ${module}.${name} has no type`);
    }
    return { module, name, type: functionType(found, `${module}.${name}`, place) };
  });
}

function functionType(
  type: { readonly params: readonly WasmType[]; readonly results: readonly WasmType[] },
  name: string,
  place: string,
): FunctionType {
  const numeric = (list: readonly WasmType[]): readonly ValueType[] =>
    list.map((item) => {
      if (item === 'v128') {
        throw new KedgeError(
          'KEDGE_IMPORT_TYPE',
          `the import ${name} has a parameter or result of type v128 (${place})`,
          { hint: 'host functions take and give numbers: pass vectors through memory' },
        );
      }
      if (item === 'reference') {
        throw new KedgeError(
          'KEDGE_MODULE_UNSUPPORTED',
          `the module uses references that the host would get (${place}, in the import ${name})`,
          { hint: 'host functions take and give numbers: pass the index of a table instead' },
        );
      }
      return item;
    });
  return { params: numeric(type.params), results: numeric(type.results) };
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
