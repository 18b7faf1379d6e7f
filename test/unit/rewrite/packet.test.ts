import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { DROP_REASONS } from '../../../src/rewrite/drops.ts';
import type { DropReasonName } from '../../../src/rewrite/drops.ts';
import { toSeq } from '../../../src/rewrite/numbers.ts';
import type { Ipv4, Port } from '../../../src/rewrite/numbers.ts';
import { Packet } from '../../../src/rewrite/packet.ts';
import { TCP_ACK, TCP_PSH, TCP_RST, TCP_SYN } from '../../../src/rewrite/tcp.ts';
import { DATAGRAM, RST, SACK, SUPER_PACKET, SYN, SYN_ACK, hex } from './fixtures.ts';
import { setSeq, setSource } from '../../../src/rewrite/translate.ts';
import { RUNS, tcpPacket } from './arbitraries.ts';
import { Held, accepted } from './held.ts';
import { VNET, be16, completed, encodeTcp, referenceChecksum, repeated, verifies } from './reference.ts';

const IP = VNET;
const L4 = VNET + 20;

type Change = readonly [at: number, ...bytes: number[]];

/** The packet with bytes changed, and its IP checksum right again. */
function changed(packet: readonly number[], ...changes: readonly Change[]): number[] {
  const bytes = [...packet];
  for (const [at, ...values] of changes) bytes.splice(at, values.length, ...values);
  bytes.splice(IP + 10, 2, 0, 0);
  const headerLength = ((bytes[IP] ?? 0) & 15) * 4;
  bytes.splice(IP + 10, 2, ...be16(referenceChecksum(bytes.slice(IP, IP + headerLength))));
  return bytes;
}

describe('packets of a real kernel', () => {
  test('a SYN', () => {
    const { packet: p, off } = accepted(SYN);
    assert.deepEqual([p.off, p.ip, p.l4, p.payload, p.end], [off, off + 10, off + 30, off + 70, off + 70]);
    assert.deepEqual([p.proto, p.src, p.dst, p.ihl, p.totalLen, p.ttl], [6, 0x0a090001, 0x0a090002, 20, 60, 64]);
    assert.deepEqual([p.srcPort, p.dstPort, p.seq, p.ack], [51630, 8080, 0x546703f3, 0]);
    assert.deepEqual([p.flags, p.window, p.headerLen, p.payloadLen], [TCP_SYN, 64240, 40, 0]);
    assert.deepEqual([p.needsCsum, p.gsoType, p.gsoSize], [true, 0, 0]);
    assert.deepEqual([p.mssAt, p.mss], [off + 50, 1460]);
    assert.deepEqual([p.sackPermAt, p.sackAt, p.sackCount], [off + 54, 0, 0]);
    assert.deepEqual([p.tsAt, p.tsVal, p.tsEcr], [off + 56, 0xd1c97b76, 0]);
    assert.deepEqual([p.wscaleAt, p.wscale], [off + 67, 10]);
    assert.deepEqual([p.md5At, p.aoAt, p.mptcpAt, p.fastOpenAt, p.duplicateOptions], [0, 0, 0, 0, false]);
  });

  test('its SYN-ACK', () => {
    const { packet: p } = accepted(SYN_ACK);
    assert.deepEqual([p.flags, p.seq, p.ack, p.tsEcr], [TCP_SYN | TCP_ACK, 0x8184edeb, 0x546703f4, 0xd1c97b76]);
  });

  test('S23: a GSO super-packet', () => {
    const { packet: p, off } = accepted(SUPER_PACKET);
    assert.deepEqual([p.needsCsum, p.gsoType, p.gsoSize], [true, 1, 1448]);
    assert.deepEqual([p.flags, p.payload, p.payloadLen], [TCP_PSH | TCP_ACK, off + 62, 7240]);
    assert.deepEqual([p.tsAt, p.tsVal, p.tsEcr, p.wscale], [off + 52, 0xd1c97b76, 0x215e3b78, -1]);
  });

  test('S17: an ACK with a SACK block', () => {
    const { packet: p, off } = accepted(SACK);
    assert.deepEqual([p.sackAt, p.sackCount, p.tsAt], [off + 64, 1, off + 52]);
  });

  test('a RST with a complete checksum', () => {
    const { packet: p } = accepted(RST);
    assert.deepEqual([p.needsCsum, p.flags, p.headerLen], [false, TCP_RST | TCP_ACK, 20]);
    assert.equal(p.verifyL4Checksum(), true);
  });

  test('a datagram', () => {
    const { packet: p, off } = accepted(DATAGRAM);
    assert.deepEqual([p.proto, p.srcPort, p.dstPort], [17, 45561, 53]);
    assert.deepEqual([p.payload, p.payloadLen, p.end], [off + 38, 5, off + 43]);
  });

  test('S23: their partial checksums come out right when a device completes them', () => {
    for (const packet of [SYN, SYN_ACK, SACK, RST, DATAGRAM]) assert.equal(verifies(completed(packet)), true);
  });
});

