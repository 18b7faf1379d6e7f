import { readFile } from 'node:fs/promises';
import { checkHeader } from '../../engine/wasm/module.ts';
import { KedgeError, withHint } from '../../errors.ts';

const OF_WASI = 'name a module that was compiled for WASI preview 1, for example by clang --target=wasm32-wasi';

/** The bytes of a module that a command line names. Throws KEDGE_MODULE_READ, and KEDGE_MODULE_INVALID for what is none at all. */
export async function readModule(path: string): Promise<Uint8Array> {
  const bytes = await readBytes(path);
  try {
    checkHeader(bytes);
  } catch (error) {
    throw withHint(error, 'KEDGE_MODULE_INVALID', OF_WASI);
  }
  return bytes;
}

async function readBytes(path: string): Promise<Uint8Array> {
  try {
    return await readFile(path);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new KedgeError('KEDGE_MODULE_READ', `cannot read the module ${path}: ${why}`, { cause });
  }
}
