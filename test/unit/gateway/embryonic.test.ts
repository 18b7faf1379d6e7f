/** S15: listeners of a frozen guest, and connections that no accept had returned at the cut. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { frozen } from './factories.ts';
import { Bench } from './lang.ts';

/** A peer's SYN came; the listener has not answered. */
function synReceived(): Bench {
  const t = new Bench();
  t.firstSocket = { ...t.sockets.a };
  t.fromPeer({ flags: 'S', win: 64_000, mss: 1400 });
  t.drain();
  return t;
}

/** The listener's SYN-ACK went to the peer, whose ACK has not come. */
function answered(): Bench {
  const t = synReceived();
  t.fromGuest('a', { flags: 'SA', win: 65_000 });
  t.drain();
  return t;
}

/** The offset of sequence number 0: where a closed port's RST stands (RFC 9293 §3.10.7.1). */
function atZero(t: Bench): number {
  return -t.sockets.b.isn - 1;
}

function moved(t: Bench): Bench {
  const result = t.verb('export', { epoch: 1, sockets: [] });
  assert.ok(result.settled);
  assert.deepEqual(result.flows, [], 'the runtime has nothing to do with it');
  assert.deepEqual(t.verb('attach', { epoch: 2, leg: 'b' }).flows, []);
  t.commit();
  return t;
}

test('S15: a new SYN to a frozen listener waits, and is served after the move', () => {
  const t = frozen(new Bench());
  t.fromPeer({ flags: 'S', win: 64_000, mss: 1400 });
  t.fromPeer({ flags: 'S', win: 64_000, mss: 1400 });
  t.expectNothing();
  assert.equal(t.arena.gauges[2], 1);
  moved(t);
  t.expectToGuest('b', { flags: 'S', seq: -1, mss: 1400, ws: 7, sackOk: true, win: 64_000 });
  t.firstSocket = { ...t.sockets.b };
  t.fromGuest('b', { flags: 'SA', win: 65_000 });
  t.expectToPeer({ flags: 'SA', seq: -1, ack: 0 });
  t.fromPeer({ seq: 0, ack: 0 });
  t.expectToGuest('b', { flags: 'A', seq: 0, ack: 0 });
  t.fromPeer({ seq: 0, ack: 0, len: 100 });
  const data = t.drain().filter(({ payload }) => payload.length > 0);
  assert.deepEqual(
    data.map(({ device }) => device),
    [2],
  );
  assert.equal(t.state(), 'ESTABLISHED');
});

test('S15: the same, and the guest stays: abort lets the SYN in', () => {
  const t = frozen(new Bench());
  t.fromPeer({ flags: 'S' });
  t.abort();
  t.expectToGuest('a', { flags: 'S', seq: -1 });
});

test('S15: the last of several attempts of a waiting peer counts', () => {
  const t = frozen(new Bench());
  t.fromPeer({ flags: 'S' });
  t.peer.isn = 99;
  t.fromPeer({ flags: 'S' });
  moved(t);
  t.expectToGuest('b', { flags: 'S', seq: -1 });
});

test('S15: the SYN towards a new listener is repeated until it answers, ever more slowly', () => {
  const t = frozen(new Bench());
  t.fromPeer({ flags: 'S' });
  moved(t);
  t.drain();
  t.advance(60_000);
  const times = t.drain();
  assert.ok(times.length >= 8 && times.length <= 14, `${times.length}`);
  assert.ok(times.every(({ flags }) => flags === 'S'));
});

test('S15: a listener that refuses: the peer gets the RST, and nothing is repeated', () => {
  const t = frozen(new Bench());
  t.fromPeer({ flags: 'S' });
  moved(t);
  t.drain();
  t.allowReset = true;
  // What an older socket of that leg left is no answer.
  t.fromGuest('b', { flags: 'RA', seq: 500, ack: 0 });
  t.expectNothing();
  t.fromGuest('b', { flags: 'RA', seq: atZero(t), ack: 0 });
  t.expectToPeer({ flags: 'RA', ack: 0 });
  t.advance(11_000);
  t.expectNothing();
  assert.equal(t.arena.gauges[2], 0);
});

test('S15 S32: a waiting peer gives up: a RST at its SYN ends it, another is an attack', () => {
  const t = frozen(new Bench());
  t.fromPeer({ flags: 'S' });
  t.fromPeer({ flags: 'R', seq: 5 });
  assert.equal(t.state(), 'SYN-RECEIVED');
  t.fromPeer({ flags: 'R', seq: 0 });
  assert.equal(t.state(), 'CLOSED');
  moved(t);
  t.expectNothing();
});

test('S15: SYN-RECEIVED at the cut, not answered by the old listener: the new one answers', () => {
  const t = frozen(synReceived());
  // The old kernel's answer is late, and lost.
  t.fromGuest('a', { flags: 'SA' });
  t.expectNothing();
  moved(t);
  t.expectToGuest('b', { flags: 'S', seq: -1, mss: 1400 });
  t.firstSocket = { ...t.sockets.b };
  t.fromGuest('b', { flags: 'SA', win: 65_000 });
  t.expectToPeer({ flags: 'SA', seq: -1, ack: 0 });
});