/** An ICMP echo request with nothing in it. */
const ECHO = changed(
  hex(`
  00 00 0000 0000 0000 0000
  45 00 001c 0001 4000 40 01 0000
  0a090001 0a090002
  08 00 f7f8 0007 0000  # echo, identifier 7
`),
);

test('an ICMP echo has an identifier, an error has none', () => {
  const { packet: p } = accepted(ECHO);
  assert.deepEqual([p.proto, p.icmpType, p.icmpCode, p.icmpId, p.payloadLen], [1, 8, 0, 7, 0]);
  assert.equal(p.verifyL4Checksum(), true);
  assert.equal(accepted(changed(ECHO, [L4, 3])).packet.icmpId, -1);
});

const refused: Record<DropReasonName, readonly (readonly [what: string, packet: readonly number[]])[]> = {
  truncated: [
    ['nothing', []],
    ['half a virtio header', SYN.slice(0, 5)],
    ['only a virtio header', SYN.slice(0, 10)],
    ['half an IP header', SYN.slice(0, 29)],
    ['less than its total length', SYN.slice(0, 69)],
    ['a TCP header of 19 bytes', changed(SYN, [IP + 3, 39])],
    ['a UDP header of 7 bytes', changed(DATAGRAM, [IP + 3, 27])],
  ],
  ipv6: [['version 6', changed(SYN, [IP, 0x65])]],
  'bad-version': [['version 5', changed(SYN, [IP, 0x55])]],
  'bad-header-length': [
    ['IHL 4', changed(SYN, [IP, 0x44])],
    ['IHL 0', changed(SYN, [IP, 0x40])],
  ],
  'bad-total-length': [
    ['total length 19', changed(SYN, [IP + 2, 0, 19])],
    ['total length 0', changed(SYN, [IP + 2, 0, 0])],
    ['a header beyond the total length', changed(SYN, [IP, 0x4f], [IP + 2, 0, 59])],
  ],
  'bad-ip-checksum': [['another TTL', SYN.map((byte, at) => (at === IP + 8 ? 63 : byte))]],
  fragment: [
    ['more fragments', changed(SYN, [IP + 6, 0x20])],
    ['a later fragment', changed(SYN, [IP + 6, 0, 1])],
  ],
  'unsupported-protocol': [['SCTP', changed(SYN, [IP + 9, 132])]],
  'bad-tcp-offset': [
    ['data offset 4', changed(SYN, [L4 + 12, 0x40])],
    ['data offset 0', changed(SYN, [L4 + 12, 0])],
    ['a header beyond the segment', changed(SYN, [L4 + 12, 0xb0])],
  ],
  'bad-tcp-options': [
    ['a length of 0', changed(SYN, [L4 + 21, 0])],
    ['a length of 1', changed(SYN, [L4 + 21, 1])],
    ['an option beyond the header', changed(SYN, [L4 + 36, 99, 5])],
    ['a kind without length', changed(SYN, [L4 + 36, 1, 1, 1, 3])],
    ['MSS of 3 bytes', changed(SYN, [L4 + 21, 3])],
    ['window scale of 4 bytes', changed(SYN, [L4 + 36, 3, 4])],
    ['SACK permitted of 4 bytes', changed(SYN, [L4 + 25, 4])],
    ['timestamps of 12 bytes', changed(SYN, [L4 + 27, 12])],
    ['an unknown kind of length 1', changed(SYN, [L4 + 20, 77, 1, 0])],
    ['an unknown kind of length 0', changed(SYN, [L4 + 20, 77, 0])],
    ['SACK of half a block', changed(SACK, [L4 + 35, 6])],
    ['SACK without a block', changed(SACK, [L4 + 34, 5, 2, 1, 1, 1, 1, 1, 1, 1, 1])],
  ],
  'bad-tcp-flags': [
    ['no flags', changed(SYN, [L4 + 13, 0])],
    ['SYN and FIN', changed(SYN, [L4 + 13, 0x03])],
    ['SYN and RST', changed(SYN, [L4 + 13, 0x06])],
    ['FIN PSH URG', changed(SYN, [L4 + 13, 0x29])],
  ],
  'bad-udp-length': [
    ['length 7', changed(DATAGRAM, [L4 + 4, 0, 7])],
    ['beyond the packet', changed(DATAGRAM, [L4 + 4, 0, 14])],
  ],
  'bad-icmp-length': [['7 bytes', changed(ECHO, [IP + 3, 27])]],
  'bad-vnet-header': [
    ['checksum begins elsewhere', changed(SYN, [6, 21])],
    ['checksum field elsewhere', changed(SYN, [8, 6])],
    ['partial ICMP', changed(ECHO, [0, 1], [6, 20, 0, 2])],
    ['headers beyond the packet', changed(SYN, [2, 61])],
    ['unknown GSO type', changed(SUPER_PACKET, [1, 2])],
    ['IPv6 pieces', changed(SUPER_PACKET, [1, 4])],
    ['UDP pieces of TCP', changed(SUPER_PACKET, [1, 5])],
    ['ECN without GSO', changed(SYN, [1, 0x80])],
    ['pieces of 0 bytes', changed(SUPER_PACKET, [4, 0, 0])],
    ['pieces of 65535 bytes', changed(SUPER_PACKET, [4, 0xff, 0xff])],
    ['pieces with a complete checksum', changed(SUPER_PACKET, [0, 0])],
  ],
  // Not a reason of parse: found by verifyL4Checksum.
  'bad-l4-checksum': [],
};

