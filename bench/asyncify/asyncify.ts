/** The second half of the instrumentation: Binaryen's Asyncify, with its stack in a memory of its own. */
import { KedgeError } from '../../src/errors.ts';
import { NAMES } from './names.ts';

type Binaryen = typeof import('binaryen').default;

let loaded: Promise<Binaryen> | undefined;

/**
 * Binaryen is large (15 MB), so it is loaded when the first module needs it. It compiles itself on V8's threads, which do not keep
 * Node alive: without the timer the process may end meanwhile (exit code 13, "unsettled top-level await").
 */
function load(): Promise<Binaryen> {
  if (loaded !== undefined) return loaded;
  const alive = setInterval(() => {}, 60_000);
  loaded = import('binaryen').then((module) => module.default).finally(() => clearInterval(alive));
  return loaded;
}

/**
 * Takes what `rewriteModule` made, turns the stop memory and the poll function into imports, and adds unwinding and
 * rewinding to every function from which a poll or a host call can be reached. Any host call may suspend the guest.
 */
export async function asyncify(rewritten: Uint8Array): Promise<Uint8Array> {
  const binaryen = await load();
  const { Features } = binaryen;
  const features =
    Features.MutableGlobals |
    Features.SignExt |
    Features.NontrappingFPToInt |
    Features.SIMD128 |
    Features.BulkMemory |
    Features.BulkMemoryOpt |
    Features.CallIndirectOverlong |
    Features.ReferenceTypes |
    Features.Multivalue |
    Features.ExtendedConst |
    Features.Atomics |
    Features.MultiMemory;
  // The type declarations promise a reader that takes features; the library does not have it.
  const module = binaryen.readBinary(rewritten);
  module.setFeatures(features);
  try {
    const poll = takeExport(binaryen, module, NAMES.poll);
    module.removeFunction(poll);
    module.addFunctionImport(poll, NAMES.module, NAMES.poll, binaryen.none, binaryen.none);
    const stop = takeExport(binaryen, module, NAMES.stop);
    module.addMemoryImport(stop, NAMES.module, NAMES.stop, true);
    // These settings belong to the library, not to the module.
    binaryen.setOptimizeLevel(2);
    binaryen.setShrinkLevel(0);
    binaryen.setDebugInfo(true);
    binaryen.setPassArgument('asyncify-memory', NAMES.frames);
    module.runPasses(['asyncify']);
    return module.emitBinary();
  } catch (cause) {
    throw new KedgeError('KEDGE_MODULE_UNSUPPORTED', 'the module could not be given stable points', { cause });
  } finally {
    module.dispose();
  }
}

/** The internal name behind an export, which is then removed. */
function takeExport(binaryen: Binaryen, module: InstanceType<Binaryen['Module']>, name: string): string {
  const { value } = binaryen.getExportInfo(module.getExport(name));
  module.removeExport(name);
  return value;
}