test("S15: SYN-RECEIVED with the old ISN shown to the peer: the new listener's connection is spliced to it", () => {
  const t = frozen(answered());
  t.fromPeer({ seq: 0, ack: 0 });
  t.fromPeer({ seq: 0, ack: 0, len: 300 });
  t.drain();
  moved(t);
  t.expectToGuest('b', { flags: 'S', seq: -1 });
  t.fromGuest('b', { flags: 'SA', win: 64_000 });
  t.expectToPeer({ flags: 'A', seq: 0, ack: 300 });
  t.expectToGuest('b', { flags: 'A', seq: 0, ack: 0 });
  t.expectToGuest('b', { flags: 'PA', seq: 0, len: 300 });
  t.fromGuest('b', { seq: 0, ack: 300, len: 40 });
  t.expectToPeer({ seq: 0, ack: 300, len: 40 });
  // Our ACK was lost: the listener repeats its answer, which the peer must not see.
  t.fromGuest('b', { flags: 'SA', win: 64_000 });
  t.expectToGuest('b', { flags: 'A', ack: 0 });
  t.expectNothing();
});

test("S15: the peer had not acknowledged the old answer: it gets the same again, from the new listener's", () => {
  const t = frozen(answered());
  moved(t);
  t.expectToGuest('b', { flags: 'S', seq: -1 });
  t.fromGuest('b', { flags: 'SA', win: 64_000 });
  t.expectToPeer({ flags: 'SA', seq: -1, ack: 0, win: 65_000 });
  t.fromGuest('b', { flags: 'SA', win: 4000, ws: 0 });
  t.expectToPeer({ flags: 'SA', seq: -1, ack: 0, win: 65_000, ws: 7 });
  t.fromPeer({ seq: 0, ack: 0 });
  t.expectToGuest('b', { flags: 'A', seq: 0, ack: 0 });
  assert.equal(t.state(), 'ESTABLISHED');
});

test('S9 S15: a peer that repeats its SYN while frozen, for it never got the answer, gets it from the gateway', () => {
  const t = frozen(answered());
  t.fromPeer({ flags: 'S', mss: 1400 });
  t.expectToPeer({ flags: 'SA', seq: -1, ack: 0, mss: 1460, ws: 7, sackOk: true });
  t.fromPeer({ seq: 0, ack: 0, len: 10 });
  t.expectToPeer({ ack: 10 });
});

test('S15: an embryonic connection survives an abort: the old listener knows it by its ISN', () => {
  const t = frozen(answered());
  const result = t.verb('export', { epoch: 1, sockets: [] });
  assert.ok(result.settled);
  t.fromPeer({ seq: 0, ack: 0, len: 10 });
  t.drain();
  t.abort();
  t.expectToGuest('a', { flags: 'S', seq: -1 });
  t.fromGuest('a', { flags: 'SA', win: 65_000 });
  const seen = t.drain();
  assert.deepEqual(
    seen.filter(({ device }) => device === 1).map(({ flags }) => flags),
    ['A', 'PA'],
  );
  assert.equal(t.show().delta, 0);
});

test('S15: after an abort the old kernel turns out to have the connection: it goes on', () => {
  const t = frozen(answered());
  t.verb('export', { epoch: 1, sockets: [] });
  t.fromPeer({ seq: 0, ack: 0, len: 10 });
  t.abort();
  t.drain();
  // The peer's ACK had reached it just before the freeze: a SYN gets a challenge (RFC 5961 §4).
  t.fromGuest('a', { seq: 0, ack: 0 });
  const seen = t.drain();
  assert.deepEqual(seen.filter(({ device, payload }) => device === 1 && payload.length > 0).length, 1);
  t.advance(5000);
  assert.ok(t.drain().every(({ flags }) => !flags.includes('S')));
});

test('S15: a pending connection that the drain accepted moves as an ordinary one', () => {
  const t = frozen(answered());
  // First the drain misses it, then it is there.
  t.verb('export', { epoch: 1, sockets: [] });
  const result = t.export(0);
  assert.ok(result.settled);
  assert.equal(result.flows.length, 1);
  t.fromPeer({ seq: 0, ack: 0, len: 10 });
  t.attach('b');
  t.drain();
  t.fromGuest('b', { flags: 'S', win: 64_240 });
  t.expectToGuest('b', { flags: 'SA', seq: -1, ack: 0 });
  t.fromGuest('b', { seq: 0, ack: 0 });
  t.commit();
  assert.deepEqual(t.drain().filter(({ device, payload }) => device === 2 && payload.length > 0).length, 1);
});

test("S6 S15: what the old kernel acknowledges of a connection that no accept had returned is not the guest's", () => {
  const t = answered();
  t.fromPeer({ seq: 0, ack: 0, len: 300 });
  t.freeze();
  assert.ok(t.verb('export', { epoch: 1, sockets: [] }).settled);
  t.drain();
  // Too late for the drain: these bytes end with that kernel's socket.
  t.fromGuest('a', { seq: 0, ack: 300 });
  t.expectNothing();
  t.fromPeer({ seq: 0, ack: 0, len: 300 });
  t.expectToPeer({ ack: 300 });
  assert.equal(t.held(), 300);
});

test('S15 S32: a listener that refuses what the peer thinks is open: the peer is reset at its RCV.NXT', () => {
  const t = frozen(answered());
  t.fromPeer({ seq: 0, ack: 0, len: 30 });
  moved(t);
  t.drain();
  t.allowReset = true;
  t.fromGuest('b', { flags: 'RA', seq: 77, ack: 0 });
  t.expectNothing();
  t.fromGuest('b', { flags: 'RA', seq: atZero(t), ack: 0 });
  t.expectToPeer({ flags: 'RA', seq: 0, ack: 30 });
  assert.equal(t.state(), 'CLOSED');
  assert.equal(t.held(), 0);
});

test('S15: a new connection during the attach waits for the commit', () => {
  const t = frozen(new Bench());
  t.verb('export', { epoch: 1, sockets: [] });
  t.verb('attach', { epoch: 2, leg: 'b' });
  t.fromPeer({ flags: 'S' });
  t.expectNothing();
  t.commit();
  t.expectToGuest('b', { flags: 'S', seq: -1 });
});
