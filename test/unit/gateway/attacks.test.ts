/** RST, SYN, ACK and old timestamps for a frozen connection: judged as an endpoint would (RFC 5961, RFC 7323). */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cutAt, frozen, talked } from './factories.ts';

test('S32 S33: RST exactly at RCV.NXT ends a frozen connection; the attach reports it, and its socket is refused', () => {
  const t = frozen(talked(500, 1000));
  t.fromPeer({ flags: 'R', seq: 1000 });
  assert.equal(t.state(), 'CLOSED');
  t.expectNothing();
  const result = t.export(1000);
  assert.ok(result.settled);
  assert.equal(result.flows[0]?.reset, true);
  const { flows } = t.attach('b');
  assert.equal(flows[0]?.reset, true);
  t.fromGuest('b', { flags: 'S' });
  t.expectToGuest('b', { flags: 'RA', ack: 500 });
  t.commit();
  t.expectNothing();
  // A new connection of the same ports is a new flow.
  t.fromPeer({ flags: 'S', seq: 10_000 });
  t.expectToGuest('b', { flags: 'S' });
});

test('S32: a RST between export and attach is reported by the attach', () => {
  const t = cutAt(1000, frozen(talked(500, 1000)));
  t.fromPeer({ flags: 'R', seq: 1000 });
  assert.equal(t.attach('b').flows[0]?.reset, true);
});

test('S33: RST elsewhere in the window is challenged, outside of it dropped', () => {
  const t = frozen(talked(500, 1000));
  t.fromPeer({ flags: 'R', seq: 1001 });
  t.expectToPeer({ flags: 'A', seq: 500, ack: 1000 });
  t.fromPeer({ flags: 'R', seq: 999 });
  t.fromPeer({ flags: 'R', seq: 1000 + 2 ** 30 });
  t.expectNothing();
  assert.equal(t.state(), 'ESTABLISHED');
  assert.equal(t.drops()['blind-attack'], 3);
});

test('S33: a SYN into a frozen connection is challenged', () => {
  const t = frozen(talked(500, 1000));
  t.fromPeer({ flags: 'S', seq: 1000 });
  t.expectToPeer({ flags: 'A', seq: 500, ack: 1000 });
  t.fromPeer({ flags: 'S', seq: 77_000_000 });
  t.expectToPeer({ flags: 'A', seq: 500, ack: 1000 });
  assert.equal(t.state(), 'ESTABLISHED');
});

test('S33: ACKs of what was never sent, or of a window long past, are challenged, and their data is not taken', () => {
  const t = frozen(talked(500, 1000));
  t.fromPeer({ seq: 1000, ack: 501, len: 10 });
  t.expectToPeer({ ack: 1000 });
  t.fromPeer({ seq: 1000, ack: 500 - 2 ** 24, len: 10 });
  t.expectToPeer({ ack: 1000 });
  assert.equal(t.held(), 0);
  assert.equal(t.f.sndUna[t.slot()], 500);
});

test('S33: challenges are throttled to ten a second', () => {
  const t = frozen(talked(500, 1000));
  for (let i = 0; i < 50; i++) t.fromPeer({ flags: 'S', seq: 5000 + i });
  assert.equal(t.drain().length, 10);
  t.advance(1000);
  for (let i = 0; i < 50; i++) t.fromPeer({ flags: 'R', seq: 1001 });
  assert.equal(t.drain().length, 10);
});

test('S33: a segment without ACK is dropped', () => {
  const t = frozen(talked(500, 1000));
  const bare = (): void => {
    const packet = t.plane.packet.bind(t.plane);
    t.plane.packet = (device, offset, length) => {
      t.ctx.out.buffer[offset + 10 + 20 + 13] = 0x20;
      packet(device, offset, length);
    };
    t.fromPeer({ seq: 1000, len: 10 });
    t.plane.packet = packet;
  };
  bare();
  t.expectNothing();
  assert.equal(t.drops()['bad-tcp-flags'], 1);
});

test('S18: an older TSval than the last is refused and answered (PAWS)', () => {
  const t = frozen(talked(0, 1000));
  t.fromPeer({ seq: 1000, len: 10, ts: [t.f.lastTsIn[t.slot()]! - 1, 0] });
  t.expectToPeer({ ack: 1000 });
  assert.equal(t.drops()['paws'], 1);
  assert.equal(t.held(), 0);
});

test('S18 S33: TS.Recent follows only segments that begin where was acknowledged (RFC 7323 §4.3)', () => {
  const t = frozen(talked(0, 1000));
  const recent = t.f.lastTsIn[t.slot()]!;
  t.fromPeer({ seq: 3000, len: 10, ts: [recent + 5000, 0] });
  assert.equal(t.f.lastTsIn[t.slot()], recent);
  t.fromPeer({ seq: 1000, len: 10, ts: [recent + 10, 0] });
  assert.equal(t.f.lastTsIn[t.slot()], recent + 10);
});

test('S32: a peer RST while frozen, then abort: the old socket is reset at the number it will accept', () => {
  const t = talked(0, 1000);
  // 500 more reached the old kernel, whose ACK is delayed.
  t.fromPeer({ seq: 1000, len: 500 });
  t.freeze();
  t.fromPeer({ flags: 'R', seq: 1000 });
  t.drain();
  t.abort();
  t.expectToGuest('a', { flags: 'RA', seq: 1500 });
  assert.equal(t.state(), 'CLOSED');
  // Were it not exact, the kernel would challenge, and the answer is.
  t.fromGuest('a', { seq: 0, ack: 1400 });
  t.expectToGuest('a', { flags: 'R', seq: 1400 });
  t.expectNothing();
  // Nothing keeps the flow alive.
  t.advance(12_000, 100);
  assert.equal(t.slot(), -1);
});

test('S18: after a long freeze and an abort, TSval to the peer does not go back although the old clock is behind', () => {
  const t = frozen(talked(500, 500));
  t.advance(600_000, 60_000);
  t.fromPeer({ seq: 499, ack: 500 });
  const shown = t.expectToPeer({}).ts?.[0] ?? 0;
  t.abort();
  t.drain();
  // The host's clock lost 40 ms against the gateway's.
  t.sockets.a.clock -= 40;
  t.fromGuest('a', { seq: 500, ack: 500, len: 10 });
  const after = t.expectToPeer({ len: 10 }).ts?.[0] ?? 0;
  assert.ok(((after - shown) | 0) >= 0);
  // The echo of it is nothing the guest has not sent.
  t.fromPeer({ seq: 500, ack: 510, ts: [t.tsOf(t.peer), after] });
  t.expectToGuest('a', { ack: 510, tsEcr: t.tsOf(t.sockets.a) });
});
