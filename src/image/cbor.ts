/**
 * CBOR as images have it: deterministic (RFC 8949 §4.2: shortest forms, sorted keys), so that equal guests give equal bytes.
 * Integers beyond 2^53 come back as bigint, smaller ones as number, whatever they were.
 */
import { decode, encode, rfc8949EncodeOptions } from 'cborg';
import { KedgeError } from '../errors.ts';

export function encodeCbor(value: unknown): Uint8Array {
  return encode(value, { ...rfc8949EncodeOptions, ignoreUndefinedProperties: true });
}

/** Throws KEDGE_IMAGE_INVALID: not CBOR, not deterministic, or nested deeper than a stack. */
export function decodeCbor(bytes: Uint8Array, what: string): unknown {
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
    throw new KedgeError('KEDGE_IMAGE_INVALID', `the image's ${what} cannot be decoded: ${why}`, { cause });
  }
}
