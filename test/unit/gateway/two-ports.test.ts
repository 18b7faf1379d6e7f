/** One port of a guest that is published as two, and a peer that connects to both from one port of its own. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Bench, GUEST_PORT, OUTSIDE_PORT } from './lang.ts';

const SECOND = 8081;

/** The peer has connected by the first outside port. */
function twice(): Bench {
  const t = new Bench();
  t.verb('unregister', { epoch: 1 });
  t.verb('register', {
    name: 'guest',
    address: '100.64.0.9',
    leg: 'a',
    publish: [OUTSIDE_PORT, SECOND].map((outsidePort) => ({ proto: 'tcp', outsidePort, guestPort: GUEST_PORT })),
  });
  t.firstSocket = { ...t.sockets.a };
  t.fromPeer({ flags: 'S' });
  t.fromGuest('a', { flags: 'SA' });
  t.fromPeer({ seq: 0, ack: 0 });
  t.drain();
  return t;
}

/** Whether a connection by the second outside port reaches the guest. */
function second(t: Bench, peer?: number): void {
  t.fromPeer({ flags: 'S' }, { outside: SECOND, ...(peer === undefined ? {} : { peer }) });
}

test('a connection that the guest could not tell from another is refused, and the other goes on and moves', () => {
  const t = twice();
  second(t);
  const [refusal] = t.drain();
  assert.deepEqual([refusal?.device, refusal?.flags, refusal?.srcPort], [0, 'RA', SECOND]);
  assert.equal(t.drops()['port-collision'], 1);
  assert.equal(t.ctx.arena.gauges[2], 1);
  t.fromPeer({ seq: 0, len: 100 });
  t.expectToGuest('a', { len: 100 });
  t.fromGuest('a', { ack: 100 });
  t.freeze();
  second(t);
  assert.equal(t.drops()['port-collision'], 2, 'frozen, too');
  assert.ok(t.export(100).settled);
});

test('another port of the peer may use the second one at the same time', () => {
  const t = twice();
  second(t, 50_000);
  t.expectToGuest('a', { flags: 'S' });
  assert.equal(t.ctx.arena.gauges[2], 2);
});

test('a connection that has ended is in nobody’s way', () => {
  const t = twice();
  t.allowReset = true;
  t.fromGuest('a', { flags: 'RA', seq: 0, ack: 0 });
  t.drain();
  second(t);
  assert.equal(t.emitted[0]?.device, 1, 'the SYN passes to the guest');
  assert.equal(t.f.outsidePort[t.slot()], SECOND);
  assert.equal(t.ctx.arena.gauges[2], 1);
});
