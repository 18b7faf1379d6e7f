import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { toSeq } from '../../../src/rewrite/numbers.ts';
import type { Ipv4, Port } from '../../../src/rewrite/numbers.ts';
import {
  finish,
  scaleWindow,
  setAck,
  setDestination,
  setFlags,
  setIcmpId,
  setMss,
  setSeq,
  setSource,
  setTimestamps,
  setWindow,
  setWindowScale,
  translateWindow,
  windowBytes,
} from '../../../src/rewrite/translate.ts';
import { RUNS, icmpEcho, tcpPacket, u16, u32, udpPacket } from './arbitraries.ts';
import { accepted, fieldsAgree, sameBytes } from './held.ts';
import type { Held } from './held.ts';
import { completed, encodeIcmp, encodeTcp, encodeUdp, passedOn, repeated, verifies } from './reference.ts';
import type { Option, TcpPacket } from './reference.ts';

const address = u32.map((n) => n as Ipv4);
const port = u16.map((n) => n as Port);
const seq = u32.map(toSeq);

/** One step of a translation: what it does to the packet, and to the description. */
type Step = {
  readonly name: string;
  readonly apply: (held: Held) => void;
  readonly model: (p: TcpPacket) => TcpPacket;
};

function onOptions(p: TcpPacket, change: (option: Option) => Option): TcpPacket {
  const end = p.options.findIndex((option) => option.kind === 'end');
  return { ...p, options: p.options.map((option, i) => (end >= 0 && i > end ? option : change(option))) };
}

const step: fc.Arbitrary<Step> = fc.oneof(
  fc.tuple(address, port).map(([src, srcPort]) => ({
    name: `source ${src}:${srcPort}`,
    apply: (held: Held) => setSource(held.packet, src, srcPort),
    model: (p: TcpPacket) => ({ ...p, src, srcPort }),
  })),
  fc.tuple(address, port).map(([dst, dstPort]) => ({
    name: `destination ${dst}:${dstPort}`,
    apply: (held: Held) => setDestination(held.packet, dst, dstPort),
    model: (p: TcpPacket) => ({ ...p, dst, dstPort }),
  })),
  seq.map((value) => ({
    name: `seq ${value}`,
    apply: (held: Held) => setSeq(held.packet, value),
    model: (p: TcpPacket) => ({ ...p, seq: value }),
  })),
  seq.map((value) => ({
    name: `ack ${value}`,
    apply: (held: Held) => setAck(held.packet, value),
    model: (p: TcpPacket) => ({ ...p, ack: value }),
  })),
  u16.map((window) => ({
    name: `window ${window}`,
    apply: (held: Held) => setWindow(held.packet, window),
    model: (p: TcpPacket) => ({ ...p, window }),
  })),
  fc.nat(255).map((more) => ({
    name: `flags ${more}`,
    // Any flags but those that make a packet bad.
    apply: (held: Held) => setFlags(held.packet, (more & 0xf8) | 0x10),
    model: (p: TcpPacket) => ({ ...p, flags: (more & 0xf8) | 0x10 }),
  })),
  fc.tuple(u32, u32).map(([value, echo]) => ({
    name: `timestamps ${value} ${echo}`,
    apply: (held: Held) => setTimestamps(held.packet, value, echo),
    model: (p: TcpPacket) => onOptions(p, (each) => (each.kind === 'timestamps' ? { ...each, value, echo } : each)),
  })),
  u16.map((mss) => ({
    name: `mss ${mss}`,
    apply: (held: Held) => setMss(held.packet, mss),
    model: (p: TcpPacket) => onOptions(p, (each) => (each.kind === 'mss' ? { ...each, mss } : each)),
  })),
  fc.nat(255).map((shift) => ({
    name: `window scale ${shift}`,
    apply: (held: Held) => setWindowScale(held.packet, shift),
    model: (p: TcpPacket) => onOptions(p, (each) => (each.kind === 'wscale' ? { ...each, shift } : each)),
  })),
);

test('S16, S18, S22, S23: any translation gives the packet that would have been built so, byte for byte', () => {
  fc.assert(
    fc.property(tcpPacket, fc.array(step, { maxLength: 8 }), (described, steps) => {
      const held = accepted(encodeTcp(described));
      let expected = described;
      for (const { apply, model } of steps) {
        apply(held);
        expected = model(expected);
      }
      finish(held.packet);
      sameBytes(held, encodeTcp(passedOn(expected)));
      fieldsAgree(held);
    }),
    { numRuns: 800 },
  );
});

