/**
 * Finds the first point at which two guests differ, between one at which they were equal and one at which they are not.
 *
 * Theory of operation. Both are made anew from the state at the equal point as often as need be, and run by another number of
 * points: host calls come from the log, so every run is the same. Halving the distance finds a point that differs behind one that
 * is equal. It need not be the first: a wrong value that is overwritten leaves no trace at a later point. So then the points before
 * it are compared one by one, as many as can be had in bearable time.
 */
import { decodeStack } from '../engine/points/stack.ts';
import { type Difference, memoriesOf } from './difference.ts';
import { Pair, type Mark, type PairKind } from './pair.ts';

export interface Located {
  /** Points from the mark to the first that differs. */
  readonly points: number;
  readonly differences: readonly Difference[];
  /** The last equal point. */
  readonly equal: Mark;
  /** Points between the mark and this one that were not compared. */
  readonly unseen: number;
}

/** Points that are compared one by one, at most. */
const WALK = 20_000;
/** Bytes of guest memory, and frames of its stack, that are looked at on the way. */
const WALK_BYTES = 2 ** 35;
const WALK_FRAMES = 500_000;

/** How many points behind a state can be compared one by one in bearable time. */
function bearable({ states: [state] }: Mark): number {
  const { frames } = state;
  const bytes = memoriesOf(state).reduce((sum, { length }) => sum + length, 0);
  const depth = frames.bytes.length === 0 ? 0 : decodeStack(frames.bytes).frames.length;
  return Math.floor(Math.min(WALK, WALK_BYTES / Math.max(1, bytes), WALK_FRAMES / Math.max(1, depth)));
}

/**
 * They differ when they have run by so many points from the mark on. Undefined when the guests, made anew, do not differ there: an
 * engine that does something else each time.
 */
export function locate(kind: PairKind, mark: Mark, points: number): Located | undefined {
  const differs = (at: number): boolean => Pair.at(kind, mark).run(at).differences.length > 0;
  if (!differs(points)) return undefined;
  let equal = 0;
  let different = points;
  while (different - equal > 1) {
    const middle = Math.floor((equal + different) / 2);
    if (differs(middle)) different = middle;
    else equal = middle;
  }
  const from = Math.max(0, equal - bearable(stateAt(kind, mark, equal)));
  const first = walk(kind, mark, from, equal) ?? different;
  const last = stateAt(kind, mark, first - 1);
  const { differences } = Pair.at(kind, last).run(1);
  return { points: first, differences, equal: last, unseen: Math.max(0, from - 1) };
}

/** Some points behind a mark. */
function stateAt(kind: PairKind, mark: Mark, points: number): Mark {
  if (points === 0) return mark;
  const pair = Pair.at(kind, mark);
  pair.run(points);
  return pair.mark(mark.points + points);
}

/** The first point that differs, from one that is equal (or the mark) to another; undefined when there is none. */
function walk(kind: PairKind, mark: Mark, from: number, to: number): number | undefined {
  if (from >= to) return undefined;
  const pair = Pair.at(kind, mark);
  if (from > 0 && pair.run(from).differences.length > 0) return undefined;
  for (let at = from + 1; at <= to; at += 1) {
    if (pair.run(1).differences.length > 0) return at;
  }
  return undefined;
}
