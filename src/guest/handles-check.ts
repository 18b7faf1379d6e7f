/** The outer shape of an image's handles section. The sockets inside are checked by who restores them. */
import { KedgeError } from '../errors.ts';
import { decodeCbor } from '../image/cbor.ts';
import { parseSavedWasi } from '../image/saved-wasi.ts';
import type { SavedWasi } from '../wasi/saved.ts';

export type CheckedHandles =
  | { readonly exited: number; readonly wasi: null; readonly sockets: unknown }
  | { readonly exited: null; readonly wasi: SavedWasi; readonly sockets: unknown };

function invalid(what: string): KedgeError {
  return new KedgeError('KEDGE_IMAGE_INVALID', `section handles of the image: ${what}`);
}

/** Decodes the section's bytes. Throws KEDGE_IMAGE_INVALID or KEDGE_IMAGE_VERSION. */
export function checkHandles(section: Uint8Array): CheckedHandles {
  const value = decodeCbor(section, 'handles');
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw invalid('not a record');
  const { version, exited, wasi, sockets } = value as Record<string, unknown>;
  if (version !== 1)
    throw new KedgeError('KEDGE_IMAGE_VERSION', `handles of version ${String(version)}; this Kedge reads 1`);
  if (wasi === null) {
    if (typeof exited !== 'number' || !Number.isInteger(exited)) throw invalid('an ended guest has no exit code');
    return { exited, wasi, sockets };
  }
  if (exited !== null) throw invalid('a guest that goes on has an exit code');
  return { exited, wasi: parseSavedWasi(wasi), sockets };
}
