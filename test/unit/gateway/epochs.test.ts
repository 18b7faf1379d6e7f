/** The gateway as the arbiter of a move: epochs, claims, fences, and every verb at every point. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { attached, cutAt, established, frozen, handshake, spliced, talked } from './factories.ts';
import { Bench, GUEST_ID } from './lang.ts';
import type { Leg } from './lang.ts';
import { GUEST_ADDRESS, OUTSIDE_ADDRESS, PEER_ADDRESS, datagram } from './segments.ts';

function guest(t: Bench): { state: number; epoch: number; leg: number; nextLeg: number } {
  const { guests: g } = t.arena;
  const slot = t.ctx.guests.find(GUEST_ID) ?? 0;
  return { state: g.state[slot]!, epoch: g.epoch[slot]!, leg: g.leg[slot]!, nextLeg: g.nextLeg[slot]! };
}

test('S40 S48: after commit the old leg is fenced: nothing passes, and each segment gets a RST that its sender accepts', () => {
  const t = spliced(1000, frozen(talked(500, 1000)));
  t.fromGuest('a', { seq: 500, ack: 1000, len: 100 });
  // At the number it acknowledged: its own RCV.NXT.
  t.expectToGuest('a', { flags: 'R', seq: 1000, len: 0 });
  t.fromGuest('a', { flags: 'FA', seq: 600, ack: 1000 });
  t.expectToGuest('a', { flags: 'R', seq: 1000 });
  t.fromGuest('a', { flags: 'S', seq: 0 });
  t.expectToGuest('a', { flags: 'RA', seq: t.inOffset(0) });
  // A RST is not answered.
  t.fromGuest('a', { flags: 'RA', seq: 600, ack: 1000 });
  t.expectNothing();
  assert.equal(t.drops()['fenced-epoch'], 4);
  assert.equal(t.f.sndNxt[t.slot()], 500);
});

test("S48: a sealed guest's old sockets are dead: each segment gets a RST", () => {
  const t = cutAt(1000, frozen(talked(500, 1000)));
  t.verb('seal', { epoch: 1 });
  t.fromGuest('a', { seq: 500, ack: 1000 });
  t.expectToGuest('a', { flags: 'R', seq: 1000 });
  t.fromGuest('a', { flags: 'S', seq: 0 }, { guest: 6000 });
  t.expectToGuest('a', { flags: 'RA' });
  t.expectNothing();
});

test('S40: only the leg that an attach announced may open the next socket', () => {
  const t = cutAt(0);
  t.fromGuest('b', { flags: 'S' });
  t.expectToGuest('b', { flags: 'RA' });
  t.attach('b');
  t.fromGuest('b', { flags: 'S' });
  t.expectToGuest('b', { flags: 'SA' });
  // The frozen guest's own leg is still no more than evidence.
  t.fromGuest('a', { flags: 'S', seq: 12 });
  t.expectNothing();
});

test('S40: two restores of one image: the second is refused, before the commit and after it', () => {
  const t = cutAt(0);
  t.verb('seal', { epoch: 1 });
  t.attach('b');
  const again = (leg: Leg): unknown => t.verb('attach', { epoch: 2, leg });
  assert.throws(() => again('a'), { code: 'KEDGE_EPOCH_CLAIMED' });
  handshake('b', 0, t);
  t.commit();
  assert.throws(() => again('a'), { code: 'KEDGE_EPOCH_CLAIMED' });
  assert.throws(() => t.verb('attach', { epoch: 1, leg: 'a' }), { code: 'KEDGE_EPOCH_CLAIMED' });
});

test('S40: an attach that is silent for a minute gives way to another, and its late commit and detach do nothing', () => {
  const t = cutAt(0);
  const first = t.attach('b');
  t.fromGuest('b', { flags: 'S' });
  t.drain();
  t.advance(61_000, 1000);
  const second = t.verb('attach', { epoch: 2, leg: 'a' });
  assert.notEqual(first.claim, second.claim);
  // Its socket is reset.
  t.expectToGuest('b', { flags: 'RA', ack: 0 });
  assert.throws(() => t.verb('commit', { epoch: 2, claim: first.claim }), { code: 'KEDGE_EPOCH_STALE' });
  t.verb('detach', { epoch: 2, claim: first.claim });
  assert.equal(guest(t).nextLeg, 0);
  t.allowReset = true;
  t.verb('commit', { epoch: 2, claim: second.claim });
  assert.throws(() => t.verb('commit', { epoch: 2, claim: first.claim }), { code: 'KEDGE_EPOCH_STALE' });
  t.verb('commit', { epoch: 2, claim: second.claim });
  assert.equal(guest(t).leg, 0);
});

test('S40: the commit of a move that the source took back does not commit the next one', () => {
  const t = cutAt(0);
  const first = t.attach('b');
  t.abort();
  t.freeze();
  t.export(0);
  const second = t.attach('b');
  assert.throws(() => t.verb('commit', { epoch: 2, claim: first.claim }), { code: 'KEDGE_EPOCH_STALE' });
  t.allowReset = true;
  t.verb('commit', { epoch: 2, claim: second.claim });
});

test('commit and abort: whoever is first wins, and both may be repeated', () => {
  const committed = attached('b', 0);
  committed.commit();
  committed.verb('commit', { epoch: 2 });
  assert.throws(() => committed.verb('abort', { epoch: 1 }), { code: 'KEDGE_EPOCH_COMMITTED' });
  assert.throws(() => committed.verb('detach', { epoch: 2 }), { code: 'KEDGE_EPOCH_COMMITTED' });
  assert.deepEqual(guest(committed), { state: 0, epoch: 2, leg: 1, nextLeg: 255 });

  const aborted = attached('b', 0);
  aborted.abort();
  aborted.abort();
  assert.throws(() => aborted.verb('commit', { epoch: 2 }), { code: 'KEDGE_EPOCH_STALE' });
  assert.deepEqual(guest(aborted), { state: 0, epoch: 1, leg: 0, nextLeg: 255 });
});

test('abort while attaching: the new socket is reset at its RCV.NXT, the old one goes on, both streams whole', () => {
  const t = talked(500, 1000);
  t.freeze();
  t.fromPeer({ seq: 1000, ack: 500, len: 200 });
  attached('b', 1000, t);
  t.abort();
  t.expectToGuest('b', { flags: 'RA', seq: 1000, ack: 500 });
  t.expectToPeer({ ack: 1200 });
  t.expectToGuest('a', { flags: 'A', ack: 500 });
  t.expectToGuest('a', { seq: 1000, len: 200 });
  t.fromGuest('a', { seq: 500, ack: 1200, len: 10 });
  t.expectToPeer({ seq: 500, ack: 1200, len: 10 });
  // Late segments of the attached socket find the fence.
  t.fromGuest('b', { seq: 500, ack: 1000 });
  t.expectToGuest('b', { flags: 'R' });
});

test('detach: back to frozen, and the same epoch may be attached again, from another leg', () => {
  const t = attached('b', 0);
  t.verb('detach', { epoch: 2 });
  t.expectToGuest('b', { flags: 'RA' });
  assert.equal(guest(t).state, 1);
  t.verb('detach', { epoch: 2 });
  t.expectNothing();
  t.sockets.a.isn = 31_337;
  attached('a', 0, t);
  t.commit();
  assert.equal(guest(t).leg, 0);
  t.drain();
  t.fromGuest('a', { seq: 0, len: 10 });
  t.expectToPeer({ seq: 0, len: 10 });
});

test('S40 S48: a guest returns to the same leg: sealed, announced, a new socket; late segments of the old one are fenced', () => {
  const t = cutAt(1000, frozen(talked(500, 1000)));
  t.verb('seal', { epoch: 1 });
  t.attach('a');
  const old = { ...t.sockets.a };
  t.sockets.a.isn = 3_000_000_000;
  t.fromGuest('a', { flags: 'S' });
  t.expectToGuest('a', { flags: 'SA', seq: 999, ack: 500 });
  const fresh = { ...t.sockets.a };
  // The RST of the old kernel socket arrives late, and what it had sent: the new one stays announced, and is not reset by an answer.
  const late = (): void => {
    Object.assign(t.sockets.a, old, { base: 0 });
    t.fromGuest('a', { flags: 'RA', seq: 500, ack: 1000 });
    t.fromGuest('a', { seq: 500, ack: 1000, len: 100, win: 65_535 });
    t.fromGuest('a', { flags: 'SA', seq: 55_555, ack: 1000 });
    Object.assign(t.sockets.a, fresh);
    t.expectNothing();
  };
  late();
  t.fromGuest('a', { seq: 500, ack: 1000 });
  t.commit();
  t.drain();
  // Nor is it taken for the new one's afterwards.
  late();
  assert.equal(t.f.sndNxt[t.slot()], 500);
  t.fromGuest('a', { seq: 500, ack: 1000, len: 100 });
  t.expectToPeer({ seq: 500, ack: 1000, len: 100 });
  assert.equal(t.show().splices, 1);
});

test('a connect that the target gave up and began anew, before the commit: the last SYN counts', () => {
  const t = cutAt(0, frozen(talked(500, 0)));
  t.attach('b');
  t.fromGuest('b', { flags: 'S' });
  t.fromGuest('b', { flags: 'RA', seq: 500 });
  t.sockets.b.isn = 5;
  handshake('b', 0, t);
  t.commit();
  t.drain();
  t.fromGuest('b', { seq: 500, len: 10 });
  t.expectToPeer({ seq: 500, len: 10 });
});

test('a flow whose socket was not restored is reset to the peer at commit, the others go on', () => {
  const t = cutAt(0, frozen(talked(500, 0)));
  t.attach('b');
  t.allowReset = true;
  t.commit();
  t.expectToPeer({ flags: 'RA', seq: 500, ack: 0 });
  assert.equal(t.state(), 'CLOSED');
});

test('seal and attach need a cut of every connection', () => {
  const t = frozen(talked(500, 0));
  assert.throws(() => t.verb('seal', { epoch: 1 }), { code: 'KEDGE_GUEST_NOT_FROZEN', message: /not exported/ });
  assert.throws(() => t.verb('attach', { epoch: 2, leg: 'b' }), { code: 'KEDGE_GUEST_NOT_FROZEN' });
  t.export(0);
  t.verb('seal', { epoch: 1 });
  t.attach('b');
});

test('each verb refuses what does not fit the state, and then nothing has changed', () => {
  const t = established();
  const before = guest(t);
  const refused = (code: string, verb: () => unknown): void => assert.throws(verb, { code });
  refused('KEDGE_EPOCH_STALE', () => t.verb('freeze', { epoch: 2 }));
  refused('KEDGE_GUEST_NOT_FROZEN', () => t.export(0));
  refused('KEDGE_GUEST_NOT_FROZEN', () => t.verb('seal', { epoch: 1 }));
  refused('KEDGE_GUEST_NOT_FROZEN', () => t.verb('attach', { epoch: 2, leg: 'b' }));
  refused('KEDGE_EPOCH_CLAIMED', () => t.verb('attach', { epoch: 3, leg: 'b' }));
  refused('KEDGE_LEG_UNKNOWN', () => t.verb('attach', { epoch: 2, leg: 'z' }));
  refused('KEDGE_EPOCH_STALE', () => t.verb('commit', { epoch: 2 }));
  refused('KEDGE_EPOCH_STALE', () => t.verb('abort', { epoch: 2 }));
  refused('KEDGE_EPOCH_STALE', () => t.verb('check', { epoch: 2 }));
  refused('KEDGE_EPOCH_STALE', () => t.verb('unregister', { epoch: 2 }));
  for (const verb of ['freeze', 'check', 'seal', 'commit', 'detach', 'abort', 'unregister'] as const)
    refused('KEDGE_GUEST_UNKNOWN', () => t.verb(verb, { epoch: 1, id: GUEST_ID.replace('7', '8') }));
  assert.deepEqual(guest(t), before);
  t.freeze();
  refused('KEDGE_GUEST_NOT_RUNNING', () => t.freeze());
  refused('KEDGE_EPOCH_STALE', () => t.verb('commit', { epoch: 2 }));
  t.verb('detach', { epoch: 2 });
  assert.deepEqual(guest(t), { ...before, state: 1 });
});

test('register refuses what is taken, unknown, or outside of the pool', () => {
  const t = new Bench();
  const register = (args: { id?: string; address?: string; leg?: string; port?: number }): unknown =>
    t.verb('register', {
      id: args.id ?? '00000000-0000-0000-0000-000000000001',
      name: 'other',
      leg: args.leg ?? 'a',
      ...(args.address === undefined ? {} : { address: args.address }),
      publish: [{ proto: 'tcp', outsidePort: args.port ?? 9090, guestPort: 90 }],
    });
  const refused = (code: string, args: Parameters<typeof register>[0]): void =>
    assert.throws(() => register(args), { code });
  refused('KEDGE_GUEST_EXISTS', { id: GUEST_ID });
  refused('KEDGE_ADDRESS_IN_USE', { address: '100.64.0.9' });
  refused('KEDGE_ADDRESS_OUTSIDE_POOL', { address: '10.0.0.1' });
  refused('KEDGE_ADDRESS_OUTSIDE_POOL', { address: '100.128.0.0' });
  refused('KEDGE_LEG_UNKNOWN', { leg: 'c' });
  // A connect of the guest leaves by the port of its own number.
  t.fromGuest('a', { flags: 'S' }, { guest: 7000, peer: 443 });
  for (const [port, hint] of [
    [8080, /gateway guests list/],
    [7000, /gateway flows list/],
  ] as const)
    assert.throws(() => register({ port }), { code: 'KEDGE_PORT_IN_USE', hint });
  assert.equal(t.arena.gauges[7], 1);
  register({});
  assert.equal(t.arena.gauges[7], 2);
  assert.throws(
    () => {
      for (let i = 2; i < 20; i++) register({ id: `00000000-0000-0000-0000-0000000000${i + 10}`, port: 9090 + i });
    },
    { code: 'KEDGE_GUESTS_FULL', hint: /gateway guests rm/ },
  );
});

test('a guest that ended leaves its address, its ports and its flows to others', () => {
  const t = talked(10, 10);
  t.allowReset = true;
  t.verb('unregister', { epoch: 1 });
  t.expectToPeer({ flags: 'RA' });
  t.verb('register', {
    name: 'again',
    address: '100.64.0.9',
    leg: 'b',
    publish: [{ proto: 'tcp', outsidePort: 8080, guestPort: 80 }],
  });
  t.fromPeer({ flags: 'S' });
  t.expectToGuest('b', { flags: 'S' });
});

test('S41: a UDP mapping moves with its guest; datagrams of a frozen one are dropped and counted', () => {
  const t = new Bench();
  const out = (leg: number): void => t.raw(leg, datagram(GUEST_ADDRESS, PEER_ADDRESS, 5000, 53));
  const back = (): void => t.raw(0, datagram(PEER_ADDRESS, OUTSIDE_ADDRESS, 53, 5000));
  out(1);
  back();
  assert.deepEqual(
    t.drain().map(({ device, dstPort }) => [device, dstPort]),
    [
      [0, 53],
      [1, 5000],
    ],
  );
  t.freeze();
  out(1);
  back();
  t.expectNothing();
  assert.deepEqual(t.drops(), { frozen: 1, 'frozen-datagram': 1 });
  assert.ok(t.verb('export', { epoch: 1, sockets: [] }).settled);
  t.verb('attach', { epoch: 2, leg: 'b' });
  t.commit();
  back();
  out(2);
  out(1);
  assert.deepEqual(
    t.drain().map(({ device }) => device),
    [2, 0],
  );
  assert.equal(t.drops()['fenced-epoch'], 1);
  t.advance(299_000, 1000);
  assert.equal(t.arena.gauges[2], 1);
  t.advance(3000, 1000);
  assert.equal(t.arena.gauges[2], 0);
});

test('endpoint-independent mapping: one port of the guest leaves by one outside port, whoever the peer is', () => {
  const t = new Bench();
  t.fromGuest('a', { flags: 'S' }, { guest: 7000, peer: 443 });
  t.fromGuest('a', { flags: 'S' }, { guest: 7000, peer: 444 });
  // From the port it publishes, the guest leaves by the published one.
  t.fromGuest('a', { flags: 'S' }, { guest: 80, peer: 443 });
  assert.deepEqual(
    t.drain().map(({ srcPort }) => srcPort),
    [7000, 7000, 8080],
  );
});
