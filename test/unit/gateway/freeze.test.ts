/** The gateway in the guest's place: custody, probes, resets, attacks, and the way back by abort. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CUSTODY_LIMIT } from '../../../src/gateway/arena.ts';
import { attached, established, frozen, talked } from './factories.ts';
import type { Bench } from './lang.ts';
import { IN_STREAM } from './watch.ts';
import { patternBytes } from './wire.ts';

/** Sends the peer's bytes [from, to) in segments of `mss`. */
function flood(t: Bench, from: number, to: number, mss = 1448, ack = 0): void {
  for (let at = from; at < to; at += mss) t.fromPeer({ seq: at, ack, len: Math.min(mss, to - at) });
}

test('S31: in-order bytes of the peer go to custody and are acknowledged from there; nothing reaches the guest', () => {
  const t = frozen();
  t.fromPeer({ seq: 0, len: 1000 });
  t.expectToPeer({ flags: 'A', seq: 0, ack: 1000, sack: [] });
  t.fromPeer({ seq: 1000, len: 1000 });
  t.expectToPeer({ ack: 2000 });
  t.expectNothing();
  assert.equal(t.held(), 2000);
  assert.equal(t.show().custody.bytes, 2000);
});

test('S5: out-of-order bytes are kept and reported by SACK, the latest range first', () => {
  const t = frozen();
  t.fromPeer({ seq: 2000, len: 500 });
  t.expectToPeer({ ack: 0, sack: [[2000, 2500]] });
  t.fromPeer({ seq: 4000, len: 500 });
  t.expectToPeer({
    ack: 0,
    sack: [
      [4000, 4500],
      [2000, 2500],
    ],
  });
  t.fromPeer({ seq: 6000, len: 500 });
  t.fromPeer({ seq: 8000, len: 500 });
  t.drain();
  t.fromPeer({ seq: 2500, len: 100 });
  t.expectToPeer({
    ack: 0,
    sack: [
      [2000, 2600],
      [4000, 4500],
      [6000, 6500],
    ],
  });
  // The gap is filled: everything up to the next one counts.
  t.fromPeer({ seq: 0, len: 2000 });
  t.expectToPeer({
    ack: 2600,
    sack: [
      [4000, 4500],
      [6000, 6500],
      [8000, 8500],
    ],
  });
  assert.equal(t.held(), 2600 + 1500);
});

test('S17: without SACK-permitted in the handshake there is no SACK option', () => {
  const t = frozen(established({ a: { sackOk: false } }));
  t.fromPeer({ seq: 2000, len: 500 });
  assert.deepEqual(t.expectToPeer({ ack: 0 }).kinds, [8]);
});

test('S10: without timestamps in the handshake there are none', () => {
  const t = frozen(established({ a: { ts: false } }));
  t.fromPeer({ seq: 0, len: 500, ts: false });
  assert.deepEqual(t.expectToPeer({ ack: 500 }).kinds, []);
});

test('S7 S40: what the old socket still sends reaches nobody; its FIN and RST die here', () => {
  const t = frozen(talked(1000, 1000));
  t.fromGuest('a', { seq: 1000, ack: 1000, len: 500 });
  t.fromGuest('a', { flags: 'FA', seq: 1500, ack: 1000 });
  t.fromGuest('a', { flags: 'RA', seq: 1500, ack: 1000 });
  t.expectNothing();
  assert.equal(t.drops()['frozen'], 3);
  assert.equal(t.state(), 'ESTABLISHED');
  assert.equal(t.f.sndNxt[t.slot()], 1000);
});

test('S29: keepalive probes are answered for ever, with advancing TSval that echoes the peer', () => {
  const t = frozen(talked(1000, 1000));
  let last = 0;
  for (let minute = 0; minute < 100; minute++) {
    t.advance(60_000, 60_000);
    t.fromPeer({ seq: 999, ack: 1000 });
    const answer = t.expectToPeer({ flags: 'A', seq: 1000, ack: 1000, len: 0, tsEcr: t.f.lastTsIn[t.slot()]! });
    const value = answer.ts?.[0] ?? 0;
    if (minute > 0) assert.equal((value - last) | 0, 60_000);
    last = value;
    t.expectNothing();
  }
});

test('S18: what the gateway says shortly after the guest has no later clock than what may still be on its way', () => {
  const t = frozen(talked(1000, 1000));
  const last = t.f.lastTsOut[t.slot()]!;
  for (let ms = 1; ms <= 20; ms++) {
    t.advance(1);
    t.fromPeer({ seq: 999, ack: 1000 });
    assert.equal(t.expectToPeer({ flags: 'A' }).ts?.[0], last, `${ms} ms later`);
  }
  t.advance(30);
  t.fromPeer({ seq: 999, ack: 1000 });
  assert.equal(t.expectToPeer({ flags: 'A' }).ts?.[0], last + 30);
});

