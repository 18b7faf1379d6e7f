import { KedgeError } from '../../errors.ts';
import { Cursor } from './cursor.ts';
import { OP } from './opcodes.ts';

/** A value type of the language; all references are one. */
export type WasmType = 'i32' | 'i64' | 'f32' | 'f64' | 'v128' | 'reference';

export interface WasmFunctionType {
  readonly params: readonly WasmType[];
  readonly results: readonly WasmType[];
}

/** A half-open range of byte offsets in the module. */
export interface Range {
  readonly start: number;
  readonly end: number;
}

export interface Section extends Range {
  readonly id: number;
  /** Of custom sections only. */
  readonly name: string;
}

export type ExternalKind = 'function' | 'table' | 'memory' | 'global' | 'tag';

export interface ImportEntry {
  readonly module: string;
  readonly name: string;
  readonly kind: ExternalKind;
  /** Index into the types, of functions only (otherwise 0). */
  readonly type: number;
  /** Of memories only. */
  readonly memory: MemoryEntry | undefined;
  /** Where it is in the module. */
  readonly offset: number;
}

export interface ExportEntry {
  readonly name: string;
  readonly kind: ExternalKind;
  readonly index: number;
}

export interface GlobalEntry {
  readonly type: WasmType;
  readonly mutable: boolean;
  readonly init: Range;
}

export interface MemoryEntry {
  /** In pages of 64 KiB. */
  readonly initial: number;
  readonly maximum: number | undefined;
  readonly shared: boolean;
}

export interface DataSegment extends Range {
  /** Index of the memory that an active segment goes to. */
  readonly memory: number;
  /** The constant expression of an active segment's address; undefined for a passive one. */
  readonly offset: Range | undefined;
}

/** What Kedge needs to know of a module. `start` and `end` of sections are those of their payload. */
export interface ModuleInfo {
  readonly bytes: Uint8Array;
  readonly sections: readonly Section[];
  readonly types: readonly WasmFunctionType[];
  readonly imports: readonly ImportEntry[];
  /** Type index of every function, imported ones first. */
  readonly functions: readonly number[];
  readonly importedFunctions: number;
  /** Those that the module defines. */
  readonly memories: readonly MemoryEntry[];
  readonly globals: readonly GlobalEntry[];
  readonly exports: readonly ExportEntry[];
  readonly startFunction: number | undefined;
  /** Functions that element segments put into tables, and so may be called indirectly. */
  readonly addressTaken: ReadonlySet<number>;
  /** Bodies of the defined functions (locals and code, without the size). */
  readonly bodies: readonly Range[];
  readonly data: readonly DataSegment[];
}

export const SECTION = {
  custom: 0,
  type: 1,
  import: 2,
  function: 3,
  memory: 5,
  global: 6,
  export: 7,
  start: 8,
  element: 9,
  code: 10,
  data: 11,
} as const;

const KINDS: readonly ExternalKind[] = ['function', 'table', 'memory', 'global', 'tag'];
const HEADER = [0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00];

/** The error for a module that is valid but that this version cannot stop and carry. */
export function unsupported(feature: string): KedgeError {
  return new KedgeError('KEDGE_MODULE_UNSUPPORTED', `the module uses ${feature}, which cannot be captured`, {
    hint: 'compile it without this feature, e.g. with clang --target=wasm32-wasi and no -m options',
  });
}

/**
 * Decodes the structure of a core module. Throws KEDGE_MODULE_INVALID for what is no module or a truncated one, and
 * KEDGE_MODULE_UNSUPPORTED for features that cannot be captured. It does not validate: engines do.
 */
export function parseModule(bytes: Uint8Array): ModuleInfo {
  return new ModuleParser(bytes).parse();
}

/** Index of the memory that host functions read and write: the one that is exported as `memory`, or else the first. */
export function hostMemory({ exports }: ModuleInfo): number {
  return exports.find(({ name, kind }) => name === 'memory' && kind === 'memory')?.index ?? 0;
}

