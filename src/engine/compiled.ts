import { LRUCache } from 'lru-cache';
import type { CompiledModule, InstrumentedModule } from './engine.ts';

const ENTRIES = 4;

/** Compiles each module once; the last few are kept, by hash. */
export function compiledOnce<Compiled extends CompiledModule>(
  compile: (module: InstrumentedModule) => Compiled,
): (module: InstrumentedModule) => Compiled {
  const cache = new LRUCache<string, Compiled>({ max: ENTRIES });
  return (module) => {
    const compiled = cache.get(module.hash) ?? compile(module);
    cache.set(module.hash, compiled);
    return compiled;
  };
}
