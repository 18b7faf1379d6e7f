import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { finish, setMss, setTimestamps, setWindowScale, stripOption } from '../../../src/rewrite/translate.ts';
import { RUNS, tcpPacket } from './arbitraries.ts';
import { accepted, fieldsAgree, sameBytes } from './held.ts';
import { encodeOption, encodeTcp, optionOffsets, passedOn, repeated } from './reference.ts';
import type { Option, TcpPacket } from './reference.ts';

test('S24: what is set where the option is absent changes nothing', () => {
  const described = accepted(
    encodeTcp({
      proto: 'tcp',
      checksum: 'partial',
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
      ack: 0,
      flags: 0x10,
      window: 0,
      urgent: 0,
      reserved: 0,
      options: [],
      payload: [],
      padding: [],
    }),
  );
  const before = described.bytes();
  setTimestamps(described.packet, 1, 2);
  setMss(described.packet, 3);
  setWindowScale(described.packet, 4);
  finish(described.packet);
  assert.deepEqual(described.bytes(), before);
});

describe('stripped options', () => {
  const special: readonly (readonly [
    name: string,
    at: 'fastOpenAt' | 'md5At' | 'aoAt' | 'mptcpAt',
    bytes: number[],
  ])[] = [
    ['S9: Fast Open', 'fastOpenAt', [34, 10, 1, 2, 3, 4, 5, 6, 7, 8]],
    ['S9: a Fast Open request', 'fastOpenAt', [34, 2]],
    ['S9: experimental Fast Open', 'fastOpenAt', [254, 8, 0xf9, 0x89, 1, 2, 3, 4]],
    ['S25: an MD5 signature', 'md5At', [19, 18, ...repeated(16, 0xc3)]],
    ['S25: an authentication option', 'aoAt', [29, 16, ...repeated(14, 0x3c)]],
    ['S25: Multipath TCP', 'mptcpAt', [30, 12, 0x00, 0x81, 1, 2, 3, 4, 5, 6, 7, 8]],
  ];

  for (const [name, at, bytes] of special) {
    test(`${name} is found, passes, and is overwritten with NOPs on demand`, () => {
      fc.assert(
        fc.property(tcpPacket, fc.nat(3), (drawn, nops) => {
          const before: Option[] = repeated(nops, { kind: 'nop' });
          const described: TcpPacket = {
            ...drawn,
            options: [...before, { kind: 'raw', bytes }, { kind: 'mss', mss: 9 }],
          };
          const held = accepted(encodeTcp(described));
          const p = held.packet;
          assert.equal(p[at], p.l4 + 20 + nops);
          assert.equal(p.mss, 9);
          stripOption(p, p[at]);
          assert.equal(p[at], 0);
          finish(p);
          const gone: Option[] = bytes.map(() => ({ kind: 'nop' }));
          sameBytes(
            held,
            encodeTcp(passedOn({ ...described, options: [...before, ...gone, { kind: 'mss', mss: 9 }] })),
          );
        }),
        { numRuns: 60 },
      );
    });
  }

  test('S10, S24: every known option can go, at every offset', () => {
    fc.assert(
      fc.property(tcpPacket, fc.nat(), (described, pick) => {
        const held = accepted(encodeTcp(described));
        const p = held.packet;
        const present = [p.mssAt, p.wscaleAt, p.sackPermAt, p.sackAt, p.tsAt].filter((at) => at !== 0);
        const at = present[pick % Math.max(1, present.length)];
        if (at === undefined) return;
        stripOption(p, at);
        finish(p);
        const index = optionOffsets(described.options).indexOf(at - p.l4);
        const options = described.options.flatMap((option, i): Option[] =>
          i === index ? encodeOption(option).map(() => ({ kind: 'nop' })) : [option],
        );
        sameBytes(held, encodeTcp(passedOn({ ...described, options })));
        fieldsAgree(held);
      }),
      RUNS,
    );
  });

  test('S24: behind END nothing is an option, so nothing comes twice there', () => {
    const options: Option[] = [
      { kind: 'mss', mss: 1460 },
      { kind: 'mss', mss: 9 },
      { kind: 'end' },
      { kind: 'raw', bytes: [2, 4, 0, 7, 8, 0] },
    ];
    fc.assert(
      fc.property(tcpPacket, (drawn) => {
        const held = accepted(encodeTcp({ ...drawn, options }));
        finish(held.packet);
        const gone = options.flatMap((option, i): Option[] => (i === 1 ? repeated(4, { kind: 'nop' }) : [option]));
        sameBytes(held, encodeTcp(passedOn({ ...drawn, options: gone })));
      }),
      { numRuns: 40 },
    );
  });

  test('S24: of an option that comes twice the first is read, and the second does not pass', () => {
    const twice: readonly (readonly [Option, Option])[] = [
      [
        { kind: 'mss', mss: 1460 },
        { kind: 'mss', mss: 9 },
      ],
      [
        { kind: 'wscale', shift: 7 },
        { kind: 'wscale', shift: 9 },
      ],
      [{ kind: 'sackPermitted' }, { kind: 'sackPermitted' }],
      [
        { kind: 'timestamps', value: 1, echo: 2 },
        { kind: 'timestamps', value: 3, echo: 4 },
      ],
      [
        { kind: 'sack', blocks: [[5, 6]] },
        { kind: 'sack', blocks: [[7, 8]] },
      ],
      [
        { kind: 'raw', bytes: [34, 2] },
        { kind: 'raw', bytes: [254, 4, 0xf9, 0x89] },
      ],
    ];
    for (const [first, second] of twice) {
      fc.assert(
        fc.property(tcpPacket, fc.nat(1), (drawn, nops) => {
          const between: Option[] = [{ kind: 'raw', bytes: [77, 3, 0] }, ...repeated<Option>(nops, { kind: 'nop' })];
          const described: TcpPacket = { ...drawn, options: [first, ...between, second] };
          const held = accepted(encodeTcp(described));
          assert.equal(held.packet.duplicateOptions, true);
          finish(held.packet);
          const gone: Option[] = encodeOption(second).map(() => ({ kind: 'nop' }));
          sameBytes(held, encodeTcp(passedOn({ ...described, options: [first, ...between, ...gone] })));
          fieldsAgree(held);
        }),
        { numRuns: 40 },
      );
    }
  });
});
