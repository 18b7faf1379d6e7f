import type { CompiledModule, InstrumentedModule } from './engine.ts';

const ENTRIES = 4;

/** Compiles each module once; the last few are kept, by hash. */
export function compiledOnce<Compiled extends CompiledModule>(
  compile: (module: InstrumentedModule) => Compiled,
): (module: InstrumentedModule) => Compiled {
  const cache = new Map<string, Compiled>();
  return (module) => {
    const compiled = cache.get(module.hash) ?? compile(module);
    cache.delete(module.hash);
    cache.set(module.hash, compiled);
    for (const oldest of cache.keys()) {
      if (cache.size > ENTRIES) cache.delete(oldest);
    }
    return compiled;
  };
}
