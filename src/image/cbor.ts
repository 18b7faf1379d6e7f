/**
 * CBOR as images have it: deterministic (RFC 8949 §4.2: shortest forms, sorted keys), so that equal guests give equal bytes.
 * Integers beyond 2^53 come back as bigint, smaller ones as number, whatever they were.
 *
 * An image may come from anywhere, and one byte of CBOR can become an object of a hundred. So each part of an image has a number
 * of items that no guest reaches; a part with more is refused before any of it is decoded, and never written.
 */
import { decode, encode, rfc8949EncodeOptions } from 'cborg';
import { KedgeError } from '../errors.ts';

/** What of an image is CBOR, and how many items it may have: arrays, maps, keys, values and tags, each counted by itself. */
const MOST_ITEMS = {
  /** Arguments and environment: what `execve` takes (2 MiB, at least two bytes for each) is less. */
  manifest: 1 << 20,
  frames: 1 << 16,
  /** A million globals, which is where engines end, of five items each. */
  globals: 5_000_001,
  /** Less than a hundred items for each descriptor and socket. */
  handles: 1 << 21,
  /** Some fifty for each flow. */
  flows: 1 << 22,
} as const;

export type CborPart = keyof typeof MOST_ITEMS;

/** Throws KEDGE_IMAGE_INVALID for more items than a reader takes. */
export function encodeCbor(value: unknown, part: CborPart): Uint8Array {
  const bytes = encode(value, { ...rfc8949EncodeOptions, ignoreUndefinedProperties: true });
  checkItems(bytes, part);
  return bytes;
}

/** Throws KEDGE_IMAGE_INVALID: not CBOR, not deterministic, nested deeper than a stack, or of too many items. */
export function decodeCbor(bytes: Uint8Array, part: CborPart): unknown {
  checkItems(bytes, part);
  try {
    return decode(bytes, {
      strict: true,
      rejectDuplicateMapKeys: true,
      allowIndefinite: false,
      allowUndefined: false,
      allowNaN: false,
      allowInfinity: false,
    }) as unknown;
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new KedgeError('KEDGE_IMAGE_INVALID', `the image's ${part} cannot be decoded: ${why}`, { cause });
  }
}

function checkItems(bytes: Uint8Array, part: CborPart): void {
  const most = MOST_ITEMS[part];
  if (hasMoreItems(bytes, most))
    throw new KedgeError('KEDGE_IMAGE_INVALID', `the image's ${part} has more than ${most} items, as no guest has`);
}

/** Counts heads (RFC 8949 §3) one after the other; whether they make sense together is the decoder's to say. */
export function hasMoreItems(bytes: Uint8Array, most: number): boolean {
  let items = 0;
  for (let at = 0; at < bytes.length; items += 1) {
    if (items === most) return true;
    const head = bytes[at] ?? 0;
    const [major, info] = [head >> 5, head & 31];
    const width = info < 24 || info > 27 ? 0 : 1 << (info - 24);
    let argument = width === 0 ? info : 0;
    for (let n = 1; n <= width; n += 1) argument = argument * 256 + (bytes[at + n] ?? 0);
    // Bytes (2) and text (3) are one item, however long.
    at += 1 + width + (major === 2 || major === 3 ? argument : 0);
  }
  return false;
}
