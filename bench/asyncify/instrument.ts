/**
 * The form of a module with Binaryen's Asyncify, which was the first that Kedge had: what benchmarks compare our own pass with.
 *
 * Polls go to every loop head and to one function of every cycle of the call graph (`rewrite.ts`), then Asyncify makes every
 * function that can be on the stack at a poll or a host call able to leave and to come back (`asyncify.ts`). Its host offers
 * `kedge.poll` and the shared memory `kedge.stop`, and runs `kedge:main`.
 */
import { parseModule } from '../../src/engine/wasm/module.ts';
import { asyncify } from './asyncify.ts';
import { rewriteModule } from './rewrite.ts';

/** Throws KEDGE_MODULE_INVALID and, for what this encoding cannot hold, KEDGE_MODULE_UNSUPPORTED. */
export function withAsyncify(module: Uint8Array): Promise<Uint8Array> {
  return asyncify(rewriteModule(parseModule(module)));
}
