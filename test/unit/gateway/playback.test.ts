/** The gateway as the sender of custody, windows between two sockets, and moves in a row. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { attached, cutAt, established, frozen, handshake, move, spliced, talked } from './factories.ts';
import type { Bench } from './lang.ts';

test("S44: custody is played in order as the guest's window and MSS allow, in super-packets, fresh bytes behind", () => {
  const t = frozen();
  for (let at = 0; at < 100_000; at += 1000) t.fromPeer({ seq: at, len: 1000 });
  t.drain();
  cutAt(0, t);
  t.attach('b');
  handshake('b', 0, t);
  t.drain();
  // The new socket announced 1200 bytes at most, and 20 000 of window.
  t.f.nextMss[t.slot()] = 1200;
  t.f.nextEdge[t.slot()] = 20_000;
  t.commit();
  const sent = t.drain().filter(({ device, payload }) => device === 2 && payload.length > 0);
  assert.deepEqual(
    sent.map(({ seq }) => t.inOffset(seq)),
    [0],
  );
  assert.equal(sent[0]?.payload.length, 20_000);
  assert.equal(sent[0]?.gsoSize, 1188);
  // Fresh bytes of the peer queue behind.
  t.fromPeer({ seq: 100_000, len: 1000 });
  t.expectToPeer({ ack: 101_000 });
  t.expectNothing();
  t.fromGuest('b', { ack: 20_000, win: 1000 });
  const more = t.drain().filter(({ payload }) => payload.length > 0);
  assert.equal(t.inOffset(more[0]?.seq ?? 0), 20_000);
  assert.equal(
    more.reduce((sum, { payload }) => sum + payload.length, 0),
    81_000,
  );
  t.fromGuest('b', { ack: 101_000, win: 1000 });
  assert.equal(t.held(), 0);
});

test('S44: the congestion window opens with acknowledgements, from one super-packet', () => {
  const t = frozen();
  for (let at = 0; at < 400_000; at += 40_000) t.fromPeer({ seq: at, len: 40_000, gso: 1448 });
  t.drain();
  spliced(0, t);
  const slot = t.slot();
  assert.ok(t.f.playNxt[slot]! <= 64 * 1024);
  t.fromGuest('b', { ack: 60_000, win: 50_000 });
  assert.ok(t.f.playNxt[slot]! > 120_000 && t.f.playNxt[slot]! <= 60_000 + 2 * 64 * 1024);
});

test('S44: what is lost on the way to the guest is repeated by the gateway: three duplicate ACKs, partial ACKs, timeout', () => {
  const t = frozen();
  for (let at = 0; at < 20_000; at += 1000) t.fromPeer({ seq: at, len: 1000 });
  t.drain();
  spliced(0, t);
  t.fromGuest('b', { ack: 4000 });
  t.drain();
  t.fromGuest('b', { ack: 4000 });
  t.fromGuest('b', { ack: 4000 });
  t.expectNothing();
  t.fromGuest('b', { ack: 4000 });
  t.expectToGuest('b', { seq: 4000, len: 1448 });
  // A partial acknowledgement: the next hole at once (RFC 6582).
  t.fromGuest('b', { ack: 8000 });
  t.expectToGuest('b', { seq: 8000, len: 1448 });
  t.drain();
  t.advance(199);
  t.expectNothing();
  t.advance(20);
  assert.equal(t.inOffset(t.drain()[0]?.seq ?? 0), 8000);
  // The interval doubles.
  t.advance(350);
  t.expectNothing();
  t.advance(60);
  assert.ok(t.drain().length > 0);
});

test('S44: a window update is no duplicate acknowledgement', () => {
  const t = frozen();
  for (let at = 0; at < 20_000; at += 1000) t.fromPeer({ seq: at, len: 1000 });
  spliced(0, t);
  for (let win = 501; win < 511; win++) t.fromGuest('b', { ack: 0, win });
  assert.deepEqual(
    t.drain().filter(({ payload }) => payload.length > 0),
    [],
  );
});

test('S44: a closed window of the guest is probed until it opens', () => {
  const t = frozen();
  t.fromPeer({ seq: 0, len: 5000 });
  cutAt(0, t);
  t.attach('b');
  t.fromGuest('b', { flags: 'S', win: 0 });
  t.fromGuest('b', { seq: 0, win: 0 });
  t.commit();
  t.drain();
  t.advance(210);
  t.expectToGuest('b', { flags: 'PA', seq: -1, len: 0 });
  t.fromGuest('b', { seq: 0, win: 0 });
  t.advance(2000);
  assert.ok(t.drain().length >= 2);
  t.fromGuest('b', { seq: 0, win: 100 });
  t.expectToGuest('b', { seq: 0, len: 2896 });
});

test("S45: while the new window is behind what the peer was promised, bytes go to custody; then the peer's segments pass", () => {
  const t = talked(0, 0, { a: { shift: 7 } });
  // The old socket had promised 3 MB.
  t.fromGuest('a', { ack: 0, win: 24_000 });
  spliced(0, frozen(t));
  const slot = t.slot();
  const promised = 24_000 * 128;
  assert.equal(t.f.maxEdge[slot], promised);
  assert.equal(t.f.guestEdge[slot], 64_240);
  let passed = 0;
  for (let at = 0; at < promised - 40_000; at += 40_000) {
    t.fromPeer({ seq: at, len: 40_000, gso: 1448 });
    for (const seen of t.drain()) if (seen.device === 2 && seen.payload.length > 0) passed += seen.payload.length;
    t.fromGuest('b', { ack: t.f.playNxt[slot]!, win: 500 });
    for (const seen of t.drain()) if (seen.device === 2) passed += seen.payload.length;
  }
  assert.ok(passed > promised - 100_000);
  t.fromGuest('b', { ack: t.f.playNxt[slot]!, win: 1000 });
  t.drain();
  assert.equal(t.f.hold[slot], 0, 'the splice is complete');
  // From here packets pass as they are.
  const at = t.f.peerNxt[slot]!;
  t.fromPeer({ seq: at, len: 1448 });
  t.expectToGuest('b', { seq: at, len: 1448 });
  t.expectNothing();
});

test('S45: an idle connection whose new window never catches up works on in both directions for ever', () => {
  const t = talked(0, 0);
  t.fromGuest('a', { ack: 0, win: 24_000 });
  spliced(0, frozen(t));
  for (let i = 0; i < 50; i++) {
    t.advance(30_000, 1000);
    t.drain();
    t.fromPeer({ seq: i * 10, ack: i * 10, len: 10 });
    const [play, ack] = t.drain();
    assert.deepEqual([play?.device, play?.payload.length, ack?.device], [2, 10, 0]);
    t.fromGuest('b', { seq: i * 10, ack: (i + 1) * 10, len: 10 });
    t.expectToPeer({ seq: i * 10, ack: (i + 1) * 10, len: 10 });
    t.fromPeer({ seq: (i + 1) * 10, ack: (i + 1) * 10 });
    t.expectToGuest('b', { ack: (i + 1) * 10 });
    t.expectNothing();
  }
});

test('S45: a peer that fills what it was promised is stopped by a closed window, and goes on when the guest has caught up', () => {
  const t = talked(0, 0);
  t.fromGuest('a', { ack: 0, win: 8000 });
  spliced(0, frozen(t));
  const slot = t.slot();
  const promised = 8000 * 128;
  for (let at = 0; at < promised; at += 32_000) t.fromPeer({ seq: at, len: 32_000, gso: 1448 });
  assert.equal(t.drain().findLast(({ device }) => device === 0)?.window, 0);
  let opened = 0;
  for (let i = 0; i < 100 && opened === 0; i++) {
    t.fromGuest('b', { ack: t.f.playNxt[slot]!, win: 1000 });
    opened = t.drain().filter(({ device, window }) => device === 0 && window > 0).length;
  }
  assert.ok(opened > 0);
  assert.equal(t.f.hold[slot], 0);
  // No silly window: what was shown is worth a segment.
  assert.ok(t.f.maxEdge[slot]! - promised >= 1448);
});

test("S45 S13: bytes beyond the new socket's window, where an edge was rounded up, are held and played, not dropped", () => {
  // The peer knows units of 16 KiB; the new socket has finer ones, and its reader is slow.
  const t = established({ a: { shift: 14 } });
  t.fromGuest('a', { win: 4 });
  spliced(0, frozen(t));
  const slot = t.slot();
  t.fromGuest('b', { ack: 0, win: 1024 });
  t.drain();
  assert.equal(t.f.hold[slot], 0);
  let sent = 0;
  let got = 0;
  const guestEdge = 1024 * 128;
  for (let i = 0; i < 200; i++) {
    const len = Math.min(1448, t.f.maxEdge[slot]! - sent);
    if (len <= 0) break;
    t.fromPeer({ seq: sent, len });
    sent += len;
    for (const seen of t.drain())
      if (seen.device === 2 && seen.payload.length > 0) got = Math.max(got, t.inOffset(seen.seq) + seen.payload.length);
    // It acknowledges, and its edge does not move.
    const ack = Math.min(got, guestEdge);
    t.fromGuest('b', { ack, win: Math.floor((guestEdge - ack) / 128) });
    t.drain();
  }
  assert.ok(sent > guestEdge, `the peer was given ${sent}`);
  assert.ok(got <= guestEdge, "nothing goes beyond the guest's edge");
  assert.equal(t.f.ackedToPeer[slot], sent, 'all of it is acknowledged');
  for (let ack = guestEdge; ack < sent; ack = got) {
    t.fromGuest('b', { ack, win: 1024 });
    const rest = t.drain().filter(({ device, payload }) => device === 2 && payload.length > 0);
    assert.ok(rest.length > 0);
    for (const seen of rest) got = Math.max(got, t.inOffset(seen.seq) + seen.payload.length);
  }
  assert.equal(got, sent);
});

test('S31 S45: while the pool is empty, what the guest can take passes to it and is acknowledged by it', () => {
  const t = established({ limits: { custodyBytes: 32 * 1024 } });
  t.fromGuest('a', { ack: 0, win: 24_000 });
  spliced(0, frozen(t));
  assert.equal(t.f.hold[t.slot()], 1);
  // Another guest's flows have it all.
  t.arena.gauges[5] = t.arena.chunkFree.length;
  t.fromPeer({ seq: 0, len: 1000 });
  t.expectToGuest('b', { flags: 'PA', seq: 0, len: 1000 });
  t.expectNothing();
  // Out of order it is not held, and not passed.
  t.fromPeer({ seq: 3000, len: 1000 });
  t.expectToPeer({ ack: 0 });
  t.fromGuest('b', { ack: 1000 });
  t.expectToPeer({ ack: 1000 });
  t.fromPeer({ flags: 'FA', seq: 1000, len: 500 });
  t.expectToGuest('b', { flags: 'FA', seq: 1000, len: 500 });
  t.fromGuest('b', { ack: 1501 });
  t.expectToPeer({ ack: 1501 });
});

test('S13: a window of the new socket below one unit of the old scale can still be told', () => {
  const t = established({ a: { shift: 14 }, b: { shift: 0 } });
  t.fromGuest('a', { win: 4 });
  spliced(0, frozen(t));
  const slot = t.slot();
  // The promise is used up, and the new socket has four kilobytes.
  t.f.maxEdge[slot] = t.f.ackedToPeer[slot] = t.f.rcvNxt[slot] = t.f.peerNxt[slot] = 65_536;
  t.f.guestEdge[slot] = 65_536;
  t.f.hold[slot] = 0;
  t.fromGuest('b', { seq: 0, ack: 65_536, win: 0, len: 1 });
  assert.equal(t.drain().find(({ device }) => device === 0)?.window, 0);
  t.fromGuest('b', { seq: 1, ack: 65_536, win: 4000, len: 1 });
  assert.equal(t.drain().find(({ device }) => device === 0)?.window, 1);
});

test('S13: windows are translated from the new shift to the one the peer knows; SYN windows are not scaled', () => {
  for (let oldShift = 0; oldShift <= 14; oldShift++)
    for (let newShift = 0; newShift <= 14; newShift += 2) {
      const t = established({ a: { shift: oldShift }, b: { shift: newShift } });
      spliced(0, frozen(t));
      const slot = t.slot();
      t.drain();
      for (const win of [1000, 3000, 40_000, 65_535]) {
        t.fromGuest('b', { seq: 0, ack: 0, len: 1, win });
        const bytes = Math.min(win * 2 ** newShift, 4 * 1024 * 1024);
        const wanted = Math.max(t.f.maxEdge[slot]!, 0);
        const seen = t.drain().find(({ device }) => device === 0);
        assert.ok(seen !== undefined);
        const shown = seen.window * 2 ** oldShift;
        assert.ok(shown <= Math.max(bytes, wanted), `${shown} shown of ${bytes} from ${newShift} to ${oldShift}`);
        assert.ok(shown > Math.min(bytes, 65_535 * 2 ** oldShift) - 2 ** oldShift, 'rounded by less than a unit');
      }
    }
});

test('S13 S20: equal acknowledgements carry equal windows', () => {
  const t = established({ a: { shift: 9 }, b: { shift: 3 } });
  spliced(0, frozen(t));
  t.fromGuest('b', { seq: 0, len: 1, win: 20_001 });
  t.fromGuest('b', { seq: 1, len: 1, win: 20_001 });
  t.fromGuest('b', { seq: 2, len: 1, win: 20_010 });
  const windows = t
    .drain()
    .filter(({ device }) => device === 0)
    .map(({ window }) => window);
  assert.equal(new Set(windows).size, 1);
});

test('S39: the n-th move composes: one delta, one clock, both streams whole', () => {
  const t = talked(100, 100);
  let out = 100;
  let into = 100;
  for (let i = 0; i < 20; i++) {
    const leg = i % 2 === 0 ? 'b' : 'a';
    t.advance(100);
    move(t, leg, (i * 0x1234_5677) >>> 0);
    t.drain();
    t.fromGuest(leg, { seq: out, ack: into, len: 1000, win: 600 });
    t.expectToPeer({ seq: out, ack: into, len: 1000 });
    out += 1000;
    t.fromPeer({ seq: into, ack: out, len: 500 });
    const seen = t.drain().find(({ device, payload }) => device !== 0 && payload.length > 0);
    assert.equal(t.inOffset(seen?.seq ?? 0), into);
    into += 500;
    t.fromGuest(leg, { seq: out, ack: into, win: 600 });
    t.drain();
  }
  assert.equal(t.show().splices, 20);
  assert.equal(t.show().delta, (t.firstIsn + 1 + t.sockets.a.base - (t.sockets.a.isn + 1)) >>> 0);
});

test('S39: a move while custody is not drained: what is left is played to the newest socket', () => {
  const t = frozen();
  for (let at = 0; at < 300_000; at += 30_000) t.fromPeer({ seq: at, len: 30_000, gso: 1448 });
  spliced(0, t);
  t.fromGuest('b', { ack: 20_000, win: 1000 });
  t.drain();
  t.freeze();
  // Its kernel has 30 000 bytes in the end.
  t.fromGuest('b', { ack: 30_000, win: 1000 });
  t.fromPeer({ seq: 300_000, len: 1000 });
  t.drain();
  t.sockets.a.isn = 99;
  attached('a', 30_000, t);
  t.commit();
  assert.equal(t.show().custody.start, 30_000);
  let next = 30_000;
  for (let i = 0; i < 50 && next < 301_000; i++) {
    for (const seen of t.drain())
      if (seen.device === 1 && seen.payload.length > 0) {
        assert.equal(t.inOffset(seen.seq), next);
        next += seen.payload.length;
      }
    t.fromGuest('a', { ack: next, win: 2000 });
  }
  assert.equal(next, 301_000);
  assert.equal(t.held(), 0);
});

test('S39: aborted attaches leave no trace in MSS, base and numbers of the socket that goes on', () => {
  const t = cutAt(0, frozen(talked(500, 0)));
  t.attach('b');
  t.fromGuest('b', { flags: 'S', mss: 536 });
  t.drain();
  t.abort();
  t.drain();
  for (let at = 0; at < 3; at++) t.fromPeer({ seq: at * 1000, ack: 500, len: 1000 });
  t.freeze();
  t.fromPeer({ seq: 3000, ack: 500, len: 20_000, gso: 1448 });
  t.drain();
  t.abort();
  const played = t.drain().filter(({ device, payload }) => device === 1 && payload.length > 0);
  assert.deepEqual([...new Set(played.map(({ gsoSize }) => gsoSize))], [1448]);
  assert.equal(t.show().sequence.attachOffset, 0);
  assert.equal(t.show().sequence.currentGuestIsn, t.sockets.a.isn);
});

/** Replays what the gateway emits to a leg, as the kernel's ACK of all of it. */
function acknowledge(t: Bench, leg: 'a' | 'b'): number {
  let end = 0;
  for (const seen of t.drain())
    if (seen.device !== 0)
      end = Math.max(end, t.inOffset(seen.seq) + seen.payload.length + (seen.flags.includes('F') ? 1 : 0));
  if (end > 0) t.fromGuest(leg, { ack: end, win: 2000, seq: t.f.guestNxt[t.slot()]! });
  return end;
}

