import { createHash } from 'node:crypto';
import { native } from '../native.ts';

/** SHA-256 over the pieces, one after the other. */
export function sha256(parts: readonly Uint8Array[]): Buffer {
  const digest = createHash('sha256');
  for (const part of parts) digest.update(part);
  return digest.digest();
}

/** How the digest of a section is made. */
export type SectionDigest = (parts: readonly Uint8Array[]) => Uint8Array;

/** SHA-256 over the SHA-256 of each mebibyte of the bytes: several threads can compute it at once. */
export const sha256OfPieces: SectionDigest = (parts) => native.pieceDigest(parts);
