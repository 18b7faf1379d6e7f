/** What takes a place in the flow table, and for how long. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SYN_RECEIVED } from '../../../src/gateway/flow.ts';
import { established, frozen, spliced, talked } from './factories.ts';
import { Bench } from './lang.ts';
import type { BenchOptions } from './lang.ts';
import { GUEST_ADDRESS, OUTSIDE_ADDRESS, PEER_ADDRESS, datagram } from './segments.ts';

/** Flows there are after some minutes. */
function after(t: Bench, minutes: number): number {
  t.advance(minutes * 60_000, 1000);
  return t.arena.gauges[2]!;
}

/** A gateway whose guest publishes UDP port 53, and what peer and guest send there. */
function published(
  limits: BenchOptions['limits'] = {},
): Bench & { ask(peerPort: number): void; answer(peerPort: number): void } {
  const t = new Bench({ limits });
  t.verb('unregister', { epoch: 1 });
  t.verb('register', {
    name: 'guest',
    address: '100.64.0.9',
    leg: 'a',
    publish: [{ proto: 'udp', outsidePort: 53, guestPort: 53 }],
  });
  return Object.assign(t, {
    ask: (port: number) => t.raw(0, datagram(PEER_ADDRESS, OUTSIDE_ADDRESS, port, 53)),
    answer: (port: number) => t.raw(1, datagram(GUEST_ADDRESS, PEER_ADDRESS, 53, port)),
  });
}

test('expiry: idle flows go after their time, each state its own; frozen ones stay', () => {
  const minutes = (t: Bench, n: number): number => {
    t.advance(n * 60_000, 1000);
    return t.arena.gauges[2]!;
  };
  const syn = new Bench();
  syn.fromPeer({ flags: 'S' });
  assert.equal(minutes(syn, 3), 1);
  assert.equal(minutes(syn, 2), 0);
  const open = established();
  assert.equal(minutes(open, 120), 1);
  open.allowReset = true;
  assert.equal(minutes(open, 6), 0);
  assert.deepEqual(
    open.drain().map(({ flags }) => flags),
    ['RA'],
    'the peer is told',
  );
  const ice = frozen();
  ice.advance(3 * 24 * 3600_000, 60_000);
  assert.equal(ice.arena.gauges[2], 1);
});

/** A full handshake from another port of the peer. */
function connect(t: Bench, peer: number): void {
  t.fromPeer({ flags: 'S' }, { peer });
  t.fromGuest('a', { flags: 'SA' }, { peer });
  t.fromPeer({ seq: 0, ack: 0 }, { peer });
}

/** Ports of the peers that have a flow. */
function peers(t: Bench): number[] {
  return [...t.f.peerPort].filter((_, slot) => t.f.flowId[slot] !== 0).sort((a, b) => a - b);
}

test('a table full of connections drops new ones, counts them, and takes them again when there is room', () => {
  const t = new Bench({ limits: { maxFlows: 4 } });
  t.firstSocket = { ...t.sockets.a };
  t.allowReset = true;
  for (let i = 0; i < 4; i++) connect(t, 50_000 + i);
  t.drain();
  for (let i = 4; i < 6; i++) t.fromPeer({ flags: 'S' }, { peer: 50_000 + i });
  for (let i = 0; i < 3; i++) t.fromGuest('a', { flags: 'S' }, { guest: 7000 + i });
  t.raw(1, datagram(GUEST_ADDRESS, PEER_ADDRESS, 5000, 53));
  t.expectNothing();
  assert.deepEqual(t.drops(), { 'flow-table-full': 6 });
  // No port is left taken by what failed.
  assert.equal(after(t, 3 * 60), 0);
  assert.equal([...t.arena.portKind].filter((kind) => kind === 2).length, 0);
  t.drain();
  t.fromPeer({ flags: 'S' }, { peer: 50_007 });
  assert.equal(t.drain().length, 1);
});

test('a full table: the oldest handshake that its peer has not completed gives way, connections and connects do not', () => {
  const t = new Bench({ limits: { maxFlows: 6 } });
  t.firstSocket = { ...t.sockets.a };
  connect(t, 1);
  t.fromGuest('a', { flags: 'S' }, { guest: 7000, peer: 2 });
  for (let i = 0; i < 4; i++) {
    t.fromPeer({ flags: 'S' }, { peer: 50_000 + i });
    // Some are answered, as a kernel answers whom it does not know.
    if (i < 2) t.fromGuest('a', { flags: 'SA' }, { peer: 50_000 + i });
    t.advance(10);
  }
  t.drain();
  // The first asks again, and so is not the oldest.
  t.fromPeer({ flags: 'S' }, { peer: 50_000 });
  t.advance(10);
  connect(t, 3);
  assert.deepEqual(peers(t), [1, 2, 3, 50_000, 50_002, 50_003]);
  t.fromGuest('a', { flags: 'S' }, { guest: 7001, peer: 4 });
  assert.deepEqual(peers(t), [1, 2, 3, 4, 50_000, 50_003]);
  assert.deepEqual(t.drops(), { 'early-drop': 2 });
  // The guest's kernel learns it when it repeats its answer; the peer may ask again.
  t.drain();
  t.fromGuest('a', { flags: 'SA' }, { peer: 50_001 });
  assert.equal(t.drain().at(-1)?.flags, 'R');
  t.fromPeer({ flags: 'S' }, { peer: 50_001 });
  assert.deepEqual(peers(t), [1, 2, 3, 4, 50_000, 50_001]);
});

