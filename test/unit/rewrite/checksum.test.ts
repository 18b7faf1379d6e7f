import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  delta16,
  delta32,
  fold,
  onesSum,
  pseudoSum,
  swapped,
  updateChecksum,
  updatePartial,
} from '../../../src/rewrite/checksum.ts';
import { RUNS, u16, u32 } from './arbitraries.ts';
import { be16, be32, pseudoHeader, referenceChecksum, referenceSum, repeated } from './reference.ts';

/** Bytes, often all zero or all ones, where sums have their two zeros. */
const bytes = fc.oneof(
  fc.array(fc.nat(255), { maxLength: 70 }),
  fc.array(fc.constantFrom(0, 0xff), { maxLength: 9 }),
  fc.array(fc.constant(0), { maxLength: 9 }),
);

function viewOf(data: readonly number[], before: number): DataView {
  const buffer = new Uint8Array(data.length + before + 3).fill(0xee);
  buffer.set(data, before);
  return new DataView(buffer.buffer);
}

test('S23: onesSum is the sum of whole words, at odd places and of odd lengths', () => {
  fc.assert(
    fc.property(
      bytes,
      fc.nat(3),
      u32.map((n) => n % 2 ** 30),
      (data, before, initial) => {
        const expected = referenceSum([...data, ...(data.length % 2 === 0 ? [] : [0]), ...be32(initial)]);
        assert.equal(onesSum(viewOf(data, before), before, before + data.length, initial), expected);
      },
    ),
    RUNS,
  );
});

test('S23: onesSum does not overflow on the largest packet', () => {
  for (const length of [32767, 32768, 32769, 65535]) {
    for (const fill of [0xff, 0x80, 0x01]) {
      const data = repeated(length, fill);
      assert.equal(
        onesSum(viewOf(data, 1), 1, 1 + length, 0xffff),
        referenceSum([...data, ...(length % 2 ? [0] : []), 0xff, 0xff]),
      );
    }
  }
});

test('S23: fold carries round', () => {
  fc.assert(
    fc.property(u32, (sum) => assert.equal(fold(sum), referenceSum(be32(sum)))),
    RUNS,
  );
});

test('S23: pseudoSum is the sum of the pseudo-header', () => {
  fc.assert(
    fc.property(u32, u32, u16, (src, dst, length) => {
      assert.equal(pseudoSum(src, dst, 6, length), referenceSum(pseudoHeader(src, dst, 6, length)));
    }),
    RUNS,
  );
});

test('S23: an updated checksum is the one a full computation gives (RFC 1624)', () => {
  // As in every real header, some word is not zero.
  fc.assert(
    fc.property(bytes, u32, u32, u16, u16, (rest, long, longAfter, short, shortAfter) => {
      const before = referenceChecksum([0x45, 0, ...be32(long), ...be16(short), ...rest]);
      const after = referenceChecksum([0x45, 0, ...be32(longAfter), ...be16(shortAfter), ...rest]);
      assert.equal(updateChecksum(before, delta32(long, longAfter) + delta16(short, shortAfter)), after);
    }),
    RUNS,
  );
});

test('S23: the update works at the corner of RFC 1624 §4', () => {
  // The example there: the naive update gives 0xffff, the right sum is 0.
  assert.equal(updateChecksum(0xdd2f, delta16(0x5555, 0x3285)), 0x0000);
});

test('S23: a partial checksum is updated without complement', () => {
  fc.assert(
    fc.property(u32, u32, u32, u32, u16, (src, dst, srcAfter, dstAfter, length) => {
      const before = pseudoSum(src, dst, 6, length);
      const after = referenceSum(pseudoHeader(srcAfter, dstAfter, 6, length));
      assert.equal(updatePartial(before, delta32(src, srcAfter) + delta32(dst, dstAfter)), after);
    }),
    RUNS,
  );
});

test('S23: a number on an odd offset counts with its bytes exchanged', () => {
  fc.assert(
    fc.property(u32, u32, fc.nat(255), fc.nat(255), (before, after, first, last) => {
      const was = referenceChecksum([0x45, first, 1, ...be32(before), last]);
      const is = referenceChecksum([0x45, first, 1, ...be32(after), last]);
      assert.equal(updateChecksum(was, swapped(delta32(before, after))), is);
    }),
    RUNS,
  );
});
