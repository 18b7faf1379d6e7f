/** The outer shape of an image's handles section. What is inside is checked by who restores it: WASI and the sockets. */
import { KedgeError } from '../errors.ts';
import type { SavedWasi } from '../wasi/saved.ts';

export type CheckedHandles =
  | { readonly exited: number; readonly wasi: null; readonly sockets: unknown }
  | { readonly exited: null; readonly wasi: SavedWasi; readonly sockets: unknown };

function invalid(what: string): KedgeError {
  return new KedgeError('KEDGE_IMAGE_INVALID', `section handles of the image: ${what}`);
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

const isText = (value: unknown): value is string => typeof value === 'string';
const isWord = (value: unknown): boolean => typeof value === 'bigint' || (typeof value === 'number' && value >= 0);

function isDescriptor(value: unknown): boolean {
  if (!isRecord(value)) return false;
  const { fd, rights, inheriting, flags, kind } = value;
  if (!Number.isInteger(fd) || !isWord(rights) || !isWord(inheriting) || typeof flags !== 'number') return false;
  switch (kind) {
    case 'stdio':
      return value['stream'] === 0 || value['stream'] === 1 || value['stream'] === 2;
    case 'socket':
      return Number.isInteger(value['socket']);
    case 'file':
      return isText(value['preopen']) && isText(value['path']) && typeof value['offset'] === 'number';
    case 'directory':
      return isText(value['preopen']) && isText(value['path']) && typeof value['preopened'] === 'boolean';
    default:
      return false;
  }
}

function isWasi(value: unknown): value is SavedWasi {
  if (!isRecord(value)) return false;
  const { args, environ, monotonic, descriptors } = value;
  return (
    Array.isArray(args) &&
    args.every(isText) &&
    Array.isArray(environ) &&
    environ.every(isText) &&
    isWord(monotonic) &&
    Array.isArray(descriptors) &&
    descriptors.every(isDescriptor)
  );
}

/** Throws KEDGE_IMAGE_INVALID or KEDGE_IMAGE_VERSION. */
export function checkHandles(value: unknown): CheckedHandles {
  if (!isRecord(value)) throw invalid('not a record');
  const { version, exited, wasi, sockets } = value;
  if (version !== 1) throw new KedgeError('KEDGE_IMAGE_VERSION', `handles of version ${String(version)}; this Kedge reads 1`);
  if (wasi === null) {
    if (typeof exited !== 'number' || !Number.isInteger(exited)) throw invalid('an ended guest has no exit code');
    return { exited, wasi, sockets };
  }
  if (!isWasi(wasi) || exited !== null) throw invalid('the descriptors are not well-formed');
  return { exited, wasi, sockets };
}