test('S16: the sequence numbers of a RST are translated like any others', () => {
  fc.assert(
    fc.property(tcpPacket, seq, seq, (drawn, newSeq, newAck) => {
      const described: TcpPacket = { ...drawn, flags: 0x14 };
      const held = accepted(encodeTcp(described));
      setSeq(held.packet, newSeq);
      setAck(held.packet, newAck);
      finish(held.packet);
      sameBytes(held, encodeTcp(passedOn({ ...described, seq: newSeq, ack: newAck })));
    }),
    RUNS,
  );
});

test('S23: a translation may be finished in parts', () => {
  fc.assert(
    fc.property(tcpPacket, address, port, seq, (described, src, srcPort, ack) => {
      const held = accepted(encodeTcp(described));
      setSource(held.packet, src, srcPort);
      finish(held.packet);
      setAck(held.packet, ack);
      finish(held.packet);
      finish(held.packet);
      sameBytes(held, encodeTcp(passedOn({ ...described, src, srcPort, ack })));
    }),
    RUNS,
  );
});

test('S23: a translated partial checksum is right when a device completes it', () => {
  fc.assert(
    fc.property(tcpPacket, fc.array(step, { maxLength: 5 }), (drawn, steps) => {
      const held = accepted(encodeTcp({ ...drawn, checksum: 'partial' }));
      for (const { apply } of steps) apply(held);
      finish(held.packet);
      assert.equal(verifies(completed(held.bytes())), true);
    }),
    RUNS,
  );
});

test('S23: the largest super-packet is translated in place', () => {
  const described: TcpPacket = {
    proto: 'tcp',
    checksum: 'gso',
    gsoSize: 1448,
    ecn: false,
    src: 0x64400001,
    dst: 0x0a090002,
    tos: 2,
    ident: 9,
    dontFragment: true,
    ttl: 64,
    ipOptions: [],
    srcPort: 8080,
    dstPort: 51630,
    seq: 0xfffffff0,
    ack: 7,
    flags: 0x18,
    window: 502,
    urgent: 0,
    reserved: 0,
    options: [{ kind: 'nop' }, { kind: 'nop' }, { kind: 'timestamps', value: 1, echo: 2 }],
    payload: repeated(65535 - 52, 0xff),
    padding: [],
  };
  const held = accepted(encodeTcp(described));
  assert.equal(held.packet.totalLen, 65535);
  setSource(held.packet, 0xc0a80001 as Ipv4, 1 as Port);
  setSeq(held.packet, toSeq(0xfffffff0 + 0x12345678));
  setTimestamps(held.packet, 0xffffffff, 0);
  finish(held.packet);
  const expected = { ...described, src: 0xc0a80001, srcPort: 1, seq: 0x12345668 };
  expected.options = [{ kind: 'nop' }, { kind: 'nop' }, { kind: 'timestamps', value: 0xffffffff, echo: 0 }];
  sameBytes(held, encodeTcp(expected));
});

test('S23: a wrong checksum stays wrong', () => {
  fc.assert(
    fc.property(
      tcpPacket,
      fc.array(step, { maxLength: 5 }),
      fc.integer({ min: 1, max: 0xfffe }),
      (drawn, steps, error) => {
        const bytes = encodeTcp({ ...drawn, checksum: 'full' });
        const at = 10 + 20 + drawn.ipOptions.length + 16;
        const field = ((bytes[at] ?? 0) * 256 + (bytes[at + 1] ?? 0) + error) % 0xffff;
        bytes.splice(at, 2, field >>> 8, field & 255);
        const held = accepted(bytes);
        assert.equal(held.packet.verifyL4Checksum(), false);
        for (const { apply } of steps) apply(held);
        finish(held.packet);
        assert.equal(held.packet.verifyL4Checksum(), false);
      },
    ),
    RUNS,
  );
});

