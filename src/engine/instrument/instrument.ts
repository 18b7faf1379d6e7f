/**
 * Makes the form of a module that an engine can stop, capture and continue.
 *
 * Theory of operation: polls go to every loop head and to one function of every cycle of the call graph (`rewrite.ts`),
 * then Asyncify makes every function that can be on the stack at a poll or a host call able to leave and to come back
 * (`asyncify.ts`). The same module, policy and revision give the same bytes on every machine, so frames taken on one
 * host fit the form made on another.
 *
 * Limits: Asyncify costs about half of the speed; frames fit only the form that made them, so hosts must run the same
 * revision. Refused by name are the features that this encoding cannot hold: tables changed at run time, references,
 * exceptions, tail calls, threads, several memories, memory64, garbage collection, data.drop.
 */
import { createHash } from 'node:crypto';
import { KedgeError } from '../../errors.ts';
import type { FunctionType, InstrumentedModule, Policy, ValueType } from '../engine.ts';
import { type ModuleInfo, parseModule, unsupported, type WasmType } from '../wasm/module.ts';
import { asyncify } from './asyncify.ts';
import { readCached, writeCached } from './cache.ts';
import { ENCODING, INSTRUMENT_REVISION } from './names.ts';
import { mutableGlobals, rewriteModule } from './rewrite.ts';

export interface InstrumentOptions {
  /** A directory for results, shared by processes of one user; made when missing. Without it nothing is kept on disk. */
  readonly cacheDirectory?: string;
}

const MEMORY_ENTRIES = 8;
const memory = new Map<string, Promise<InstrumentedModule>>();

/**
 * Checks a module and instruments it. Results are kept by hash and policy, a few in memory and optionally on disk.
 *
 * Throws KEDGE_MODULE_INVALID (not WebAssembly, truncated, not valid), KEDGE_MODULE_NO_START (no WASI command),
 * KEDGE_MODULE_UNSUPPORTED (a feature that cannot be captured, by name), KEDGE_IMPORT_UNKNOWN (an import that is no
 * function).
 */
export function instrument(
  module: Uint8Array,
  policy: Policy,
  options: InstrumentOptions = {},
): Promise<InstrumentedModule> {
  const originalHash = sha256(module);
  const key = `${originalHash}-${policy}-${INSTRUMENT_REVISION}`;
  const known = memory.get(key);
  if (known !== undefined) {
    return known;
  }
  const made = make(module, policy, originalHash, key, options);
  memory.set(key, made);
  for (const oldest of memory.keys()) {
    if (memory.size > MEMORY_ENTRIES) {
      memory.delete(oldest);
    }
  }
  made.catch(() => memory.delete(key));
  return made;
}

async function make(
  module: Uint8Array,
  policy: Policy,
  originalHash: string,
  key: string,
  options: InstrumentOptions,
): Promise<InstrumentedModule> {
  const info = parseModule(module);
  const imports = importedFunctions(info);
  if (!WebAssembly.validate(module)) {
    throw new KedgeError('KEDGE_MODULE_INVALID', `the module is not valid WebAssembly: ${whyInvalid(module)}`);
  }
  const globals = mutableGlobals(info).map((global) => global.type);
  const bytes = await instrumentBytes(info, policy, key, options.cacheDirectory);
  return { bytes, encoding: ENCODING, policy, originalHash, hash: sha256(bytes), imports, globals };
}

async function instrumentBytes(
  info: ModuleInfo,
  policy: Policy,
  key: string,
  directory: string | undefined,
): Promise<Uint8Array> {
  const cached = directory === undefined ? undefined : await readCached(directory, key);
  if (cached !== undefined) {
    return cached;
  }
  const rewritten = rewriteModule(info, policy !== 'none');
  const bytes = policy === 'none' ? rewritten : await asyncify(rewritten);
  if (directory !== undefined) {
    await writeCached(directory, key, bytes);
  }
  return bytes;
}

function importedFunctions(info: ModuleInfo): InstrumentedModule['imports'] {
  return info.imports.map(({ module, name, kind, type }) => {
    if (kind !== 'function') {
      throw new KedgeError('KEDGE_IMPORT_UNKNOWN', `the module imports the ${kind} ${module}.${name}`, {
        hint: 'only functions of WASI can be imported',
      });
    }
    const found = info.types[type];
    if (found === undefined) {
      throw new KedgeError('KEDGE_MODULE_INVALID', `the import ${module}.${name} has no type`);
    }
    return { module, name, type: functionType(found, `${module}.${name}`) };
  });
}

function functionType(
  type: { readonly params: readonly WasmType[]; readonly results: readonly WasmType[] },
  name: string,
): FunctionType {
  const numeric = (list: readonly WasmType[]): readonly ValueType[] =>
    list.map((item) => {
      if (item === 'v128') {
        throw new KedgeError('KEDGE_IMPORT_TYPE', `the import ${name} has a parameter or result of type v128`);
      }
      if (item === 'reference') {
        throw unsupported('reference values');
      }
      return item;
    });
  return { params: numeric(type.params), results: numeric(type.results) };
}

function whyInvalid(module: Uint8Array): string {
  try {
    WebAssembly.Module.exports(new WebAssembly.Module(module));
    return 'the engine refused it';
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error);
    return text.replace(/^WebAssembly\.Module\(\): /u, '');
  }
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