test('S29: a keepalive with one byte of garbage is answered, too', () => {
  const t = frozen(talked(0, 1000));
  t.fromPeer({ seq: 999, len: 1 });
  t.expectToPeer({ ack: 1000 });
  assert.equal(t.held(), 0);
});

test('S29 S33: bytes that were acknowledged are not written over by what comes later in their place', () => {
  const t = frozen(talked(0, 1000));
  t.fromPeer({ seq: 1000, len: 1000 });
  t.fromPeer({ seq: 1999, bytes: [0xee] }); // a keepalive with one byte of garbage
  t.fromPeer({ seq: 1500, bytes: [...Array<number>(500).fill(0xee), ...Array<number>(100).fill(0x11)] });
  t.drain();
  assert.equal(t.held(), 1100);
  const bytes = new Uint8Array(1100);
  t.ctx.custody.copy(t.slot(), 1000, 1100, bytes, 0);
  assert.deepEqual(bytes.subarray(0, 1000), patternBytes(IN_STREAM, 1000, 1000));
  assert.ok(bytes.subarray(1000).every((byte) => byte === 0x11));
});

test('S29: while the new socket catches up, a keepalive is answered with a TSval that goes on', () => {
  const t = attached('b', 0);
  t.commit();
  t.drain();
  assert.equal(t.f.hold[t.slot()], 1);
  let last = t.f.lastTsOut[t.slot()]!;
  for (let i = 0; i < 5; i++) {
    t.advance(1000);
    t.fromPeer({ seq: -1 });
    t.expectToGuest('b', { flags: 'A', seq: -1, len: 0 });
    const value = t.expectToPeer({ ack: 0 }).ts?.[0] ?? 0;
    assert.ok(((value - last) | 0) > 0);
    last = value;
  }
});

test('S31 S30: a full custody closes the window at the edge that was promised, and answers every probe', () => {
  const t = frozen();
  const seen: number[] = [];
  let at = 0;
  for (;;) {
    const edge = t.f.maxEdge[t.slot()]!;
    const len = Math.min(1448, edge - at);
    if (len <= 0) break;
    t.fromPeer({ seq: at, len });
    at += len;
    const [ack, ...others] = t.drain();
    assert.ok(ack !== undefined && others.length === 0);
    assert.equal(t.inOffset(ack.ack), at, 'everything is acknowledged at once');
    seen.push(ack.window);
  }
  assert.ok(at >= CUSTODY_LIMIT, `${at} bytes in custody`);
  assert.equal(seen.at(-1), 0);
  assert.equal(t.held(), at);
  for (let i = 0; i < 200; i++) {
    t.advance(60_000, 60_000);
    // Linux probes one byte back; others with one byte at the edge.
    t.fromPeer(i % 2 === 0 ? { seq: at - 1 } : { seq: at, len: 1 });
    t.expectToPeer({ ack: at, win: 0 });
    t.expectNothing();
  }
  assert.equal(t.held(), at);
});

test('S31: every scale and segment size ends in a closed window, all promised bytes held, nothing beyond capacity', () => {
  for (let shift = 0; shift <= 14; shift++)
    for (const mss of [1448, 60_000]) {
      const t = frozen(established({ a: { shift }, limits: { custodyBytes: 8 * 1024 * 1024 } }));
      let at = 0;
      let rounds = 0;
      for (;;) {
        const len = Math.min(mss, t.f.maxEdge[t.slot()]! - at);
        if (len <= 0) break;
        t.fromPeer({ seq: at, len, ...(len > 1448 ? { gso: 1448 } : {}) });
        at += len;
        assert.ok(++rounds < 20_000, `scale ${shift}, MSS ${mss}: the window never closes`);
      }
      assert.equal(t.held(), at, `scale ${shift}, MSS ${mss}`);
      assert.equal(t.emitted.at(-1)?.window, 0);
      assert.equal(t.f.ackedToPeer[t.slot()], at);
      if (shift >= 7) assert.ok(at >= CUSTODY_LIMIT - 2 ** shift, `scale ${shift}: ${at}`);
    }
});

