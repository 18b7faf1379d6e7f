/** Bytes that nobody checked: parse never throws, never looks outside the packet, and what it accepts is what it says. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { DROP_REASONS } from '../../../src/rewrite/drops.ts';
import { toSeq } from '../../../src/rewrite/numbers.ts';
import type { Ipv4, Port } from '../../../src/rewrite/numbers.ts';
import { Packet } from '../../../src/rewrite/packet.ts';
import {
  finish,
  setAck,
  setDestination,
  setIcmpId,
  setMss,
  setSeq,
  setSource,
  setTimestamps,
  setWindow,
  setWindowScale,
  stripOption,
  translateSack,
} from '../../../src/rewrite/translate.ts';
import { icmpEcho, tcpPacket, u32, udpPacket } from './arbitraries.ts';
import { DATAGRAM, RST, SACK, SUPER_PACKET, SYN, SYN_ACK } from './fixtures.ts';
import { be16, encodeIcmp, encodeTcp, encodeUdp, referenceChecksum, repeated } from './reference.ts';

const REASONS = new Set<number>([0, ...Object.values(DROP_REASONS)]);

/** The view, failing on any access outside of [from, to). */
function guard(view: DataView, from: number, to: number): DataView {
  return new Proxy(view, {
    get(target, name): unknown {
      const member: unknown = Reflect.get(target, name, target);
      if (typeof member !== 'function') return member;
      const bytes = Number(/\d+$/.exec(String(name))?.[0]) / 8;
      return (at: number, ...rest: unknown[]): unknown => {
        assert.ok(at >= from && at + bytes <= to, `${String(name)} at ${at}, outside of ${from} to ${to}`);
        return Reflect.apply(member, target, [at, ...rest]);
      };
    },
  });
}

const OFF = 3;

/** The packet in the middle of a buffer of random-looking bytes that would be options, lengths and flags if they were read. */
function guarded(bytes: readonly number[]): Packet {
  const buffer = new Uint8Array(bytes.length + 80).fill(0x45);
  buffer.set(bytes, OFF);
  const packet = new Packet();
  packet.view = guard(new DataView(buffer.buffer), OFF, OFF + bytes.length);
  return packet;
}

/** What holds for every packet that was accepted. */
function invariants(p: Packet, length: number): void {
  assert.ok(p.off === OFF && p.ip === p.off + 10);
  assert.ok(p.ihl >= 20 && p.ihl <= 60 && p.l4 === p.ip + p.ihl);
  assert.ok(p.l4 <= p.payload && p.payload + p.payloadLen <= p.end && p.end <= p.off + length);
  assert.equal(p.end, p.ip + p.totalLen);
  assert.ok(p.proto === 1 || p.proto === 6 || p.proto === 17);
  for (const address of [p.src, p.dst]) assert.ok(Number.isInteger(address) && address >= 0 && address <= 0xffffffff);
  assert.equal(p.gsoSize > 0, p.gsoType !== 0);
  if (p.gsoType !== 0) assert.ok(p.needsCsum);
  if (p.proto !== 6) return;
  assert.equal(p.payload, p.l4 + p.headerLen);
  assert.equal(p.payload + p.payloadLen, p.end);
  assert.ok(p.sackCount >= 0 && p.sackCount <= 4 && p.sackCount > 0 === p.sackAt > 0);
  assert.ok(p.wscale >= 0 === p.wscaleAt > 0);
  for (const at of [p.mssAt, p.wscaleAt, p.sackPermAt, p.sackAt, p.tsAt, p.fastOpenAt, p.md5At, p.aoAt, p.mptcpAt])
    if (at !== 0) assert.ok(at >= p.l4 + 20 && at + p.view.getUint8(at + 1) <= p.payload);
}

/** Changes everything that can be changed. */
function translateAll(p: Packet, n: number): void {
  setSource(p, n as Ipv4, (n & 0xffff) as Port);
  setDestination(p, (~n >>> 0) as Ipv4, (n >>> 16) as Port);
  if (p.proto === 1 && p.icmpId >= 0) setIcmpId(p, n & 0xffff);
  if (p.proto === 6) {
    setSeq(p, toSeq(n));
    setAck(p, toSeq(n + 1));
    setWindow(p, n & 0xffff);
    setTimestamps(p, n, n);
    setMss(p, n & 0xffff);
    setWindowScale(p, n & 255);
    translateSack(p, n, toSeq(n), toSeq(n + 2 ** 30));
    if (n % 3 === 0)
      for (const at of [p.mssAt, p.tsAt, p.sackAt, p.fastOpenAt, p.md5At, p.mptcpAt]) if (at !== 0) stripOption(p, at);
  }
  finish(p);
}

