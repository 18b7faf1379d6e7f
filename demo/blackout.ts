/** How long a move is felt at the peer, from the peer's capture alone. */
import { longestGap } from '../test/support/checker.ts';
import type { TcpRow } from '../test/support/fields.ts';

/** A move, from before its command to after it, milliseconds since 1970. */
export type Stretch = { readonly at: number; readonly done: number };

type Row = Pick<TcpRow, 'time' | 'src' | 'len'>;

/**
 * Blackout of each move in milliseconds: the longest time around it without a byte from the guest, less the longest such time
 * before the first move. Only the guest's payload counts: while it stands still the peer may go on talking, and the gateway
 * acknowledges that.
 *
 * @param rows segments of one connection at the peer, in order of time
 * @param guest the guest's address as the peer sees it
 */
export function blackouts(rows: readonly Row[], guest: string, moves: readonly Stretch[]): number[] {
  const said = rows.filter(({ src, len }) => src === guest && len > 0);
  const first = Math.min(...moves.map(({ at }) => at));
  const begin = said[0]?.time ?? 0;
  // The first half second is the connection's start.
  const usual = longestGap(said, { from: begin + 500, to: first - 50 }).ms;
  return moves.map(({ at, done }) => {
    const { ms } = longestGap(said, { from: at, to: done + 200 });
    return Math.max(0, Math.round((ms - usual) * 10) / 10);
  });
}
