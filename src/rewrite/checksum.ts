/**
 * The Internet checksum (RFC 1071) and its incremental update (RFC 1624).
 *
 * Sums are one's complement sums of big-endian 16-bit words, not yet complemented. Zero has two forms there: a sum that had any
 * word in it other than 0 folds to 1..0xffff, never to 0. All updates here keep that, so an updated checksum is the very one
 * a full computation gives, not just an equivalent one. Headers of IPv4 and pseudo-headers always have such a word; an ICMP message
 * of zeros has none, which `finish` of translate.ts looks after.
 *
 * A *delta* is what a change adds to a sum: the new word plus the complement of the old one. Deltas are added up without
 * folding (some thousand changes fit in 31 bits) and applied once.
 */

/** Folds a sum of at most 2^32 - 1 to 16 bits, carries added back. */
export function fold(sum: number): number {
  const once = (sum >>> 16) + (sum & 0xffff);
  return (once >>> 16) + (once & 0xffff);
}

/**
 * Sum of the bytes [from, to), at most 65536 of them, folded, starting with `initial` (at most 2^30). An odd last byte counts as
 * the high half of a word (RFC 1071 §4.1). `from` may be odd: only the distance from it decides which half of a word a byte is.
 */
export function onesSum(view: DataView, from: number, to: number, initial: number): number {
  let sum = fold(initial);
  let at = from;
  for (; to - at >= 8; at += 8)
    sum += view.getUint16(at) + view.getUint16(at + 2) + view.getUint16(at + 4) + view.getUint16(at + 6);
  for (; to - at >= 2; at += 2) sum += view.getUint16(at);
  if (at < to) sum += view.getUint8(at) << 8;
  return fold(sum);
}

/** Sum of the pseudo-header of TCP and UDP over IPv4 (RFC 9293 §3.1), folded; `length` is that of the L4 header and data. */
export function pseudoSum(source: number, destination: number, protocol: number, length: number): number {
  return fold((source >>> 16) + (source & 0xffff) + (destination >>> 16) + (destination & 0xffff) + protocol + length);
}

/** Delta of a 16-bit word that changes. */
export function delta16(before: number, after: number): number {
  return after + (~before & 0xffff);
}

/** Delta of a 32-bit number, on an even offset, that changes. */
export function delta32(before: number, after: number): number {
  return (after >>> 16) + (after & 0xffff) + (~before >>> 16) + (~before & 0xffff);
}

/** A word with its bytes exchanged: what a word on an odd offset counts for (RFC 1071 §2(B)). Folds first. */
export function swapped(sum: number): number {
  const word = fold(sum);
  return ((word & 0xff) << 8) | (word >>> 8);
}

/** A complemented checksum field after a change (RFC 1624 eqn. 3). */
export function updateChecksum(field: number, delta: number): number {
  return ~fold((~field & 0xffff) + delta) & 0xffff;
}

/** A partial checksum field after a change: it holds the pseudo-header's sum, not complemented. */
export function updatePartial(field: number, delta: number): number {
  return fold(field + delta);
}