test('S34: K makes room in a full custody, and the peer is told, again and again until it makes use of it', () => {
  const t = frozen();
  let at = 0;
  for (let len = 1; len > 0;) {
    len = Math.min(64_000, t.f.maxEdge[t.slot()]! - at);
    if (len > 0) t.fromPeer({ seq: at, len, gso: 1448 });
    at += len;
  }
  t.drain();
  t.abort();
  // The old kernel takes half of it, and is frozen again.
  t.drain();
  t.fromGuest('a', { ack: 2_000_000, win: 0 });
  t.drain();
  t.freeze();
  t.drain();
  const room = t.export(2_000_000);
  assert.ok(room.settled);
  const told = t.drain();
  assert.ok(
    told.some(({ window }) => window > 0),
    'told',
  );
  t.advance(60_000);
  const again = t.drain();
  assert.ok(again.length >= 5 && again.length < 20, `${again.length} repetitions`);
  t.fromPeer({ seq: at, len: 1000 });
  t.drain();
  t.advance(60_000);
  t.expectNothing();
});

test('S31: an exhausted pool of custody: what is not held is not acknowledged, and no more is promised', () => {
  const t = frozen(established({ limits: { custodyBytes: 64 * 1024 }, a: { shift: 7 } }));
  t.fromPeer({ seq: 0, len: 1000 });
  const first = t.expectToPeer({ ack: 1000 });
  assert.ok(t.inOffset(first.ack) + first.window * 128 <= 66_000, 'promises what there is');
  flood(t, 1000, 65_000);
  t.drain();
  flood(t, 65_000, 80_000);
  const last = t.drain().at(-1);
  assert.ok(last !== undefined);
  assert.ok(t.inOffset(last.ack) <= 64 * 1024);
  assert.equal(t.held(), t.inOffset(last.ack));
  // Everything is freed with the flow.
  t.verb('abort', { epoch: 1 });
  t.allowReset = true;
  t.verb('unregister', { epoch: 1 });
  assert.equal(t.arena.gauges[5], 0);
});

test("S31: a pool that the flow's own bytes above a gap have filled still takes the bytes of the gap", () => {
  const t = frozen(established({ limits: { custodyBytes: 48 * 1024 } }));
  for (let at = 20_000; at < 100_000; at += 1000) t.fromPeer({ seq: at, len: 1000 });
  t.drain();
  assert.equal(t.ctx.custody.room(), 0);
  for (let at = 0; at < 60_000; at += 1000) t.fromPeer({ seq: at, len: 1000 });
  assert.equal(t.f.ackedToPeer[t.slot()], 48 * 1024);
});

test('S21: never an ACK for a byte that neither guest nor custody has, also when more islands come than are remembered', () => {
  const t = frozen();
  // Forty islands, the highest first, each refused or evicting; then the stream from its start in small steps.
  for (let i = 40; i > 0; i--) t.fromPeer({ seq: 3000 * i, len: 100 });
  t.drain();
  for (let at = 0; at < 123_000; at += 500) {
    t.fromPeer({ seq: at, len: 500 });
    const seen = t.drain();
    assert.ok(t.inOffset(seen[0]?.ack ?? 0) >= at + 500, `stuck at ${t.inOffset(seen[0]?.ack ?? 0)}`);
  }
});

test('S32: a FIN of the peer goes to custody behind its data, and is acknowledged', () => {
  const t = frozen();
  t.fromPeer({ seq: 0, len: 100 });
  t.fromPeer({ flags: 'FA', seq: 100, len: 50 });
  t.drain();
  assert.equal(t.f.ackedToPeer[t.slot()], 151);
  assert.equal(t.state(), 'CLOSE-WAIT');
  t.fromPeer({ flags: 'FA', seq: 100, len: 50 });
  t.expectToPeer({ ack: 151 });
});

test('S32: a FIN that a later ACK without data has overtaken is a FIN, frozen or not', () => {
  for (const when of ['plain', 'frozen']) {
    const t = talked(500, 1000);
    if (when === 'frozen') t.freeze();
    t.fromPeer({ seq: 1001, ack: 500 });
    t.fromPeer({ flags: 'FA', seq: 1000, ack: 500 });
    t.drain();
    assert.equal(t.f.inFin[t.slot()], 1000, when);
    // Data behind a FIN is none; a FIN before what was seen is an attack.
    t.fromPeer({ flags: 'FA', seq: 900, ack: 500 });
    assert.equal(t.f.inFin[t.slot()], 1000);
  }
});

test('S32: a FIN above a gap is not acknowledged before the gap is filled', () => {
  const t = frozen();
  t.fromPeer({ flags: 'FA', seq: 1000, len: 50 });
  t.expectToPeer({ ack: 0, sack: [[1000, 1050]] });
  assert.equal(t.state(), 'ESTABLISHED');
  t.fromPeer({ seq: 0, len: 1000 });
  t.expectToPeer({ ack: 1051 });
  assert.equal(t.state(), 'CLOSE-WAIT');
});
