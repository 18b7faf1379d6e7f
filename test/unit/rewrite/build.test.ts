import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { SegmentWriter } from '../../../src/rewrite/build.ts';
import { toSeq } from '../../../src/rewrite/numbers.ts';
import type { Ipv4, Port } from '../../../src/rewrite/numbers.ts';
import { Packet } from '../../../src/rewrite/packet.ts';
import { TCP_ACK, TCP_SYN } from '../../../src/rewrite/tcp.ts';
import { RUNS, u16, u32 } from './arbitraries.ts';
import { SUPER_PACKET, SYN } from './fixtures.ts';
import { completed, referenceSum, pseudoHeader, verifies } from './reference.ts';

const OFF = 5;

/** Everything that can be set on a writer. */
const fields = fc.record({
  src: u32,
  dst: u32,
  srcPort: u16,
  dstPort: u16,
  seq: u32,
  ack: u32,
  flags: fc.nat(0xff).map((more) => (more & 0xf8) | TCP_ACK),
  window: u16,
  ident: u16,
  tos: fc.nat(255),
  mss: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 0xffff })),
  wscale: fc.integer({ min: -1, max: 14 }),
  sackPermitted: fc.boolean(),
  timestamps: fc.option(fc.tuple(u32, u32)),
  blocks: fc.array(fc.tuple(u32, u32), { maxLength: 5 }),
  payload: fc.oneof(fc.uint8Array({ maxLength: 50 }), fc.uint8Array({ minLength: 1400, maxLength: 4000 })),
  gsoSize: fc.constantFrom(0, 10, 536, 1448),
  partial: fc.boolean(),
});

type Fields = typeof fields extends fc.Arbitrary<infer T> ? T : never;

const writer = new SegmentWriter();
const buffer = new Uint8Array(70_000);

/** Writes a segment and returns its bytes. */
function write(f: Fields): number[] {
  buffer.fill(0xa5);
  writer.reset();
  writer.src = f.src as Ipv4;
  writer.dst = f.dst as Ipv4;
  writer.srcPort = f.srcPort as Port;
  writer.dstPort = f.dstPort as Port;
  writer.seq = toSeq(f.seq);
  writer.ack = toSeq(f.ack);
  writer.flags = f.flags;
  writer.window = f.window;
  writer.ident = f.ident;
  writer.tos = f.tos;
  writer.mss = f.mss;
  writer.wscale = f.wscale;
  writer.sackPermitted = f.sackPermitted;
  if (f.timestamps !== null) writer.setTimestamps(...f.timestamps);
  f.blocks.forEach(([left, right], i) => assert.equal(writer.addSack(toSeq(left), toSeq(right)), i < 4));
  writer.payloadLen = f.payload.length;
  writer.gsoSize = f.gsoSize;
  writer.partial = f.partial;
  buffer.set(f.payload, writer.payloadOffset(OFF));
  const length = writer.write(buffer, OFF);
  assert.ok(buffer.subarray(0, OFF).every((byte) => byte === 0xa5));
  assert.ok(buffer.subarray(OFF + length).every((byte) => byte === 0xa5));
  return [...buffer.subarray(OFF, OFF + length)];
}

function parsed(length: number): Packet {
  const packet = new Packet();
  packet.attach(buffer);
  assert.equal(packet.parse(OFF, length), 0);
  return packet;
}

test('what was set is what parse reads', () => {
  fc.assert(
    fc.property(fields, (f) => {
      const p = parsed(write(f).length);
      assert.deepEqual([p.src, p.dst, p.srcPort, p.dstPort], [f.src, f.dst, f.srcPort, f.dstPort]);
      assert.deepEqual([p.seq, p.ack, p.flags, p.window, p.tos], [f.seq, f.ack, f.flags, f.window, f.tos]);
      assert.deepEqual([p.mss, p.wscale, p.sackPermAt !== 0], [f.mss, f.wscale, f.sackPermitted]);
      assert.equal(p.view.getUint16(p.ip + 4), f.ident);
      assert.deepEqual(p.tsAt === 0 ? null : [p.tsVal, p.tsEcr], f.timestamps);
      assert.equal(p.duplicateOptions, false);
      assert.deepEqual([...buffer.subarray(p.payload, p.end)], [...f.payload]);
      for (let i = 0; i < p.sackCount; i++)
        assert.deepEqual([p.view.getUint32(p.sackAt + 2 + 8 * i), p.view.getUint32(p.sackAt + 6 + 8 * i)], f.blocks[i]);
      // All blocks that found room, and no header beyond its limit.
      assert.ok(p.headerLen <= 60 && (p.sackCount === Math.min(4, f.blocks.length) || p.headerLen > 60 - 12));
      assert.deepEqual([p.ttl, p.ihl, p.view.getUint16(p.ip + 6)], [64, 20, 0x4000]);
    }),
    RUNS,
  );
});

