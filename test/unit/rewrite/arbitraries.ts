/** Random packets for the property tests: every option mix, odd offsets, IPv4 options, partial checksums, super-packets. */
import fc from 'fast-check';
import { encodeOption } from './reference.ts';
import type { IcmpPacket, Option, TcpPacket, UdpPacket } from './reference.ts';

/** Runs of each property; the machine is shared. */
export const RUNS = { numRuns: 400 };

const EDGES = [0, 1, 0xffff, 0x10000, 0x7fffffff, 0x80000000, 0xffff0000, 0xfffffffe, 0xffffffff];
const SHORT_EDGES = [0, 1, 0xff, 0x100, 0x8000, 0xfffe, 0xffff];

export const u32 = fc.oneof({ weight: 4, arbitrary: fc.nat(0xffffffff) }, fc.constantFrom(...EDGES));
export const u16 = fc.oneof({ weight: 4, arbitrary: fc.nat(0xffff) }, fc.constantFrom(...SHORT_EDGES));
const u8 = fc.nat(255);

/** Kinds that nothing here knows. */
const foreign = fc
  .tuple(fc.constantFrom(6, 15, 28, 69, 172, 253), fc.array(u8, { maxLength: 7 }))
  .map(([kind, data]): Option => ({ kind: 'raw', bytes: [kind, data.length + 2, ...data] }));

export const sackOption = fc
  .array(fc.tuple(u32, u32), { minLength: 1, maxLength: 4 })
  .map((blocks): Option => ({ kind: 'sack', blocks }));
export const timestampsOption = fc.record({ kind: fc.constant('timestamps' as const), value: u32, echo: u32 });

const option: fc.Arbitrary<Option> = fc.oneof(
  { weight: 4, arbitrary: fc.constant<Option>({ kind: 'nop' }) },
  { weight: 2, arbitrary: timestampsOption },
  { weight: 2, arbitrary: sackOption },
  fc.record({ kind: fc.constant('mss' as const), mss: u16 }),
  fc.record({ kind: fc.constant('wscale' as const), shift: u8 }),
  fc.constant<Option>({ kind: 'sackPermitted' }),
  foreign,
);

/** Options that fit in a header, no kind of the translated ones twice, perhaps an END with anything behind it. */
export const options: fc.Arbitrary<Option[]> = fc
  .tuple(fc.array(option, { maxLength: 10 }), fc.option(fc.array(u8, { maxLength: 8 })))
  .map(([drawn, behindEnd]) => {
    const seen = new Set<string>();
    const list: Option[] = [];
    let room = 40;
    const add = (each: Option): void => {
      const length = encodeOption(each).length;
      if (length <= room) {
        list.push(each);
        room -= length;
      }
    };
    for (const each of drawn) {
      if (each.kind !== 'nop' && each.kind !== 'raw') {
        if (seen.has(each.kind)) continue;
        seen.add(each.kind);
      }
      add(each);
    }
    if (behindEnd !== null && room > behindEnd.length) {
      add({ kind: 'end' });
      add({ kind: 'raw', bytes: behindEnd });
    }
    return list;
  });

const ip = {
  src: u32,
  dst: u32,
  tos: u8,
  ident: u16,
  dontFragment: fc.boolean(),
  ttl: u8,
  ipOptions: fc.nat(10).chain((words) => fc.array(u8, { minLength: 4 * words, maxLength: 4 * words })),
};

/** SYN, RST and ACK as they occur; the others at will. */
const flags = fc.tuple(fc.constantFrom(0x02, 0x12, 0x10, 0x11, 0x04, 0x14), fc.nat(0x1f)).map(([base, more]) => {
  const others = (more & 1) * 8 + ((more >>> 1) & 1) * 0x20 + ((more >>> 2) & 3) * 0x40;
  return base | others;
});

const payload = fc.oneof(
  fc.array(u8, { maxLength: 40 }),
  fc
    .tuple(u8, fc.integer({ min: 100, max: 4000 }))
    .map(([fill, length]) => Array.from({ length }, (_, i) => (fill + i) & 255)),
);

export const tcpPacket: fc.Arbitrary<TcpPacket> = fc.record({
  ...ip,
  proto: fc.constant('tcp' as const),
  checksum: fc.constantFrom('full' as const, 'checked' as const, 'partial' as const, 'gso' as const),
  gsoSize: fc.integer({ min: 1, max: 1460 }),
  ecn: fc.boolean(),
  srcPort: u16,
  dstPort: u16,
  seq: u32,
  ack: u32,
  flags,
  window: u16,
  urgent: u16,
  reserved: fc.nat(15),
  options,
  payload,
  padding: fc.array(u8, { maxLength: 6 }),
});

export const udpPacket: fc.Arbitrary<UdpPacket> = fc.record({
  ...ip,
  proto: fc.constant('udp' as const),
  checksum: fc.constantFrom('full' as const, 'partial' as const, 'none' as const),
  srcPort: u16,
  dstPort: u16,
  payload,
  surplus: fc.array(u8, { maxLength: 6 }),
});

export const icmpEcho: fc.Arbitrary<IcmpPacket> = fc.record({
  ...ip,
  proto: fc.constant('icmp' as const),
  type: fc.constantFrom(0, 8),
  code: fc.constant(0),
  id: u16,
  sequence: u16,
  payload,
});
