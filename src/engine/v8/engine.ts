import process from 'node:process';
import { KedgeError } from '../../errors.ts';
import type { CompiledModule, Engine, InstrumentedModule } from '../engine.ts';
import { V8Instance } from './instance.ts';

const CACHE_ENTRIES = 4;
const cache = new Map<string, V8Module>();

class V8Module implements CompiledModule {
  readonly module: InstrumentedModule;
  readonly compiled: WebAssembly.Module;

  constructor(module: InstrumentedModule) {
    this.module = module;
    try {
      this.compiled = new WebAssembly.Module(module.bytes);
    } catch (cause) {
      throw new KedgeError('KEDGE_MODULE_INVALID', 'the instrumented module does not compile', { cause });
    }
  }
}

/** V8, the engine that Node brings. Run each guest in a worker thread of its own: its calls block that thread. */
export const v8Engine: Engine & { readonly name: 'v8' } = {
  name: 'v8',
  version: process.versions.v8,

  compile(module) {
    const known = cache.get(module.hash);
    if (known !== undefined) {
      return known;
    }
    const compiled = new V8Module(module);
    cache.set(module.hash, compiled);
    for (const oldest of cache.keys()) {
      if (cache.size > CACHE_ENTRIES) {
        cache.delete(oldest);
      }
    }
    return compiled;
  },

  instantiate(compiled, imports, stop, context) {
    if (!(compiled instanceof V8Module)) {
      throw new TypeError('this module was compiled by another engine');
    }
    return new V8Instance(compiled.module, compiled.compiled, imports, stop, context);
  },
};
