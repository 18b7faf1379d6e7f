import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  formatIpv4,
  offsetOfSeq,
  parseIpv4,
  seqAdd,
  seqBefore,
  seqDiff,
  seqMax,
  seqMin,
  seqOfOffset,
  toPort,
  toSeq,
} from '../../../src/rewrite/numbers.ts';
import type { Offset } from '../../../src/rewrite/numbers.ts';
import { RUNS, u32 } from './arbitraries.ts';

const seq = u32.map(toSeq);
/** Stream offsets, many wraps in, and the SYN's. */
const offset = fc
  .oneof(fc.integer({ min: -1, max: 2 ** 20 }), fc.integer({ min: 0, max: 2 ** 52 }))
  .map((n) => n as Offset);

function modulo(value: bigint): number {
  return Number(BigInt.asUintN(32, value));
}

test('S16: seqDiff is the signed distance on the circle', () => {
  fc.assert(
    fc.property(seq, seq, (a, b) => {
      assert.equal(seqDiff(a, b), Number(BigInt.asIntN(32, BigInt(a) - BigInt(b))));
      assert.equal(seqBefore(a, b), seqDiff(a, b) < 0);
    }),
    RUNS,
  );
});

test('S16: seqAdd is modulo 2^32, for negative and huge counts too', () => {
  fc.assert(
    fc.property(seq, fc.integer({ min: -(2 ** 52), max: 2 ** 52 }), (a, n) => {
      assert.equal(seqAdd(a, n), modulo(BigInt(a) + BigInt(n)));
    }),
    RUNS,
  );
});

test('seqMax and seqMin pick by the circle, not by value', () => {
  const high = toSeq(0xfffffff0);
  const wrapped = toSeq(5);
  assert.equal(seqMax(high, wrapped), wrapped);
  assert.equal(seqMin(high, wrapped), high);
  assert.equal(seqMax(wrapped, high), wrapped);
  assert.equal(seqMin(wrapped, high), high);
});

test('S1: seqOfOffset follows a stream over any number of wraps', () => {
  fc.assert(
    fc.property(seq, offset, (isn1, off) => {
      assert.equal(seqOfOffset(isn1, off), modulo(BigInt(isn1) + BigInt(off)));
    }),
    RUNS,
  );
  assert.equal(seqOfOffset(toSeq(0), -1 as Offset), 0xffffffff);
});

test('S1: offsetOfSeq finds the offset nearest to its anchor', () => {
  const distance = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 });
  fc.assert(
    fc.property(seq, offset, distance, (isn1, anchor, away) => {
      const found = offsetOfSeq(seqOfOffset(isn1, (anchor + away) as Offset), seqOfOffset(isn1, anchor), anchor);
      assert.equal(BigInt(found), BigInt(anchor) + BigInt(away));
    }),
    RUNS,
  );
});

test('addresses are written and read as dotted quads', () => {
  assert.equal(formatIpv4(0x7f000001), '127.0.0.1');
  assert.equal(parseIpv4('127.0.0.1'), 0x7f000001);
  assert.equal(parseIpv4('255.255.255.255'), 0xffffffff);
  fc.assert(
    fc.property(u32, (address) => assert.equal(parseIpv4(formatIpv4(address)), address)),
    RUNS,
  );
});

test('what is not a plain dotted quad is no address', () => {
  for (const text of [
    '',
    '1.2.3',
    '1.2.3.4.5',
    '256.1.1.1',
    '01.2.3.4',
    '1.2.3.4 ',
    ' 1.2.3.4',
    '1.2.3.-4',
    '0x7f.0.0.1',
    '1.2.3.4\n',
  ])
    assert.equal(parseIpv4(text), undefined, JSON.stringify(text));
});

test('a port is a whole number from 1 to 65535', () => {
  assert.equal(toPort(1), 1);
  assert.equal(toPort(0xffff), 0xffff);
  for (const value of [0, -1, 65536, 1.5, Number.NaN, Number.POSITIVE_INFINITY]) assert.equal(toPort(value), undefined);
});
