import { KedgeError } from '../../errors.ts';
import { NAMES } from '../instrument/names.ts';

/** The exports of an instrumented module, each checked once. */
export interface InstrumentedExports {
  readonly main: () => void;
  readonly memory: WebAssembly.Memory | undefined;
  readonly globals: readonly {
    readonly get: () => bigint;
    readonly set: (bits: bigint) => void;
  }[];
  /** Absent under policy `none`. */
  readonly unwinding: Unwinding | undefined;
}

/** Asyncify's controls. Their argument is the address of its two-word header in the frames memory. */
export interface Unwinding {
  readonly frames: WebAssembly.Memory;
  readonly startUnwind: (header: number) => void;
  readonly stopUnwind: () => void;
  readonly startRewind: (header: number) => void;
  readonly stopRewind: () => void;
}

/** Looks up all exports. Throws KEDGE_MODULE_INVALID when bytes did not come from `instrument`. */
export function readExports(exports: Readonly<Record<string, unknown>>, globals: number): InstrumentedExports {
  const get = <Type>(name: string, is: (value: unknown) => value is Type): Type => {
    const value = exports[name];
    if (!is(value)) {
      throw new KedgeError('KEDGE_MODULE_INVALID', `the instrumented module lacks its export ${name}`);
    }
    return value;
  };
  return {
    main: get(NAMES.main, isFunction<() => void>),
    memory: exports[NAMES.memory] === undefined ? undefined : get(NAMES.memory, isMemory),
    globals: Array.from({ length: globals }, (_, n) => ({
      get: get(NAMES.getGlobal(n), isFunction<() => bigint>),
      set: get(NAMES.setGlobal(n), isFunction<(bits: bigint) => void>),
    })),
    unwinding:
      exports[NAMES.frames] === undefined
        ? undefined
        : {
            frames: get(NAMES.frames, isMemory),
            startUnwind: get('asyncify_start_unwind', isFunction<(header: number) => void>),
            stopUnwind: get('asyncify_stop_unwind', isFunction<() => void>),
            startRewind: get('asyncify_start_rewind', isFunction<(header: number) => void>),
            stopRewind: get('asyncify_stop_rewind', isFunction<() => void>),
          },
  };
}

function isFunction<Type>(value: unknown): value is Type {
  return typeof value === 'function';
}

function isMemory(value: unknown): value is WebAssembly.Memory {
  return value instanceof WebAssembly.Memory;
}
