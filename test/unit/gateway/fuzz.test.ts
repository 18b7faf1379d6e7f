/** S24: whatever the devices bring, nothing throws, what is bad is counted by its reason, and what is emitted is well formed. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { established, frozen, spliced, talked } from './factories.ts';
import { Bench } from './lang.ts';
import { wordSum } from './wire.ts';

/** A good segment of the peer, as bytes. */
function good(t: Bench, device: number): Uint8Array {
  let bytes = new Uint8Array();
  const packet = t.plane.packet.bind(t.plane);
  t.plane.packet = (_, offset, length) => {
    bytes = t.ctx.out.buffer.slice(offset, offset + length);
  };
  if (device === 0) t.fromPeer({ seq: 0, ack: 0, len: 100, partial: false });
  else t.fromGuest('a', { seq: 0, ack: 0, len: 100, partial: false });
  t.plane.packet = packet;
  return bytes;
}

/** Puts the IPv4 header checksum right. */
function ipSum(bytes: Uint8Array): Uint8Array {
  bytes[20] = bytes[21] = 0;
  const length = (bytes[10]! & 15) * 4;
  const sum = 0xffff - wordSum(bytes, 10, Math.min(bytes.length, 10 + length));
  bytes[20] = sum >> 8;
  bytes[21] = sum & 255;
  return bytes;
}

const MALFORMED: readonly [string, (bytes: Uint8Array) => Uint8Array | void][] = [
  ['truncated', (b) => b.slice(0, 9)],
  ['truncated', (b) => b.slice(0, 25)],
  ['truncated', (b) => b.slice(0, 60)],
  ['ipv6', (b) => void (b[10] = 0x60)],
  ['bad-version', (b) => void (b[10] = 0x35)],
  ['bad-header-length', (b) => void (b[10] = 0x44)],
  ['bad-total-length', (b) => (b.set([0, 19], 12), ipSum(b))],
  ['truncated', (b) => (b.set([0xff, 0xff], 12), ipSum(b))],
  ['bad-ip-checksum', (b) => void (b[20]! ^= 1)],
  ['fragment', (b) => (b.set([0x20, 0], 16), ipSum(b))],
  ['fragment', (b) => (b.set([0, 5], 16), ipSum(b))],
  ['unsupported-protocol', (b) => ((b[19] = 132), ipSum(b))],
  ['bad-tcp-offset', (b) => void (b[42] = 0x40)],
  ['bad-tcp-options', (b) => void (b[42] = 0xf0)],
  ['bad-tcp-options', (b) => b.set([8, 1], 50)],
  ['bad-tcp-options', (b) => b.set([8, 40], 50)],
  ['bad-tcp-options', (b) => b.set([3, 9], 50)],
  ['bad-tcp-flags', (b) => void (b[43] = 0)],
  ['bad-tcp-flags', (b) => void (b[43] = 3)],
  ['bad-tcp-flags', (b) => void (b[43] = 6)],
  ['bad-udp-length', (b) => ((b[19] = 17), b.set([0, 7], 34), ipSum(b))],
  ['bad-icmp-length', (b) => ((b[19] = 1), b.set([0, 24], 12), ipSum(b))],
  ['bad-vnet-header', (b) => b.set([1, 0, 0, 0, 0, 0, 99, 0, 16, 0])],
  ['bad-vnet-header', (b) => b.set([1, 1, 0, 0, 0, 0, 20, 0, 16, 0])],
  ['bad-vnet-header', (b) => b.set([0, 9, 0, 0, 5, 0, 0, 0, 0, 0])],
  ['bad-l4-checksum', (b) => void (b[b.length - 1]! ^= 1)],
];

for (const [reason, damage] of MALFORMED)
  test(`S24: ${reason}: dropped and counted on both sides, and the flow goes on`, () => {
    const t = established();
    for (const device of [0, 1]) {
      const bytes = good(t, device);
      t.raw(device, damage(bytes) ?? bytes);
      t.expectNothing();
    }
    assert.deepEqual(t.drops(), { [reason]: 2 });
    t.fromPeer({ seq: 0, len: 100 });
    t.expectToGuest('a', { len: 100 });
  });

