/** Holds decoded data of an image against a schema. */
import type { Static, TSchema } from 'typebox';
import { KedgeError } from '../errors.ts';
import { matches, mismatch } from '../schema.ts';

/** The value, typed. Throws KEDGE_IMAGE_INVALID that names the field. */
export function checkShape<Schema extends TSchema>(schema: Schema, value: unknown, what: string): Static<Schema> {
  if (matches(schema, value)) return value;
  const { at, why } = mismatch(schema, value);
  throw new KedgeError(
    'KEDGE_IMAGE_INVALID',
    `the image's ${what}${at.replaceAll('/', '.')} is not well-formed: ${why}`,
  );
}
