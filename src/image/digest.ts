import { createHash } from 'node:crypto';

/** SHA-256 over the pieces, one after the other. */
export function sha256(parts: readonly Uint8Array[]): Buffer {
  const digest = createHash('sha256');
  for (const part of parts) digest.update(part);
  return digest.digest();
}