test('the guard itself fails on every access outside', () => {
  const view = guarded([1, 2, 3, 4]).view;
  assert.equal(view.getUint32(OFF), 0x01020304);
  for (const read of [() => view.getUint8(OFF - 1), () => view.getUint16(OFF + 3), () => view.setUint32(OFF + 1, 0)])
    assert.throws(read, /outside/);
});

function survives(bytes: readonly number[], n: number): void {
  const p = guarded(bytes);
  const reason = p.parse(OFF, bytes.length);
  assert.ok(REASONS.has(reason));
  if (reason !== 0) return;
  invariants(p, bytes.length);
  // A message of zeros with a checksum of 0 is the one wrong sum that an update cannot tell from the right one.
  const sumWasRight = p.verifyL4Checksum() || bytes.slice(p.l4 - OFF, p.end - OFF).every((byte) => byte === 0);
  translateAll(p, n);
  invariants(p, bytes.length);
  assert.equal(p.verifyL4Checksum(), sumWasRight);
  assert.equal(p.parse(OFF, bytes.length), 0);
  invariants(p, bytes.length);
}

const RUNS = { numRuns: 3000 };
const byte = fc.nat(255);

test('S24: random bytes', () => {
  fc.assert(fc.property(fc.array(byte, { maxLength: 120 }), u32, survives), RUNS);
});

/** An IP header with a right checksum before random bytes, so that they are looked at. */
test('S24: random bytes behind a good IP header', () => {
  const protocol = fc.constantFrom(1, 6, 6, 6, 17);
  fc.assert(
    fc.property(fc.array(byte, { maxLength: 80 }), protocol, u32, (l4, proto, n) => {
      const header = [0x45, 0, ...be16(20 + l4.length), 0, 0, 0x40, 0, 64, proto, 0, 0, 10, 9, 0, 1, 10, 9, 0, 2];
      header.splice(10, 2, ...be16(referenceChecksum(header)));
      survives([...repeated(10, 0), ...header, ...l4], n);
    }),
    RUNS,
  );
});

test('S24: random option bytes in a good TCP header', () => {
  const kind = fc.constantFrom(0, 1, 2, 3, 4, 5, 8, 19, 29, 30, 34, 254);
  const bytes = fc.array(fc.oneof(kind, fc.nat(12), byte), { minLength: 4, maxLength: 40 });
  fc.assert(
    fc.property(bytes, u32, (drawn, n) => {
      const options = drawn.slice(0, drawn.length & ~3);
      const length = 20 + options.length;
      const tcp = [0, 1, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, (length / 4) << 4, 0x10, 0, 5, 0, 0, 0, 0, ...options];
      const header = [0x45, 0, ...be16(20 + length), 0, 0, 0x40, 0, 64, 6, 0, 0, 10, 9, 0, 1, 10, 9, 0, 2];
      header.splice(10, 2, ...be16(referenceChecksum(header)));
      survives([...repeated(10, 0), ...header, ...tcp], n);
    }),
    RUNS,
  );
});

const valid = fc.oneof(
  tcpPacket.map((p) => encodeTcp({ ...p, payload: p.payload.slice(0, 60) })),
  udpPacket.map((p) => encodeUdp({ ...p, payload: p.payload.slice(0, 60) })),
  icmpEcho.map((p) => encodeIcmp({ ...p, payload: p.payload.slice(0, 60) })),
  fc.constantFrom(SYN, SYN_ACK, SACK, RST, DATAGRAM, SUPER_PACKET.slice(0, 200)),
);

test('S24: good packets with bytes changed and cut off', () => {
  const change = fc.tuple(fc.nat(110), byte);
  fc.assert(
    fc.property(
      valid,
      fc.array(change, { maxLength: 4 }),
      fc.option(fc.nat(110)),
      fc.boolean(),
      u32,
      (packet, changes, cut, mend, n) => {
        const bytes = [...packet];
        for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value;
        const headerLength = ((bytes[10] ?? 0) & 15) * 4;
        if (mend && headerLength >= 20 && bytes.length >= 10 + headerLength) {
          bytes.splice(20, 2, 0, 0);
          bytes.splice(20, 2, ...be16(referenceChecksum(bytes.slice(10, 10 + headerLength))));
        }
        survives(cut === null ? bytes : bytes.slice(0, cut), n);
      },
    ),
    RUNS,
  );
});

test('S24: a good packet cut off anywhere is refused', () => {
  for (const packet of [SYN, SACK, RST, DATAGRAM, SUPER_PACKET.slice(0, 80)]) {
    for (let length = 0; length < packet.length; length++) {
      const p = guarded(packet.slice(0, length));
      assert.notEqual(p.parse(OFF, length), 0);
    }
  }
});