test('S17: three blocks fit beside timestamps', () => {
  const some = fc.sample(fields, 1)[0];
  assert.ok(some !== undefined);
  const f: Fields = {
    ...some,
    mss: 0,
    wscale: -1,
    sackPermitted: false,
    timestamps: [1, 2],
    blocks: [
      [1, 2],
      [3, 4],
      [5, 6],
      [7, 8],
    ],
  };
  assert.equal(parsed(write(f).length).sackCount, 3);
  assert.equal(parsed(write({ ...f, timestamps: null }).length).sackCount, 4);
});

test('S23: checksums verify, partial ones once a device completes them', () => {
  fc.assert(
    fc.property(fields, (f) => {
      const bytes = write(f);
      const gso = f.gsoSize > 0 && f.payload.length > f.gsoSize;
      const p = parsed(bytes.length);
      assert.equal(p.needsCsum, f.partial || gso);
      assert.deepEqual([p.gsoType, p.gsoSize], gso ? [1, f.gsoSize] : [0, 0]);
      assert.equal(verifies(completed(bytes)), true);
      if (p.needsCsum) {
        const length = p.end - p.l4;
        assert.equal(p.view.getUint16(p.l4 + 16), referenceSum(pseudoHeader(f.src, f.dst, 6, length)));
      } else assert.equal(p.verifyL4Checksum(), true);
    }),
    RUNS,
  );
});

describe('S10: the options of a segment are laid out as Linux does', () => {
  test('a SYN', () => {
    writer.reset();
    writer.src = 0x0a090001 as Ipv4;
    writer.dst = 0x0a090002 as Ipv4;
    writer.srcPort = 51630 as Port;
    writer.dstPort = 8080 as Port;
    writer.seq = toSeq(0x546703f3);
    writer.flags = TCP_SYN;
    writer.window = 64240;
    writer.ident = 0x5ad0;
    writer.mss = 1460;
    writer.sackPermitted = true;
    writer.wscale = 10;
    writer.setTimestamps(0xd1c97b76, 0);
    assert.deepEqual([...buffer.subarray(0, writer.write(buffer, 0))], SYN);
  });

  test('S44: a super-packet', () => {
    writer.reset();
    writer.src = 0x0a090001 as Ipv4;
    writer.dst = 0x0a090002 as Ipv4;
    writer.srcPort = 51630 as Port;
    writer.dstPort = 8080 as Port;
    writer.seq = toSeq(0x546703f9);
    writer.ack = toSeq(0x8184edec);
    writer.flags = 0x18;
    writer.window = 63;
    writer.ident = 0x5ad3;
    writer.setTimestamps(0xd1c97b76, 0x215e3b78);
    writer.payloadLen = 7240;
    writer.gsoSize = 1448;
    buffer.fill(0x78, writer.payloadOffset(0), writer.payloadOffset(0) + 7240);
    assert.deepEqual([...buffer.subarray(0, writer.write(buffer, 0))], SUPER_PACKET);
  });
});

test('reset forgets everything', () => {
  const fresh = new SegmentWriter();
  const small = new Uint8Array(100);
  const expected = [...small.subarray(0, fresh.write(small, 0))];
  fc.assert(
    fc.property(fields, (f) => {
      write(f);
      writer.reset();
      assert.deepEqual([...buffer.subarray(0, writer.write(buffer, 0))], expected);
    }),
    { numRuns: 30 },
  );
});

test("a segment that does not fit is the caller's mistake", () => {
  writer.reset();
  writer.payloadLen = 65535 - 40 + 1;
  assert.throws(() => writer.write(buffer, 0), RangeError);
  writer.payloadLen = 65535 - 40;
  assert.equal(writer.write(buffer, 0), 65545);
  assert.throws(() => writer.write(new Uint8Array(49), 0), RangeError);
});
