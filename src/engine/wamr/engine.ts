import { KedgeError, isErrorCode } from '../../errors.ts';
import { native } from '../../native.ts';
import type { CompiledModule, Engine, InstrumentedModule } from '../engine.ts';
import { WamrInstance } from './instance.ts';

const CACHE_ENTRIES = 4;
const cache = new Map<string, WamrModule>();

class WamrModule implements CompiledModule {
  readonly module: InstrumentedModule;
  readonly loaded: InstanceType<typeof native.WamrModule>;

  constructor(module: InstrumentedModule) {
    this.module = module;
    try {
      this.loaded = new native.WamrModule(module.bytes);
    } catch (cause) {
      throw refusal(cause);
    }
  }
}

/** WAMR says what a module needs and it has not; that is known before any of the module's code runs. */
function refusal(cause: unknown): unknown {
  if (!(cause instanceof Error && 'code' in cause && isErrorCode(String(cause.code)))) return cause;
  if (cause.code === 'KEDGE_MODULE_UNSUPPORTED') {
    return new KedgeError('KEDGE_MODULE_UNSUPPORTED', `WAMR cannot run the module: it uses ${cause.message}`, {
      hint: 'run it on the engine v8, or compile it without this feature',
      cause,
    });
  }
  return new KedgeError('KEDGE_MODULE_INVALID', `WAMR cannot load the module: ${cause.message}`, { cause });
}

/**
 * WAMR's fast interpreter, inside the native addon. Slower than V8 by an order of magnitude and much smaller; it shows that an
 * image belongs to no engine.
 */
export const wamrEngine: Engine & { readonly name: 'wamr' } = {
  name: 'wamr',
  version: native.wamrVersion(),

  compile(module) {
    const known = cache.get(module.hash);
    if (known !== undefined) {
      return known;
    }
    const compiled = new WamrModule(module);
    cache.set(module.hash, compiled);
    for (const oldest of cache.keys()) {
      if (cache.size > CACHE_ENTRIES) {
        cache.delete(oldest);
      }
    }
    return compiled;
  },

  instantiate(compiled, imports, stop, context) {
    if (!(compiled instanceof WamrModule)) {
      throw new TypeError('this module was compiled by another engine');
    }
    return new WamrInstance(compiled.module, compiled.loaded, imports, stop, context);
  },
};
