/** Function references of an instance, in the order in which the pass collects them. */
import type { Machine } from './machine.ts';
import { corrupt } from './stack.ts';
import type { PointTable } from './table.ts';
import type { References } from './transfer.ts';

/** Read when the first reference crosses: most guests never have one on the stack. */
export function readReferences(machine: () => Machine, table: PointTable): References {
  let known: { readonly list: readonly unknown[]; readonly ordinals: ReadonlyMap<unknown, number> } | undefined;
  const read = (): NonNullable<typeof known> => {
    const list = table.referenced.map((_, ordinal) => machine().tableGet('kedge:functions', ordinal));
    known = { list, ordinals: new Map(list.map((reference, ordinal) => [reference, ordinal])) };
    return known;
  };
  return {
    ordinalOf: (reference) => {
      if (reference === null || reference === undefined) return undefined;
      const ordinal = (known ?? read()).ordinals.get(reference);
      if (ordinal === undefined) throw corrupt('a reference to a function that cannot be referred to');
      return ordinal;
    },
    referenceOf: (ordinal) => (ordinal === undefined ? null : ((known ?? read()).list[ordinal] ?? null)),
  };
}
