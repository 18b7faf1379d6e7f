import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { seqAdd, toSeq } from '../../../src/rewrite/numbers.ts';
import { finish, translateSack } from '../../../src/rewrite/translate.ts';
import { RUNS, tcpPacket, u32 } from './arbitraries.ts';
import { accepted } from './held.ts';
import { encodeTcp, passedOn, repeated } from './reference.ts';
import type { Option, TcpPacket } from './reference.ts';

type Block = [number, number];

/** The distance from `from` on to `to`, once round at most, in exact arithmetic. */
function onwards(from: number, to: number): bigint {
  return BigInt.asUintN(32, BigInt(to) - BigInt(from));
}

function shifted(edge: number, delta: number): number {
  return Number(BigInt.asUintN(32, BigInt(edge) + BigInt(delta)));
}

/** What RFC 2018 blocks are left, and where the room they leave is filled with NOPs. */
function expected(blocks: readonly Block[], delta: number, lowest: number, room: number): Option[] {
  const moved = blocks.map(([left, right]): Block => [shifted(left, delta), shifted(right, delta)]);
  const kept = moved.filter(
    ([left, right]) => onwards(lowest, left) < onwards(lowest, right) && onwards(lowest, right) <= BigInt(room),
  );
  const nops = (count: number): Option[] => repeated(count, { kind: 'nop' });
  if (kept.length === 0) return nops(2 + 8 * blocks.length);
  return [{ kind: 'sack', blocks: kept }, ...nops(8 * (blocks.length - kept.length))];
}

function check(drawn: TcpPacket, nops: number, blocks: Block[], delta: number, lowest: number, room: number): void {
  const before: Option[] = repeated(nops, { kind: 'nop' });
  const described: TcpPacket = { ...drawn, options: [...before, { kind: 'sack', blocks }] };
  const held = accepted(encodeTcp(described));
  translateSack(held.packet, delta, toSeq(lowest), seqAdd(toSeq(lowest), room));
  finish(held.packet);

  const options = [...before, ...expected(blocks, delta, lowest, room)];
  assert.deepEqual(held.bytes(), encodeTcp(passedOn({ ...described, options })));
  assert.equal(held.guardsIntact(), true);
  const again = accepted(held.bytes());
  assert.deepEqual([held.packet.sackAt, held.packet.sackCount], [again.packet.sackAt, again.packet.sackCount]);
}

test('S17: blocks are shifted, what lies outside the bounds goes, the rest moves up', () => {
  // Blocks around the bounds, so that each end falls inside, outside and on them.
  const near = fc.tuple(fc.integer({ min: -50, max: 250 }), fc.integer({ min: -5, max: 60 }));
  const delta = fc.oneof(u32, fc.integer({ min: -(2 ** 32), max: 2 ** 32 }), fc.constant(0));
  fc.assert(
    fc.property(
      tcpPacket,
      fc.nat(3),
      fc.array(near, { minLength: 1, maxLength: 4 }),
      delta,
      u32,
      fc.nat(200),
      (drawn, nops, places, by, lowest, room) => {
        const blocks = places.map(([start, length]): Block => {
          const left = shifted(lowest, start - by);
          return [left, shifted(left, length)];
        });
        check(drawn, nops, blocks, by, lowest, room);
      },
    ),
    { numRuns: 800 },
  );
});

test('S17: any four blocks, with bounds up to half the circle apart', () => {
  fc.assert(
    fc.property(
      tcpPacket,
      fc.nat(3),
      fc.array(fc.tuple(u32, u32), { minLength: 1, maxLength: 4 }),
      u32,
      u32,
      fc.nat(2 ** 31 - 1),
      check,
    ),
    RUNS,
  );
});

/** A segment that acknowledges 1000, with the blocks. */
function acknowledging(blocks: Block[]): TcpPacket {
  return {
    proto: 'tcp',
    checksum: 'full',
    gsoSize: 0,
    ecn: false,
    src: 1,
    dst: 2,
    tos: 0,
    ident: 0,
    dontFragment: true,
    ttl: 64,
    ipOptions: [],
    srcPort: 1,
    dstPort: 2,
    seq: 0,
    ack: 1000,
    flags: 0x10,
    window: 9,
    urgent: 0,
    reserved: 0,
    options: [{ kind: 'nop' }, { kind: 'nop' }, { kind: 'sack', blocks }],
    payload: [],
    padding: [],
  };
}

function blocksAfter(blocks: Block[], delta: number, lowest: number, highest: number): Block[] {
  const { packet: p } = accepted(encodeTcp(acknowledging(blocks)));
  translateSack(p, delta, toSeq(lowest), toSeq(highest));
  finish(p);
  assert.equal(p.verifyL4Checksum(), true);
  return Array.from({ length: p.sackCount }, (_, i): Block => [
    p.view.getUint32(p.sackAt + 2 + 8 * i),
    p.view.getUint32(p.sackAt + 6 + 8 * i),
  ]);
}

test('S17: a D-SACK block below the acknowledgement stays first if the bounds allow it (RFC 2883 §4)', () => {
  const blocks: Block[] = [
    [500, 600],
    [1500, 1600],
  ];
  assert.deepEqual(blocksAfter(blocks, 10000, 10001, 12000), [
    [10500, 10600],
    [11500, 11600],
  ]);
  assert.deepEqual(blocksAfter(blocks, 10000, 11000, 12000), [[11500, 11600]]);
});

test('S17: a D-SACK block within a later block stays first (RFC 2883 §4.2)', () => {
  const blocks: Block[] = [
    [1500, 1600],
    [1400, 1900],
  ];
  assert.deepEqual(blocksAfter(blocks, 0, 1000, 2000), blocks);
});

test('S17: bounds are inclusive, across the wrap too; empty and backward blocks go', () => {
  assert.deepEqual(blocksAfter([[0xfffffff0, 0x10]], 0, 0xfffffff0, 0x10), [[0xfffffff0, 0x10]]);
  assert.deepEqual(blocksAfter([[0xffffffef, 0x10]], 0, 0xfffffff0, 0x10), []);
  assert.deepEqual(blocksAfter([[0xfffffff0, 0x11]], 0, 0xfffffff0, 0x10), []);
  assert.deepEqual(
    blocksAfter(
      [
        [5, 5],
        [6, 5],
        [5, 6],
      ],
      0,
      0,
      100,
    ),
    [[5, 6]],
  );
});

test('S17: bounds without room keep nothing', () => {
  assert.deepEqual(blocksAfter([[10, 20]], 0, 100, 100), []);
  assert.deepEqual(blocksAfter([[10, 20]], 0, 100, 99), []);
});
