/** One port of a guest that is published as two, and a peer that uses both from one port of its own. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Bench, GUEST_PORT, OUTSIDE_PORT } from './lang.ts';
import { GUEST_ADDRESS, OUTSIDE_ADDRESS, PEER_ADDRESS, datagram } from './segments.ts';

const SECOND = 8081;

function published(proto: 'tcp' | 'udp'): Bench {
  const t = new Bench();
  t.verb('unregister', { epoch: 1 });
  t.verb('register', {
    name: 'guest',
    address: '100.64.0.9',
    leg: 'a',
    publish: [OUTSIDE_PORT, SECOND].map((outsidePort) => ({ proto, outsidePort, guestPort: GUEST_PORT })),
  });
  return t;
}

/** The peer has connected by the first outside port. */
function twice(): Bench {
  const t = published('tcp');
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

test('datagrams that the guest could not tell from others are dropped, and answers leave by the port that was asked', () => {
  const t = published('udp');
  const ask = (outsidePort: number, peerPort: number): void =>
    t.raw(0, datagram(PEER_ADDRESS, OUTSIDE_ADDRESS, peerPort, outsidePort));
  const answer = (peerPort: number): void => t.raw(1, datagram(GUEST_ADDRESS, PEER_ADDRESS, GUEST_PORT, peerPort));
  ask(OUTSIDE_PORT, 4000);
  ask(SECOND, 4000);
  ask(SECOND, 4001);
  assert.deepEqual(
    t.drain().map(({ device, srcPort }) => [device, srcPort]),
    [
      [1, 4000],
      [1, 4001],
    ],
  );
  assert.deepEqual(t.drops(), { 'port-collision': 1 });
  for (const peerPort of [4000, 4001]) answer(peerPort);
  assert.deepEqual(
    t.drain().map(({ device, srcPort, dstPort }) => [device, srcPort, dstPort]),
    [
      [0, OUTSIDE_PORT, 4000],
      [0, SECOND, 4001],
    ],
  );
  t.advance(6 * 60_000, 1000);
  ask(SECOND, 4000);
  assert.equal(t.drain().length, 1, 'the first is forgotten');
  assert.equal([...t.arena.portKind].filter((kind) => kind === 2).length, 0);
});
