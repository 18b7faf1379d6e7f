/** How much a guest may ask of one vectored call. Both rooms of host functions keep to it. */

/** Entries of one iovec array: Linux's IOV_MAX. */
export const MOST_IOVECS = 1024;

/** Bytes that one call moves at most, as in Linux; `node:fs` takes no more than 2 GiB either. */
const MOST_BYTES = 0x7fff_f000;

/**
 * The buffers of an iovec array, cut where one call ends: a stream or a file then moves fewer bytes than it was asked to, as it
 * always may. Buffers of more bytes than the memory has must overlap. Without the cut, 1024 of them would name 1024 times the
 * memory, and whoever gathers them would need that much.
 */
export function withinOneCall(
  count: number,
  memorySize: number,
  buffer: (index: number) => Uint8Array,
): readonly Uint8Array[] {
  let left = Math.min(MOST_BYTES, memorySize);
  return Array.from({ length: count }, (_, i) => {
    const part = buffer(i).subarray(0, left);
    left -= part.length;
    return part;
  });
}
