import { readFile } from 'node:fs/promises';
import { KedgeError } from '../../errors.ts';

/** The bytes of a module that a command line names. Throws KEDGE_MODULE_READ. */
export async function readModule(path: string): Promise<Uint8Array> {
  try {
    return await readFile(path);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new KedgeError('KEDGE_MODULE_READ', `cannot read the module ${path}: ${why}`, { cause });
  }
}
