/** A fresh socket goes on with an old connection: numbers, acknowledgements, clocks. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { attached, cutAt, frozen, spliced, talked } from './factories.ts';

test('S16: after commit one constant is added to SEQ towards the peer, and taken off ACK and SACK towards the guest', () => {
  const t = spliced(1000, frozen(talked(500, 1000)));
  const { delta } = t.show();
  assert.equal(delta, (t.sockets.a.isn + 500 - t.sockets.b.isn) >>> 0);
  t.fromGuest('b', { seq: 500, ack: 1000, len: 100 });
  const data = t.expectToPeer({ flags: 'PA', seq: 500, ack: 1000, len: 100 });
  assert.equal(data.seq, (t.sockets.b.isn + 1 + delta) >>> 0);
  t.fromGuest('b', { seq: 600, ack: 1000, len: 100 });
  t.expectToPeer({ seq: 600 });
  t.fromPeer({ seq: 1000, ack: 500, sack: [[600, 700]] });
  t.expectToGuest('b', { flags: 'A', seq: 1000, ack: 500, sack: [[600, 700]] });
  t.fromPeer({ seq: 1000, ack: 700, len: 50 });
  t.expectToGuest('b', { flags: 'PA', seq: 1000, ack: 700, len: 50 });
});

test('S8: towards the guest sequence numbers pass unchanged', () => {
  const t = spliced(1000, frozen(talked(500, 1000)));
  t.fromGuest('b', { seq: 500, ack: 1000, win: 60_000 });
  t.drain();
  t.fromPeer({ seq: 1000, ack: 500, len: 50 });
  const seen = t.expectToGuest('b', { seq: 1000 });
  assert.equal(seen.seq, (t.peer.isn + 1 + 1000) >>> 0);
});

test('S17 S21: SACK and D-SACK blocks of what an older socket sent are not shown to the new one', () => {
  const t = talked(0, 0);
  for (let at = 0; at < 4; at++) t.fromGuest('a', { seq: at * 1000, len: 1000 });
  t.fromPeer({ seq: 0, ack: 1000 });
  spliced(0, frozen(t));
  t.fromGuest('b', { seq: 1000, len: 1000 });
  t.drain();
  // 3000 to 4000 are the old socket's, and this one has sent 1000 to 2000 so far.
  t.fromPeer({
    seq: 0,
    ack: 1000,
    sack: [
      [0, 500],
      [1500, 2000],
      [3000, 4000],
    ],
  });
  t.expectToGuest('b', { ack: 1000, sack: [[1500, 2000]] });
});

test('S17: a new socket without SACK is shown none, and gets the window unscaled when it has no scale', () => {
  const t = cutAt(0);
  t.attach('b');
  t.fromGuest('b', { flags: 'S', sackOk: false, ws: -1, win: 64_240 });
  t.fromGuest('b', { seq: 0 });
  t.commit();
  t.fromGuest('b', { seq: 0, len: 1000, win: 64_000 });
  t.drain();
  t.fromPeer({ seq: 0, ack: 0, sack: [[500, 1000]], win: 10 });
  const seen = t.expectToGuest('b', { ack: 0, sack: [] });
  assert.deepEqual(seen.kinds, [8]);
  assert.equal(seen.window, 1280);
  t.fromPeer({ seq: 0, ack: 500, win: 60_000 });
  assert.equal(t.expectToGuest('b', { ack: 500 }).window, 0xffff);
  // Its own window is not scaled either.
  assert.equal(t.f.guestEdge[t.slot()], 64_240);
});

test('S47: an ACK of the peer beyond what the new socket has sent is cut to that; the right edge stays', () => {
  const t = talked(0, 0);
  for (let at = 0; at < 3; at++) t.fromGuest('a', { seq: at * 1000, len: 1000 });
  t.drain();
  spliced(0, frozen(t));
  t.fromPeer({ seq: 0, ack: 3000, win: 100 });
  const cut = t.expectToGuest('b', { ack: 0, edge: 3000 - (3000 % 128) + 100 * 128 });
  assert.equal(cut.flags, 'A');
  t.fromGuest('b', { seq: 0, len: 1000 });
  t.expectToGuest('b', { ack: 1000 });
  t.fromGuest('b', { seq: 1000, len: 1000 });
  t.expectToGuest('b', { ack: 2000 });
  t.expectNothing();
  t.fromGuest('b', { seq: 2000, len: 1500 });
  t.expectToPeer({ seq: 2000, len: 1500 });
});

test('S47: between attach and commit the peer acknowledges more: what the new socket sends below it is answered here', () => {
  const t = talked(0, 0);
  for (let at = 0; at < 2; at++) t.fromGuest('a', { seq: at * 1000, len: 1000 });
  attached('b', 0, frozen(t));
  t.fromPeer({ seq: 0, ack: 2000 });
  t.commit();
  t.drain();
  t.fromGuest('b', { seq: 0, len: 1448 });
  t.expectToGuest('b', { flags: 'A', ack: 1448 });
  t.expectNothing();
  // What the peer lacks passes, though part of it is known there.
  t.fromGuest('b', { seq: 1448, len: 1448 });
  t.expectToPeer({ seq: 1448, len: 1448 });
  // The answer was lost, and what was acknowledged comes once more: now the peer answers.
  t.fromGuest('b', { seq: 0, len: 1448 });
  t.expectToPeer({ seq: 0, len: 1448 });
});

test('S16: a pure ACK of a new socket that has sent less than the old one is placed where the peer accepts it', () => {
  const t = talked(0, 0);
  for (let at = 0; at < 3; at++) t.fromGuest('a', { seq: at * 1000, len: 1000 });
  spliced(0, frozen(t));
  t.fromPeer({ seq: 0, ack: 0, len: 100 });
  t.drain();
  t.fromGuest('b', { seq: 0, ack: 100, win: 60_000 });
  for (const seen of t.drain().filter(({ device }) => device === 0)) assert.equal(t.outOffset(seen.seq), 3000);
});

test('S16: keepalives and window probes of the guest reach the peer, whose answer reaches the guest, also while custody is busy', () => {
  const t = talked(500, 1000);
  t.fromGuest('a', { seq: 500, ack: 1000, win: 24_000 });
  spliced(1000, frozen(t));
  assert.equal(t.f.hold[t.slot()], 1);
  t.fromGuest('b', { seq: 499, ack: 1000 });
  t.expectToPeer({ flags: 'A', seq: 499, ack: 1000, len: 0 });
  t.fromPeer({ seq: 1000, ack: 500 });
  t.expectToGuest('b', { flags: 'A', seq: 1000, ack: 500 });
});

test('S21: an ACK of the peer beyond SND.NXT is passed on for the guest to challenge; nothing is recorded', () => {
  const t = spliced(0, frozen(talked(500, 0)));
  t.fromGuest('b', { seq: 500, ack: 0, win: 65_000 });
  t.drain();
  t.f.hold[t.slot()] = 0;
  t.fromPeer({ seq: 0, ack: 5000 });
  t.expectToGuest('b', { ack: 5000 });
  assert.equal(t.f.sndUna[t.slot()], 500);
});

test('S21: the guest acknowledges what the peer never sent: dropped and counted', () => {
  const t = spliced(0, frozen(talked(500, 0)));
  t.fromGuest('b', { seq: 500, ack: 9999 });
  t.expectNothing();
  assert.equal(t.drops()['bad-ack'], 1);
});

test("S18: TSval goes on from what the peer has seen; TSecr is mapped back, and one from before the switch is the socket's first", () => {
  const t = talked(500, 500);
  t.fromGuest('a', { seq: 500, ack: 500, len: 100 });
  const before = t.drain().at(-1)?.ts?.[0] ?? 0;
  t.advance(40);
  attached('b', 500, frozen(t));
  const first = t.tsOf(t.sockets.b);
  t.advance(25);
  t.commit();
  t.drain();
  t.advance(5);
  t.fromGuest('b', { seq: 500, ack: 500, len: 100 });
  const after = t.expectToPeer({ len: 100 }).ts?.[0] ?? 0;
  const ahead = (after - before) | 0;
  assert.ok(ahead >= 70 && ahead <= 75, `${ahead} ms further after 70`);
  // The peer echoes the old socket's value, then the new one's.
  t.fromPeer({ seq: 500, ack: 500, ts: [t.tsOf(t.peer), before] });
  t.expectToGuest('b', { tsEcr: first });
  t.fromPeer({ seq: 500, ack: 600, ts: [t.tsOf(t.peer), after] });
  t.expectToGuest('b', { tsEcr: t.tsOf(t.sockets.b) });
});

test('S18: what the gateway repeats is never older to the guest than what passed before it (PAWS)', () => {
  const t = spliced(0);
  t.fromGuest('b', { seq: 0, ack: 0, win: 60_000 });
  t.drain();
  assert.equal(t.f.hold[t.slot()], 0);
  // Above a gap: no TS.Recent for the peer's sake, but the guest's kernel has seen it.
  t.fromPeer({ seq: 0, len: 1000 });
  t.fromPeer({ seq: 5000, len: 1000, ts: [t.tsOf(t.peer) + 400, 0] });
  t.fromGuest('b', { seq: 0, ack: 1000, win: 60_000 });
  t.drain();
  t.freeze();
  t.fromPeer({ seq: 1000, len: 1000, ts: [t.tsOf(t.peer) + 10, 0] });
  t.drain();
  t.abort();
  const played = t.drain().find(({ payload }) => payload.length > 0);
  assert.ok((((played?.ts?.[0] ?? 0) - (t.tsOf(t.peer) + 400)) | 0) >= 0);
});

test('S18: the gateway echoes to the new socket what that has sent last, as RTT is measured by it', () => {
  const t = spliced(0);
  t.advance(3000);
  t.fromGuest('b', { seq: 0, len: 10 });
  t.drain();
  t.fromPeer({ seq: 0, ack: 10, len: 100 });
  t.expectToGuest('b', { len: 100, tsEcr: t.tsOf(t.sockets.b) });
});

test("S38: a RST of the new guest lands exactly on the peer's RCV.NXT", () => {
  const t = talked(0, 0);
  for (let at = 0; at < 3; at++) t.fromGuest('a', { seq: at * 1000, len: 1000 });
  spliced(0, frozen(t));
  t.fromPeer({ seq: 0, ack: 3000, len: 100 });
  t.drain();
  t.allowReset = true;
  // It has sent nothing yet: its own number is that of offset 0.
  t.fromGuest('b', { flags: 'RA', seq: 0, ack: 0 });
  t.expectToPeer({ flags: 'RA', seq: 3000, ack: 100 });
  assert.equal(t.state(), 'CLOSED');
  assert.equal(t.held(), 0);
  // Would the peer still challenge it, the answer is exact.
  t.fromPeer({ seq: 100, ack: 3000 });
  t.expectToPeer({ flags: 'R', seq: 3000 });
  t.expectNothing();
});
