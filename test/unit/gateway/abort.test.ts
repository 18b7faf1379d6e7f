/** The way back: a frozen guest goes on where it was, or ends there. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { attached, connected, frozen, talked } from './factories.ts';

test('S7: abort gives the connection back: custody is played to the old socket, which goes on where it was', () => {
  const t = frozen(talked(500, 1000));
  t.fromPeer({ seq: 1000, ack: 500, len: 700 });
  t.drain();
  t.abort();
  t.expectToPeer({ flags: 'A', seq: 500, ack: 1700 });
  t.expectToGuest('a', { flags: 'A', seq: 1000, ack: 500 });
  t.expectToGuest('a', { flags: 'PA', seq: 1000, ack: 500, len: 700 });
  t.fromGuest('a', { seq: 500, ack: 1700, len: 100 });
  t.expectToPeer({ seq: 500, ack: 1700, len: 100 });
  assert.equal(t.held(), 0);
  assert.equal(t.show().delta, 0);
  assert.equal(t.show().splices, 0);
});

test('S7: abort is idempotent, and refused once the move was committed or the guest sealed', () => {
  const t = frozen();
  t.abort();
  t.drain();
  t.abort();
  t.expectNothing();
  attached('b', 0, frozen(t));
  t.commit();
  assert.throws(() => t.verb('abort', { epoch: 1 }), { code: 'KEDGE_EPOCH_COMMITTED' });
  t.drain();
  t.freeze();
  t.export(0);
  t.verb('seal', { epoch: 2 });
  assert.throws(() => t.abort(), { code: 'KEDGE_GUEST_SEALED' });
});

test('S6: abort after an export, with K above the last ACK of the old kernel', () => {
  const t = talked(0, 1000);
  t.fromPeer({ seq: 1000, len: 500 });
  t.freeze();
  t.fromPeer({ seq: 1500, len: 500 });
  t.export(1500);
  t.drain();
  t.abort();
  const played = t.drain().filter(({ device, payload }) => device === 1 && payload.length > 0);
  assert.deepEqual(
    played.map(({ seq, payload }) => [t.inOffset(seq), payload.length]),
    [[1500, 500]],
  );
});

test('S36: a guest that connects is frozen before the answer: the gateway completes it, abort gives the answer to its socket', () => {
  const t = connected();
  t.ports = { guest: 5001, peer: 443, outside: 5001 };
  t.fromGuest('a', { flags: 'S' });
  t.drain();
  t.freeze();
  t.fromPeer({ flags: 'SA', win: 64_000 });
  t.expectToPeer({ flags: 'A', seq: 0, ack: 0 });
  t.fromPeer({ seq: 0, len: 300 });
  t.drain();
  t.abort();
  const seen = t.drain().filter(({ device, dstPort }) => device === 1 && dstPort === 5001);
  assert.deepEqual(
    seen.map(({ flags }) => flags),
    ['SA'],
  );
  assert.equal(t.inOffset(seen[0]?.seq ?? 0), -1);
  assert.equal(t.socketOffset('a', seen[0]?.ack ?? 0), 0);
  // Lost: the guest repeats its SYN, and is answered again, not the peer asked.
  t.fromGuest('a', { flags: 'S' });
  t.expectToGuest('a', { flags: 'SA', seq: -1, ack: 0 });
  t.fromGuest('a', { seq: 0, ack: 0 });
  assert.deepEqual(
    t
      .drain()
      .filter(({ device }) => device === 1)
      .map(({ payload }) => payload.length),
    [300],
  );
});

test("unregister while frozen: open connections are reset at the peer's RCV.NXT, closed ones are left", () => {
  const t = frozen(talked(500, 1000));
  t.fromPeer({ seq: 1000, ack: 500, len: 100 });
  t.drain();
  t.allowReset = true;
  t.verb('unregister', { epoch: 1 });
  t.expectToPeer({ flags: 'RA', seq: 500, ack: 1100 });
  t.expectNothing();
  assert.equal(t.slot(), -1);
  assert.equal(t.arena.gauges[5], 0, 'custody is free');
  // Late segments of the peer are answered as by a host without the socket.
  t.fromPeer({ seq: 1100, ack: 600, len: 10 });
  t.expectToPeer({ flags: 'R' });
});
