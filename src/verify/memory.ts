/** Where two memories of one size differ. */

export interface DifferentBytes {
  readonly at: number;
  readonly length: number;
  /** Both sides hold NaNs there, if what is there is floats. */
  readonly nan: true | undefined;
}

/** As many are looked for. */
const MOST = 64;
const BLOCK = 4096;
/** Bytes that are equal between two differences that count as one. */
const GAP = 3;
const SHOWN = 16;

/** Runs of bytes that differ, from the lowest address up, at most 64. */
export function differentBytes(a: Uint8Array, b: Uint8Array): readonly DifferentBytes[] {
  const runs: { at: number; end: number }[] = [];
  for (let block = 0; block < a.length && runs.length < MOST; block += BLOCK) {
    const end = Math.min(block + BLOCK, a.length);
    if (Buffer.compare(a.subarray(block, end), b.subarray(block, end)) === 0) continue;
    for (let at = block; at < end; at += 1) {
      if (a[at] === b[at]) continue;
      const last = runs.at(-1);
      if (last !== undefined && at - last.end <= GAP) last.end = at + 1;
      else runs.push({ at, end: at + 1 });
    }
  }
  return runs.slice(0, MOST).map(({ at, end }) => ({ at, length: end - at, nan: nans(a, b, at, end) }));
}

/** Up to 16 bytes in hexadecimal, in the order of their addresses. */
export function showBytes(bytes: Uint8Array, at = 0, length = bytes.length): string {
  const shown = [...bytes.subarray(at, at + Math.min(length, SHOWN))].map((byte) => byte.toString(16).padStart(2, '0'));
  return `${shown.join(' ')}${length > SHOWN ? ' …' : ''}`;
}

function nans(a: Uint8Array, b: Uint8Array, at: number, end: number): true | undefined {
  const both = (size: 4 | 8): boolean => {
    const from = at - (at % size);
    return end <= from + size && from + size <= a.length && [a, b].every((bytes) => isNan(bytes, from, size));
  };
  return both(4) || both(8) ? true : undefined;
}

function isNan(bytes: Uint8Array, at: number, size: 4 | 8): boolean {
  const view = new DataView(bytes.buffer, bytes.byteOffset + at, size);
  return Number.isNaN(size === 4 ? view.getFloat32(0, true) : view.getFloat64(0, true));
}
