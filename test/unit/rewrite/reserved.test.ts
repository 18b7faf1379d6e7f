import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { clearReserved, finish, setSeq } from '../../../src/rewrite/translate.ts';
import { toSeq } from '../../../src/rewrite/numbers.ts';
import { RUNS, tcpPacket, u32 } from './arbitraries.ts';
import { accepted, sameBytes } from './held.ts';
import { VNET, be16, encodeTcp, passedOn, referenceChecksum } from './reference.ts';

/** The packet with the reserved bit of its IPv4 flags set, and a header checksum that is right. */
function marked(whole: readonly number[]): number[] {
  const bytes = [...whole];
  bytes[VNET + 6] = bytes[VNET + 6]! | 0x80;
  bytes.splice(VNET + 10, 2, 0, 0);
  const header = bytes.slice(VNET, VNET + (bytes[VNET]! & 15) * 4);
  bytes.splice(VNET + 10, 2, ...be16(referenceChecksum(header)));
  return bytes;
}

test('the reserved bit is taken off, and the header checksum is that of a packet without it', () => {
  fc.assert(
    fc.property(tcpPacket, (described) => {
      const plain = encodeTcp(described);
      const held = accepted(marked(plain));
      assert.ok(held.packet.reserved);
      clearReserved(held.packet);
      sameBytes(held, plain);
      assert.ok(held.packet.reserved, 'what came is remembered');
    }),
    RUNS,
  );
});

test('it is taken off at once, whatever else is changed afterwards', () => {
  fc.assert(
    fc.property(tcpPacket, u32.map(toSeq), (described, seq) => {
      const held = accepted(marked(encodeTcp(described)));
      clearReserved(held.packet);
      setSeq(held.packet, seq);
      finish(held.packet);
      sameBytes(held, encodeTcp(passedOn({ ...described, seq })));
    }),
    RUNS,
  );
});

test('the bit of a packet before is forgotten', () => {
  fc.assert(
    fc.property(tcpPacket, (described) => {
      const plain = encodeTcp(described);
      const held = accepted(marked(plain));
      held.buffer.set(plain, held.off);
      assert.equal(held.parse(), 0);
      assert.equal(held.packet.reserved, false);
    }),
    RUNS,
  );
});
