import process from 'node:process';
import { setFlagsFromString } from 'node:v8';
import { KedgeError } from '../../errors.ts';
import { compiledOnce } from '../compiled.ts';
import type { CompiledModule, Engine, InstrumentedModule, StopSignal } from '../engine.ts';
import { resultCounts } from '../points/check.ts';
import { PointsGuest } from '../points/guest.ts';
import type { HostSide, Machine } from '../points/machine.ts';
import { PointTable } from '../points/table.ts';
import { hostMemory, parseModule } from '../wasm/module.ts';
import { type Memories, V8Machine } from './machine.ts';

// The pass says which branches are cold; without it hot loops with a poll take up to 1.7 times as long (measured).
setFlagsFromString('--experimental-wasm-branch-hinting');
// All functions are compiled before the guest runs, on several threads. One that is compiled at its first call cannot stop meanwhile: for
// SQLite's largest that is 7 ms, and again for its resume version.
setFlagsFromString('--no-wasm-lazy-compilation');

class V8Module implements CompiledModule {
  readonly module: InstrumentedModule;
  readonly compiled: WebAssembly.Module;
  readonly table: PointTable;
  readonly memories: Memories;
  readonly results: Uint16Array;

  constructor(module: InstrumentedModule) {
    this.module = module;
    try {
      this.compiled = new WebAssembly.Module(module.bytes);
    } catch (cause) {
      throw doesNotCompile(cause);
    }
    this.table = new PointTable(module.bytes);
    const info = parseModule(module.bytes);
    this.results = resultCounts(info);
    this.memories = {
      imported: new Map(
        info.imports.flatMap(({ module: from, name, memory }) =>
          from === 'kedge' && memory !== undefined && !memory.shared ? [[name, memory] as const] : [],
        ),
      ),
      host: hostMemory(info),
    };
  }
}

/** The pass has validated the module and knows V8's limits, so this is a limit that it does not know. */
function doesNotCompile(cause: unknown): KedgeError {
  const reason = cause instanceof Error ? cause.message.replace(/^WebAssembly\.\w+\(\): /u, '') : String(cause);
  return new KedgeError(
    'KEDGE_MODULE_INVALID',
    `the instrumented module, of which all numbers here are, does not compile: ${reason}`,
    { hint: 'try another policy (--points call adds the least code) or another engine (--engine wamr)', cause },
  );
}

const compile = compiledOnce((module) => new V8Module(module));

function own(compiled: CompiledModule): V8Module {
  if (compiled instanceof V8Module) return compiled;
  throw new TypeError('this module was compiled by another engine');
}

/** One instance without the life of a guest around it. */
export function v8Machine(compiled: CompiledModule, host: HostSide, stop: StopSignal): Machine {
  const { module, compiled: code, memories } = own(compiled);
  return new V8Machine(module, code, memories, host, stop);
}

/** V8, the engine that Node brings. Run each guest in a worker thread of its own: its calls block that thread. */
export const v8Engine: Engine & { readonly name: 'v8' } = {
  name: 'v8',
  version: process.versions.v8,
  flag: 'memory',
  features: [
    'MVP',
    'sign extension',
    'saturating conversions',
    'multi-value',
    'bulk memory',
    'reference types',
    'tail calls',
    'extended constants',
    'SIMD',
    'multiple memories',
  ],

  compile,

  instantiate(compiled, imports, stop, context) {
    const module = own(compiled);
    return new PointsGuest(module, (host) => v8Machine(module, host, stop), imports, stop, context);
  },
};