/** Throws KEDGE_MODULE_INVALID for what is no WebAssembly at all, or of another kind. */
export function checkHeader(bytes: Uint8Array): void {
  const header = bytes.subarray(0, 8);
  if (header.length < 8 || HEADER.some((byte, i) => header[i] !== byte)) {
    const component = HEADER.slice(0, 4).every((byte, i) => header[i] === byte) && header.length === 8;
    throw new KedgeError(
      'KEDGE_MODULE_INVALID',
      component ? 'this is not a core WebAssembly module of version 1' : 'this is not a WebAssembly module',
    );
  }
}

class ModuleParser {
  readonly #bytes: Uint8Array;
  readonly #sections: Section[] = [];
  readonly #types: WasmFunctionType[] = [];
  readonly #imports: ImportEntry[] = [];
  readonly #functions: number[] = [];
  readonly #memories: MemoryEntry[] = [];
  readonly #globals: GlobalEntry[] = [];
  readonly #exports: ExportEntry[] = [];
  readonly #addressTaken = new Set<number>();
  readonly #bodies: Range[] = [];
  readonly #data: DataSegment[] = [];
  #startFunction: number | undefined;
  #importedFunctions = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  parse(): ModuleInfo {
    const cursor = new Cursor(this.#bytes);
    checkHeader(this.#bytes);
    cursor.skip(8);
    while (!cursor.done) {
      const id = cursor.u8();
      const size = cursor.u32();
      const start = cursor.at;
      cursor.skip(size);
      this.#section(id, new Cursor(this.#bytes, start, cursor.at));
    }
    return {
      bytes: this.#bytes,
      sections: this.#sections,
      types: this.#types,
      imports: this.#imports,
      functions: this.#functions,
      importedFunctions: this.#importedFunctions,
      memories: this.#memories,
      globals: this.#globals,
      exports: this.#exports,
      startFunction: this.#startFunction,
      addressTaken: this.#addressTaken,
      bodies: this.#bodies,
      data: this.#data,
    };
  }

  #section(id: number, cursor: Cursor): void {
    const range = { start: cursor.at, end: cursor.end };
    this.#sections.push({ id, ...range, name: id === SECTION.custom ? cursor.name() : '' });
    switch (id) {
      case SECTION.type:
        return this.#each(cursor, () => this.#types.push(functionType(cursor)));
      case SECTION.import:
        return this.#each(cursor, () => this.#import(cursor));
      case SECTION.function:
        return this.#each(cursor, () => this.#functions.push(cursor.u32()));
      case SECTION.memory:
        return this.#each(cursor, () => this.#memories.push(limits(cursor)));
      case SECTION.global:
        return this.#each(cursor, () => this.#globals.push(globalEntry(cursor)));
      case SECTION.export:
        return this.#each(cursor, () => this.#export(cursor));
      case SECTION.start:
        this.#startFunction = cursor.u32();
        return;
      case SECTION.element:
        return this.#each(cursor, () => this.#element(cursor));
      case SECTION.code:
        return this.#each(cursor, () => {
          const size = cursor.u32();
          const start = cursor.at;
          cursor.skip(size);
          this.#bodies.push({ start, end: cursor.at });
        });
      case SECTION.data:
        return this.#each(cursor, () => this.#segment(cursor));
      case 13:
        throw unsupported('exception handling');
      default:
    }
  }

  #each(cursor: Cursor, read: () => unknown): void {
    for (let left = cursor.u32(); left > 0; left -= 1) {
      read();
    }
  }

  #import(cursor: Cursor): void {
    const offset = cursor.at;
    const module = cursor.name();
    const name = cursor.name();
    const kind = externalKind(cursor);
    let type = 0;
    let memory: MemoryEntry | undefined;
    if (kind === 'function') {
      type = cursor.u32();
      this.#functions.push(type);
      this.#importedFunctions += 1;
    } else if (kind === 'table') {
      cursor.skipLeb();
      limits(cursor);
    } else if (kind === 'memory') {
      memory = limits(cursor);
    } else if (kind === 'global') {
      valueType(cursor);
      cursor.u8();
    } else {
      throw unsupported('exception handling');
    }
    this.#imports.push({ module, name, kind, type, memory, offset });
  }

  #export(cursor: Cursor): void {
    const name = cursor.name();
    const kind = externalKind(cursor);
    this.#exports.push({ name, kind, index: cursor.u32() });
  }

  #element(cursor: Cursor): void {
    const flags = cursor.u32();
    if ((flags & 1) === 0) {
      if ((flags & 2) !== 0) {
        cursor.skipLeb(); // table index
      }
      skipExpression(cursor);
    }
    if ((flags & 3) !== 0) {
      cursor.skipLeb(); // kind or type
    }
    this.#each(cursor, () => {
      if ((flags & 4) === 0) {
        this.#addressTaken.add(cursor.u32());
      } else {
        const op = cursor.u8();
        const operand = cursor.u32();
        if (op === 0xd2) {
          this.#addressTaken.add(operand);
        }
        cursor.u8(); // end
      }
    });
  }

  #segment(cursor: Cursor): void {
    const flags = cursor.u32();
    const memory = flags === 2 ? cursor.u32() : 0;
    const from = cursor.at;
    if (flags !== 1) {
      skipExpression(cursor);
    }
    const offset = flags === 1 ? undefined : { start: from, end: cursor.at };
    const size = cursor.u32();
    const start = cursor.at;
    cursor.skip(size);
    this.#data.push({ memory, offset, start, end: cursor.at });
  }
}