test('S24: unknown options pass, with EOL and NOP as they stand', () => {
  const t = established();
  const bytes = good(t, 0);
  // The timestamps become an unknown kind, and an end of list with a byte behind it.
  bytes.set([1, 1, 253, 6, 1, 2, 3, 4, 0, 77, 0, 0], 50);
  bytes[46] = bytes[47] = 0;
  const l4 = bytes.length - 30;
  const sum = 0xffff - wordSum(bytes, 30, bytes.length, wordSum(bytes, 22, 30, 6 + l4));
  bytes[46] = sum >> 8;
  bytes[47] = sum & 255;
  t.raw(0, bytes);
  assert.deepEqual(t.expectToGuest('a', { len: 100 }).kinds, [253]);
});

const states: readonly [string, () => Bench][] = [
  ['nothing', () => new Bench()],
  ['established', () => established()],
  ['talked', () => talked(5000, 5000)],
  ['frozen', () => frozen(talked(5000, 5000))],
  ['spliced', () => spliced(5000, frozen(talked(5000, 5000)))],
];

for (const [name, make] of states)
  test(`S24: random bytes and random damage never throw: ${name}`, () => {
    const t = make();
    t.allowReset = true;
    // What is watched holds for a peer and a guest that keep to TCP.
    t.ports = { ...t.ports };
    const bases = [0, 1, 2].map((device) => good(t, device));
    const tuple = { ...t.ports };
    fc.assert(
      fc.property(
        fc.nat(2),
        fc.array(fc.tuple(fc.nat(180), fc.nat(255)), { maxLength: 6 }),
        fc.nat(180),
        fc.boolean(),
        (device, edits, cut, fix) => {
          // Not the watched tuple: random segments would look like an end that lies.
          t.ports = { guest: 1, outside: 1, peer: 1 };
          const bytes = bases[device]!.slice();
          for (const [at, value] of edits) if (at < bytes.length) bytes[at] = value;
          const shorter = cut < 20 ? bytes.slice(0, bytes.length - cut) : bytes;
          if (fix && shorter.length > 40) ipSum(shorter);
          t.raw(device, shorter);
          t.drain();
          t.ports = tuple;
        },
      ),
      { numRuns: 3000 },
    );
    fc.assert(
      fc.property(fc.nat(2), fc.uint8Array({ maxLength: 120 }), (device, bytes) => {
        t.raw(device, bytes);
        t.drain();
      }),
      { numRuns: 500 },
    );
    t.advance(10_000, 100);
  });

test('S24 S33: random segments of the right tuple, each well formed, in every state: no throw, no ACK of what is not held', () => {
  const FLAGS = ['A', 'PA', 'FA', 'R', 'RA', 'S', 'SA', 'FPA'];
  fc.assert(
    fc.property(
      fc.constantFrom(...states.slice(1)),
      fc.array(
        fc.record({
          from: fc.constantFrom('peer' as const, 'a' as const, 'b' as const),
          flags: fc.constantFrom(...FLAGS),
          seq: fc.integer({ min: -3000, max: 12_000 }),
          ack: fc.integer({ min: -3000, max: 12_000 }),
          len: fc.constantFrom(0, 0, 1, 100, 1448),
          win: fc.constantFrom(0, 1, 500, 65_535),
        }),
        { maxLength: 30 },
      ),
      ([, make], segments) => {
        const t = make();
        t.allowReset = true;
        const id = t.f.flowId[t.slot()]!;
        for (const { from, flags, ...segment } of segments) {
          // A new connection of the same ports begins other streams.
          if (t.slot() < 0 || t.f.flowId[t.slot()] !== id) break;
          const len = flags.includes('S') || flags.includes('R') ? 0 : segment.len;
          if (from === 'peer') t.fromPeer({ ...segment, len, flags });
          else {
            // A guest that acknowledges what it never got, or writes over itself, harms only its own connection.
            const slot = t.slot();
            const next = slot < 0 ? 0 : t.f.guestNxt[slot]!;
            const most = slot < 0 ? 0 : t.f.peerNxt[slot]!;
            t.fromGuest(from, {
              ...segment,
              len,
              flags,
              seq: flags.includes('S') ? -1 : next,
              ack: Math.min(segment.ack, most),
            });
          }
          t.drain();
          t.advance(50);
        }
        assert.ok(t.ctx.custody.room() >= 0);
      },
    ),
    { numRuns: 200 },
  );
});