test('S34: a window that was closed and opened by the guest is repeated until the peer makes use of it', () => {
  const t = talked(0, 0);
  t.fromGuest('a', { ack: 0, win: 1000 });
  spliced(0, frozen(t));
  for (let at = 0; at < 128_000; at += 32_000) t.fromPeer({ seq: at, len: 32_000, gso: 1448 });
  for (let i = 0; i < 10; i++) acknowledge(t, 'b');
  t.drain();
  t.advance(1000);
  const repeated = t.drain().filter(({ device }) => device === 0);
  assert.ok(repeated.length >= 2 && repeated.every(({ window }) => window > 0));
  t.fromPeer({ seq: 128_000, len: 10 });
  t.drain();
  t.advance(300_000, 100);
  assert.deepEqual(
    t.drain().filter(({ device }) => device === 0),
    [],
  );
});

test('S34: a peer that has ended is told of no window: when it is gone, it would answer by RST', () => {
  for (const played of [2, 10]) {
    const t = talked(0, 0);
    t.fromGuest('a', { ack: 0, win: 1000 });
    spliced(0, frozen(t));
    for (let at = 0; at < 128_000; at += 32_000) t.fromPeer({ seq: at, len: 32_000, gso: 1448 });
    // All of it, or a part: the rest is in custody.
    for (let i = 0; i < played; i++) acknowledge(t, 'b');
    t.drain();
    t.fromPeer({ flags: 'FA', seq: 128_000 });
    for (let i = played; i < 10; i++) acknowledge(t, 'b');
    t.fromGuest('b', { ack: 128_001, win: 2000 });
    const told = t.drain().flatMap(({ device, ack }) => (device === 0 ? [t.inOffset(ack)] : []));
    // The peer may be gone once it has that.
    assert.deepEqual([told.at(-1), told.indexOf(128_001)], [128_001, told.length - 1], told.join());
    t.advance(300_000, 100);
    assert.ok(t.drain().every(({ device }) => device !== 0));
  }
});

test('S34: an idle connection is not told of its window for ever after a move', () => {
  const t = spliced(0);
  t.advance(600_000, 100);
  t.expectNothing();
});