function functionType(cursor: Cursor): WasmFunctionType {
  if (cursor.u8() !== 0x60) {
    throw unsupported('garbage collection');
  }
  return { params: valueTypes(cursor), results: valueTypes(cursor) };
}

function valueTypes(cursor: Cursor): readonly WasmType[] {
  return Array.from({ length: cursor.u32() }, () => valueType(cursor));
}

/** Reads one value type. */
export function valueType(cursor: Cursor): WasmType {
  const byte = cursor.u8();
  switch (byte) {
    case 0x7f:
      return 'i32';
    case 0x7e:
      return 'i64';
    case 0x7d:
      return 'f32';
    case 0x7c:
      return 'f64';
    case 0x7b:
      return 'v128';
    case 0x63:
    case 0x64:
      cursor.skipLeb();
      return 'reference';
    default:
      return 'reference';
  }
}

function externalKind(cursor: Cursor): ExternalKind {
  const kind = KINDS[cursor.u8()];
  if (kind === undefined) {
    throw cursor.fail('an unknown kind of import or export');
  }
  return kind;
}

/** Of a memory or a table. */
function limits(cursor: Cursor): MemoryEntry {
  const flags = cursor.u8();
  if ((flags & 4) !== 0) {
    throw unsupported('memory64');
  }
  const initial = cursor.u32();
  const maximum = (flags & 1) === 0 ? undefined : cursor.u32();
  return { initial, maximum, shared: (flags & 2) !== 0 };
}

function globalEntry(cursor: Cursor): GlobalEntry {
  const type = valueType(cursor);
  const mutable = cursor.u8() === 1;
  const start = cursor.at;
  skipExpression(cursor);
  return { type, mutable, init: { start, end: cursor.at } };
}

/** Passes over a constant expression and its `end`. */
function skipExpression(cursor: Cursor): void {
  for (;;) {
    const op = cursor.u8();
    if (op === OP.end) {
      return;
    }
    if (op === 0x43) {
      cursor.skip(4);
    } else if (op === 0x44) {
      cursor.skip(8);
    } else if (op === 0xfd) {
      cursor.skipLeb();
      cursor.skip(16); // v128.const
    } else if (op === 0xfb) {
      throw unsupported('garbage collection');
    } else if (op === OP.i32Const || op === OP.i64Const || op === OP.globalGet || op === 0xd2 || op === 0xd0) {
      cursor.skipLeb();
    }
  }
}