test('a full table: datagrams without an answer give way, those of a conversation do not', () => {
  const t = published({ maxFlows: 3 });
  t.ask(1);
  t.answer(1);
  for (let port = 2; port < 9; port++) {
    t.ask(port);
    t.advance(10);
  }
  assert.deepEqual(peers(t), [1, 7, 8]);
  assert.deepEqual(t.drops(), { 'early-drop': 5 });
});

test('a full table: datagrams of a guest that nobody answers give way as well', () => {
  const t = published({ maxFlows: 3 });
  const send = (port: number): void => t.raw(1, datagram(GUEST_ADDRESS, PEER_ADDRESS, 5000 + port, port));
  send(1);
  t.raw(0, datagram(PEER_ADDRESS, OUTSIDE_ADDRESS, 1, 5001));
  for (let port = 2; port < 9; port++) {
    send(port);
    t.advance(10);
  }
  assert.deepEqual(peers(t), [1, 7, 8]);
  t.ask(9);
  assert.deepEqual(t.drops(), { 'early-drop': 6 });
  assert.deepEqual(peers(t), [1, 8, 9]);
  // No outside port is left taken by what went.
  assert.equal([...t.arena.portKind].filter((kind) => kind === 2).length, 2);
});

test('a full table: of what waits for a frozen guest the oldest gives way, its connections do not', () => {
  const t = established({ limits: { maxFlows: 3 } });
  const [own] = peers(t);
  t.freeze();
  t.drain();
  for (let i = 0; i < 4; i++) {
    t.fromPeer({ flags: 'S' }, { peer: 50_000 + i });
    t.advance(10);
  }
  assert.deepEqual(peers(t), [own, 50_002, 50_003]);
  assert.deepEqual(t.drops(), { 'early-drop': 2 });
});

for (const [name, wake] of [
  ['an abort', (t: Bench) => t.abort()],
  ['a commit', (t: Bench) => void spliced(0, t)],
] as const)
  test(`expiry: after ${name} an idle flow has all its time again, however long it was frozen`, () => {
    const t = frozen(talked(1000, 0));
    t.advance(3 * 24 * 3600_000, 60_000);
    wake(t);
    t.drain();
    assert.equal(after(t, 120), 1);
    t.expectNothing();
    t.allowReset = true;
    assert.equal(after(t, 6), 0);
  });

test('a full table: a newcomer costs a part of it, and over time every slot is looked at', () => {
  const t = new Bench({ limits: { maxFlows: 1000 } });
  t.firstSocket = { ...t.sockets.a };
  for (let i = 0; i < 1000; i++) connect(t, 1000 + i);
  const waiting = t.ctx.flows.findGuest(6, GUEST_ADDRESS, 80, PEER_ADDRESS, 1700);
  t.f.state[waiting] = SYN_RECEIVED;
  let tries = 0;
  while (peers(t).includes(1700)) {
    t.fromPeer({ flags: 'S' }, { peer: 5000 + tries });
    assert.ok(++tries <= 16);
  }
  assert.equal(t.drops()['flow-table-full'], tries - 1);
  assert.ok(tries > 1);
});

test('S15: a SYN for a frozen or sealed guest waits while its peer repeats it, and leaves the table when it does not', () => {
  for (const sealed of [false, true]) {
    const t = frozen(established());
    if (sealed) {
      assert.ok(t.export(0).settled);
      t.verb('seal', { epoch: 1 });
    }
    for (let i = 0; i < 20; i++) t.fromPeer({ flags: 'S' }, { peer: 50_000 + i });
    assert.equal(t.arena.gauges[2], 21);
    assert.equal(after(t, 3), 21);
    t.fromPeer({ flags: 'S' }, { peer: 50_000 });
    assert.equal(after(t, 3), 2, 'the one that asked again, and the connection');
    assert.equal(after(t, 2), 1);
    assert.ok(t.slot() >= 0);
    // No port is left counted for what went.
    t.allowReset = true;
    t.drain();
    t.verb('remove', { epoch: 1, force: true });
    assert.equal([...t.arena.portKind].filter((kind) => kind !== 0).length, 0);
  }
});

test('S15: a connection that had asked before the freeze leaves the table as well', () => {
  const t = new Bench();
  t.fromPeer({ flags: 'S' });
  t.freeze();
  assert.equal(after(t, 3), 1);
  assert.equal(after(t, 2), 0);
});

test('S15: what a listener had answered, and a connect of the guest, stay while it is frozen', () => {
  const t = new Bench();
  t.firstSocket = { ...t.sockets.a };
  t.fromPeer({ flags: 'S' });
  t.fromGuest('a', { flags: 'SA' });
  t.fromGuest('a', { flags: 'S' }, { guest: 7000, peer: 443 });
  t.freeze();
  assert.equal(after(t, 24 * 60), 2);
});

test('S41: of the datagrams of a frozen guest, those that nobody answered leave no mapping for ever', () => {
  const t = published();
  // Asked and answered; opened by the guest; only asked.
  t.ask(1001);
  t.answer(1001);
  t.raw(1, datagram(GUEST_ADDRESS, PEER_ADDRESS, 5000, 123));
  t.ask(1002);
  t.freeze();
  t.ask(1003);
  assert.equal(t.arena.gauges[2], 4);
  assert.equal(after(t, 4), 4);
  t.ask(1003);
  assert.equal(after(t, 2), 3);
  assert.equal(after(t, 24 * 60), 2);
  t.drain();
  assert.ok(t.verb('export', { epoch: 1, sockets: [] }).settled);
  t.verb('attach', { epoch: 2, leg: 'b' });
  t.commit();
  t.raw(0, datagram(PEER_ADDRESS, OUTSIDE_ADDRESS, 123, 5000));
  assert.deepEqual(
    t.drain().map(({ device, dstPort }) => [device, dstPort]),
    [[2, 5000]],
  );
});
