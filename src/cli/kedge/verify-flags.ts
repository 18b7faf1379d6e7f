/** Flags of `kedge verify` that no other command has. */
import type { Points } from '../../migrate/protocol.ts';
import type { OutputFlags } from './options.ts';

export type VerifyFlags = OutputFlags & {
  readonly engines: readonly [first: string, second: string];
  readonly points?: Points;
  readonly stride: number;
  readonly limit?: number;
  readonly dir?: readonly { readonly host: string; readonly guest: string }[];
  readonly env?: readonly (readonly [string, string])[];
  readonly address: string;
  readonly quiet: boolean;
};

/** The count is an i32 of the guest. */
const MOST_POINTS = 2 ** 31 - 1;

/** Two names, `a,b`. */
export function parseEngines(text: string): readonly [string, string] {
  const [first, second, ...more] = text.split(',');
  if (!first || !second || more.length > 0) throw new Error(`"${text}" is not two engines, for example v8,wamr`);
  return [first, second];
}

/** Points between two comparisons. */
export function parseStride(text: string): number {
  const points = Number(text);
  if (!/^[0-9]+$/.test(text) || points < 1 || points > MOST_POINTS)
    throw new Error(`"${text}" is not a number of points from 1 to ${MOST_POINTS}`);
  return points;
}

/** Points after which it is enough. */
export function parseLimit(text: string): number {
  const points = Number(text);
  if (!/^[0-9]+$/.test(text) || points < 1 || !Number.isSafeInteger(points))
    throw new Error(`"${text}" is not a number of points of at least 1`);
  return points;
}