describe('malformed packets are refused with their reason', () => {
  for (const [reason, cases] of Object.entries(refused)) {
    for (const [what, packet] of cases) {
      test(`${/options|offset/.test(reason) ? 'S24: ' : ''}${reason}: ${what}`, () => {
        assert.equal(new Held(packet).parse(), DROP_REASONS[reason as DropReasonName]);
      });
    }
  }
});

test('a packet beyond the buffer is truncated, whatever the length says', () => {
  const packet = new Packet();
  packet.attach(Uint8Array.from(SYN));
  for (const [off, length] of [
    [0, SYN.length + 1],
    [1, SYN.length],
    [-1, SYN.length],
    [SYN.length, 0],
    [0, -5],
  ] as const)
    assert.equal(packet.parse(off, length), DROP_REASONS.truncated);
});

test('S24: an experimental option without room for the magic number is no Fast Open', () => {
  // A segment that ends with kind 254, length 2; the magic number lies behind it.
  const bare = changed(SYN, [L4 + 20, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 254, 2]);
  const { packet: p } = accepted([...bare, 0xf9, 0x89]);
  assert.equal(p.fastOpenAt, 0);
  assert.equal(p.payload, p.end);
});

test('bytes behind the IP packet are not part of it', () => {
  const { packet: p, length } = accepted([...SYN, 1, 2, 3, 4, 5, 6]);
  assert.equal(p.end - p.off, length - 6);
  assert.equal(p.payloadLen, 0);
});

test('the drop reasons are distinct numbers below 64', () => {
  const numbers = Object.values(DROP_REASONS);
  assert.equal(new Set(numbers).size, numbers.length);
  for (const number of numbers) assert.ok(number > 0 && number < 64);
});

test('nothing of a packet is left over for the next one', () => {
  fc.assert(
    fc.property(tcpPacket, tcpPacket, (first, second) => {
      const earlier = encodeTcp(first);
      const later = encodeTcp(second);
      const both = new Held([...earlier, ...later]);
      assert.equal(both.packet.parse(both.off, earlier.length), 0);
      setSource(both.packet, 1 as Ipv4, 2 as Port);
      setSeq(both.packet, toSeq(3));
      assert.equal(both.packet.parse(both.off + earlier.length, later.length), 0);
      const alone = new Packet();
      alone.attach(both.buffer);
      assert.equal(alone.parse(both.off + earlier.length, later.length), 0);
      assert.deepEqual(both.packet, alone);
    }),
    RUNS,
  );
});

describe('verifyL4Checksum', () => {
  const complete = (packet: readonly number[]): number[] => [...repeated(10, 0), ...completed(packet)];

  test('S23: accepts what a device completed, refuses it with one bit changed', () => {
    for (const packet of [SYN, SYN_ACK, SACK, DATAGRAM].map(complete)) {
      assert.equal(accepted(packet).packet.verifyL4Checksum(), true);
      for (const at of [L4, L4 + 7, packet.length - 1]) {
        const wrong = packet.map((byte, i) => (i === at ? byte ^ 0x10 : byte));
        const held = new Held(wrong);
        if (held.parse() === 0) assert.equal(held.packet.verifyL4Checksum(), false, `byte ${at}`);
      }
    }
  });

  test('S23: a partial sum and the absent one of UDP are right', () => {
    assert.equal(accepted(SYN).packet.verifyL4Checksum(), true);
    assert.equal(accepted(changed(complete(DATAGRAM), [L4 + 6, 0, 0])).packet.verifyL4Checksum(), true);
  });

  test('S23: the sum of UDP covers the datagram, not what follows it (RFC 9868)', () => {
    const datagram = complete(DATAGRAM);
    const longer = changed([...datagram, 0xde, 0xad, 0xbe], [IP + 3, 0x21 + 3]);
    const { packet: p } = accepted(longer);
    assert.equal(p.payloadLen, 5);
    assert.equal(p.verifyL4Checksum(), true);
  });
});
