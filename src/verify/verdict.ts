/** What a comparison found. Plain data. */
import type { Difference } from './difference.ts';

/** A place in the code of the module. */
export interface Place {
  /** Index in the module, imports first. */
  readonly function: number;
  /** From the name section, or null. */
  readonly name: string | null;
  /** Bytes from the beginning of the module. */
  readonly offset: number;
  readonly instruction: string;
  /** `file:line:column` of a module that was compiled with -g, or null. */
  readonly source: string | null;
}

/** How the run of a guest ended. */
export type End =
  | { readonly kind: 'exited'; readonly code: number }
  | { readonly kind: 'trapped'; readonly message: string }
  /** `Options.limit` was reached. */
  | { readonly kind: 'limit' };

export interface Divergence {
  /** The first point at which the sides differ; they were equal at the one before. The beginning of the guest is 0. */
  readonly point: number;
  /** Host calls before it. */
  readonly calls: number;
  /** Where both sides stood at the last equal point: what differs was done by the code from here on. null: nothing had run yet. */
  readonly place: Place | null;
  /** At least one. */
  readonly differences: readonly Difference[];
  /** Points before it that were not compared: there a difference may have come and gone. 0: this is the first. */
  readonly unseen: number;
}

export interface Verdict {
  readonly equal: boolean;
  /** Points that both sides passed, equal or not found different. */
  readonly points: number;
  /** Host calls that the first side made and the second was given. */
  readonly calls: number;
  /** null after a divergence. */
  readonly end: End | null;
  readonly divergence: Divergence | null;
  /** Point at which NaNs with other bits were met first; they count as equal. null: there were none where states were compared. */
  readonly nan: number | null;
}
