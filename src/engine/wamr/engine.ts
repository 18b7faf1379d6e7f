import { KedgeError, isErrorCode } from '../../errors.ts';
import { native } from '../../native.ts';
import { compiledOnce } from '../compiled.ts';
import type { CompiledModule, Engine, InstrumentedModule, StopSignal } from '../engine.ts';
import { resultCounts } from '../points/check.ts';
import { PointsGuest } from '../points/guest.ts';
import type { HostSide, Machine } from '../points/machine.ts';
import { PointTable } from '../points/table.ts';
import { parseModule } from '../wasm/module.ts';
import { type NativeModule, WamrMachine } from './machine.ts';

class WamrModule implements CompiledModule {
  readonly module: InstrumentedModule;
  readonly loaded: NativeModule;
  readonly table: PointTable;
  readonly results: Uint16Array;

  constructor(module: InstrumentedModule) {
    this.module = module;
    this.loaded = load(module.bytes);
    this.table = new PointTable(module.bytes);
    this.results = resultCounts(parseModule(module.bytes));
  }
}

/** WAMR says what a module needs and it has not; that is known before any of the module's code runs. */
function load(bytes: Uint8Array): NativeModule {
  try {
    return new native.WamrModule(bytes);
  } catch (cause) {
    if (!(cause instanceof Error && 'code' in cause && isErrorCode(String(cause.code)))) throw cause;
    if (cause.code === 'KEDGE_MODULE_UNSUPPORTED') {
      const where = 'offset' in cause ? placeIn(bytes, Number(cause.offset)) : '';
      throw new KedgeError('KEDGE_MODULE_UNSUPPORTED', `WAMR cannot run the module: it uses ${cause.message}${where}`, {
        hint: 'run it on the engine v8 (--engine v8), or compile it without this feature',
        cause,
      });
    }
    throw new KedgeError('KEDGE_MODULE_INVALID', `WAMR cannot load the module: ${cause.message}`, {
      hint: 'run it on the engine v8 (--engine v8)',
      cause,
    });
  }
}

/** The function of the original that has this offset of the instrumented module, for a message; nothing when none has it. */
function placeIn(bytes: Uint8Array, offset: number): string {
  const { bodies, imports, importedFunctions } = parseModule(bytes);
  const body = bodies.findIndex(({ start, end }) => offset >= start && offset < end);
  // The pass adds imports behind those of the original, and, where it polls, a function in front of the defined ones.
  const host = imports.filter(({ module, kind }) => module === 'kedge' && kind === 'function');
  const defined = host.some(({ name }) => name === 'poll') ? body - 1 : body;
  return defined < 0 ? '' : ` (first in function ${importedFunctions - host.length + defined})`;
}

const compile = compiledOnce((module) => new WamrModule(module));

function own(compiled: CompiledModule): WamrModule {
  if (compiled instanceof WamrModule) return compiled;
  throw new TypeError('this module was compiled by another engine');
}

/** One instance without the life of a guest around it. `stackBytes`: for its frames. */
export function wamrMachine(compiled: CompiledModule, host: HostSide, stop: StopSignal, stackBytes?: number): Machine {
  return new WamrMachine(own(compiled).loaded, host, stop, stackBytes);
}

/**
 * WAMR's fast interpreter, inside the native addon. It interprets, where V8 compiles; it shows that an image belongs to no engine.
 */
export const wamrEngine: Engine & { readonly name: 'wamr' } = {
  name: 'wamr',
  version: native.wamrVersion(),
  flag: 'global',
  features: [
    'MVP',
    'sign extension',
    'saturating conversions',
    'multi-value',
    'bulk memory',
    'reference types',
    'tail calls',
    'extended constants',
  ],

  compile,

  instantiate(compiled, imports, stop, context) {
    return new PointsGuest(own(compiled), (host) => wamrMachine(compiled, host, stop), imports, stop, context);
  },
};