describe('UDP', () => {
  test('S23: addresses and ports; no checksum stays none, partial stays partial, 0 becomes 0xffff', () => {
    fc.assert(
      fc.property(udpPacket, address, port, address, port, (described, src, srcPort, dst, dstPort) => {
        const held = accepted(encodeUdp(described));
        setSource(held.packet, src, srcPort);
        setDestination(held.packet, dst, dstPort);
        finish(held.packet);
        sameBytes(held, encodeUdp({ ...described, src, srcPort, dst, dstPort }));
      }),
      RUNS,
    );
  });

  /** A datagram whose two bytes of data make its checksum come out as 0, which is sent as 0xffff. */
  function withZeroSum(src: number, srcPort: number): Parameters<typeof encodeUdp>[0] {
    const datagram = {
      proto: 'udp' as const,
      checksum: 'full' as const,
      src,
      dst: 0x0a090002,
      tos: 0,
      ident: 0,
      dontFragment: true,
      ttl: 64,
      ipOptions: [],
      srcPort,
      dstPort: 53,
      payload: [0, 0],
      surplus: [],
    };
    const bytes = encodeUdp(datagram);
    datagram.payload = [bytes[36] ?? 0, bytes[37] ?? 0];
    assert.deepEqual(encodeUdp(datagram).slice(36, 38), [0xff, 0xff]);
    return datagram;
  }

  test('S23: a sum that becomes 0 is sent as 0xffff, one that was 0 is no missing one', () => {
    fc.assert(
      fc.property(address, port, address, port, (src, srcPort, other, otherPort) => {
        const zero = withZeroSum(src, srcPort);
        const elsewhere = { ...zero, src: other, srcPort: otherPort };
        const towards = accepted(encodeUdp(elsewhere));
        setSource(towards.packet, src, srcPort);
        finish(towards.packet);
        sameBytes(towards, encodeUdp(zero));
        const away = accepted(encodeUdp(zero));
        setSource(away.packet, other, otherPort);
        finish(away.packet);
        sameBytes(away, encodeUdp(elsewhere));
      }),
      RUNS,
    );
  });
});

test('S23: the identifier of an ICMP echo, whose checksum knows no addresses', () => {
  fc.assert(
    fc.property(icmpEcho, address, address, u16, (described, src, dst, id) => {
      const held = accepted(encodeIcmp(described));
      setSource(held.packet, src, 1 as Port);
      setDestination(held.packet, dst, 1 as Port);
      setIcmpId(held.packet, id);
      finish(held.packet);
      sameBytes(held, encodeIcmp({ ...described, src, dst, id }));
    }),
    RUNS,
  );
});

test('S23: an echo reply of nothing but zeros has the checksum 0xffff, not 0', () => {
  const described = { proto: 'icmp' as const, type: 0, code: 0, sequence: 0, payload: [0, 0, 0] };
  for (const [before, after] of [
    [0, 0],
    [7, 0],
    [0, 7],
    [0xffff, 0],
  ] as const)
    fc.assert(
      fc.property(icmpEcho, (drawn) => {
        const held = accepted(encodeIcmp({ ...drawn, ...described, id: before }));
        setIcmpId(held.packet, after);
        finish(held.packet);
        sameBytes(held, encodeIcmp({ ...drawn, ...described, id: after }));
      }),
      { numRuns: 3 },
    );
});

test('a packet that is not changed stays as it is, but for the mark that its sum was checked', () => {
  fc.assert(
    fc.property(tcpPacket, (described) => {
      const held = accepted(encodeTcp(described));
      finish(held.packet);
      sameBytes(held, encodeTcp(passedOn(described)));
    }),
    RUNS,
  );
});

describe('windows', () => {
  const shift = fc.nat(14);

  test('S13: scaleWindow rounds down and stops at 65535', () => {
    fc.assert(
      fc.property(fc.integer({ min: -10, max: 2 ** 33 }), shift, (bytes, by) => {
        const exact = bytes <= 0 ? 0n : BigInt(bytes) >> BigInt(by);
        assert.equal(scaleWindow(bytes, by), Number(exact > 0xffffn ? 0xffffn : exact));
      }),
      RUNS,
    );
  });

  test('S13: a translated window never promises more, and is stable from then on', () => {
    fc.assert(
      fc.property(u16, shift, shift, (raw, from, to) => {
        const once = translateWindow(raw, from, to);
        const exact = (BigInt(raw) << BigInt(from)) >> BigInt(to);
        assert.equal(once, Number(exact > 0xffffn ? 0xffffn : exact));
        assert.ok(windowBytes(once, to) <= windowBytes(raw, from));
        const back = translateWindow(once, to, from);
        assert.equal(translateWindow(translateWindow(back, from, to), to, from), back);
      }),
      RUNS,
    );
  });
});
