/**
 * Values from outside against schemas. A schema is compiled when it is first used: walking through one as data takes a hundred times
 * as long, and moves wait for it.
 *
 * A compiled schema has bounds as numbers, also those of a bigint: give such as a number can be (2^64, exclusive, and not 2^64 - 1).
 */
import type { Static, TSchema } from 'typebox';
import { Compile } from 'typebox/compile';
import type { Validator } from 'typebox/compile';

const compiled = new WeakMap<TSchema, Validator>();

function validatorOf(schema: TSchema): Validator {
  const known = compiled.get(schema);
  if (known !== undefined) return known;
  const made: Validator = Compile(schema);
  compiled.set(schema, made);
  return made;
}

/** Whether a value is what a schema says. Nothing is converted or filled in. */
export function matches<S extends TSchema>(schema: S, value: unknown): value is Static<S> {
  return validatorOf(schema).Check(value);
}

/** Of a value that does not match: where (a JSON pointer, empty for the whole) and what is wrong there. */
export function mismatch(schema: TSchema, value: unknown): { readonly at: string; readonly why: string } {
  const [first] = validatorOf(schema).Errors(value);
  return { at: first?.instancePath ?? '', why: first?.message ?? 'not valid' };
}
