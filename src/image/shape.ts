/** Holds decoded data of an image against a schema. */
import type { Static, TSchema } from 'typebox';
import { Check, Errors } from 'typebox/value';
import { KedgeError } from '../errors.ts';

/** The value, typed. Throws KEDGE_IMAGE_INVALID that names the field. */
export function checkShape<Schema extends TSchema>(schema: Schema, value: unknown, what: string): Static<Schema> {
  if (Check(schema, value)) return value;
  const [first] = Errors(schema, value);
  const where = `${what}${first?.instancePath.replaceAll('/', '.') ?? ''}`;
  throw new KedgeError(
    'KEDGE_IMAGE_INVALID',
    `the image's ${where} is not well-formed: ${first?.message ?? 'unknown'}`,
  );
}
