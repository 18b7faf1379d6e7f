/** The handshake of a fresh socket with the gateway: numbers and options. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { attached, connected, cutAt, established, frozen, spliced, talked } from './factories.ts';

test('S8 S9 S10: the SYN of an attached socket is answered as the peer would; ISN + 1 is the next byte the guest expects', () => {
  const t = cutAt(1000, frozen(talked(500, 1000)));
  const { flows } = t.attach('b');
  assert.deepEqual([flows[0]?.acked, flows[0]?.received, flows[0]?.finAcked], [500, 1000, false]);
  for (let i = 0; i < 3; i++) {
    t.fromGuest('b', { flags: 'S', win: 64_240 });
    t.expectToGuest('b', {
      flags: 'SA',
      seq: 999,
      ack: 500,
      mss: 1460,
      ws: 7,
      sackOk: true,
      tsVal: t.f.lastTsIn[t.slot()]!,
      tsEcr: t.tsOf(t.sockets.b),
      win: 64_000,
    });
    t.expectNothing();
  }
});

test('S10: only options that connection and SYN both have are offered', () => {
  const without = (
    options: Parameters<typeof established>[0],
    syn: Partial<{ ws: number; sackOk: boolean; ts: false }>,
  ): readonly number[] => {
    const t = cutAt(0, frozen(established(options)));
    t.attach('b');
    t.fromGuest('b', { flags: 'S', ...syn });
    return t.expectToGuest('b', { flags: 'SA' }).kinds.toSorted((x, y) => x - y);
  };
  assert.deepEqual(without({}, {}), [2, 3, 4, 8]);
  assert.deepEqual(without({ a: { ts: false } }, {}), [2, 3, 4]);
  assert.deepEqual(without({ a: { sackOk: false } }, {}), [2, 3, 8]);
  assert.deepEqual(without({ a: { shift: -1 } }, {}), [2, 4, 8]);
  assert.deepEqual(without({}, { sackOk: false }), [2, 3, 8]);
  assert.deepEqual(without({}, { ws: -1 }), [2, 4, 8]);
  assert.deepEqual(without({ a: { ts: false } }, { ts: false }), [2, 3, 4]);
});

test('S10 S11: a SYN without the timestamps that the connection has is refused, and the move can be taken back', () => {
  const t = cutAt(0);
  t.attach('b');
  t.fromGuest('b', { flags: 'S', ts: false });
  t.expectToGuest('b', { flags: 'RA', ack: 0 });
  assert.equal(t.drops()['option-mismatch'], 1);
  t.verb('detach', { epoch: 2 });
  t.abort();
  t.drain();
  t.fromGuest('a', { seq: 0, len: 10 });
  t.expectToPeer({ seq: 0, len: 10 });
});

test('S9: data on the SYN of the new socket is not acknowledged', () => {
  const t = cutAt(0);
  t.attach('b');
  t.fromGuest('b', { flags: 'S', len: 100 });
  t.expectToGuest('b', { flags: 'SA', ack: 0 });
});

test('S9: a repeated SYN after the handshake takes back nothing of what the socket said since', () => {
  const t = attached('b', 0);
  t.fromGuest('b', { flags: 'S', win: 100 });
  t.expectToGuest('b', { flags: 'SA', ack: 0 });
  t.commit();
  assert.equal(t.f.guestEdge[t.slot()], 64_240);
});

test("S12: the MSS offered is the old peer's, or what the path takes", () => {
  for (const [mss, mtu, expected] of [
    [1460, 1500, 1460],
    [536, 1500, 536],
    [9000, 1500, 1460],
    [1460, 1300, 1260],
  ] as const) {
    const t = cutAt(0, frozen(established({ peer: { mss }, mtu })));
    t.attach('b');
    t.fromGuest('b', { flags: 'S' });
    t.expectToGuest('b', { flags: 'SA', mss: expected });
  }
});

test("S14: a connection the guest had accepted is opened again from the listener's port, beside new ones to that port", () => {
  const t = spliced(0);
  t.fromGuest('b', { seq: 0, len: 10 });
  t.expectToPeer({ seq: 0, len: 10 });
  t.ports = { ...t.ports, peer: 40_001 };
  t.firstSocket = t.sockets.b;
  t.fromPeer({ flags: 'S' });
  t.expectToGuest('b', { flags: 'S' });
  t.fromGuest('b', { flags: 'SA' });
  t.expectToPeer({ flags: 'SA' });
});

test("S36 S15: connecting at the cut: the new socket's SYN goes on to the peer at commit as the first one", () => {
  const t = connected();
  t.ports = { guest: 5001, peer: 443, outside: 5001 };
  t.fromGuest('a', { flags: 'S', mss: 1400, win: 60_000 });
  t.drain();
  t.freeze();
  const both = [t.drained(0), { ...t.drained(0), local: { address: '100.64.0.9', port: 5000 } }];
  const result = t.verb('export', { epoch: 1, sockets: both });
  assert.ok(result.settled);
  t.verb('attach', { epoch: 2, leg: 'b' });
  t.drain();
  t.fromGuest('b', { flags: 'S' });
  t.expectNothing();
  const others = t.ports;
  t.allowReset = true;
  t.commit();
  t.expectToPeer({ flags: 'RA' });
  t.expectToPeer({ flags: 'S', seq: -1, mss: 1400, ws: 7, sackOk: true });
  t.ports = others;
  // Repeated by the new kernel with options of its own, it is the same SYN again: the peer may take either.
  t.fromGuest('b', { flags: 'S', mss: 1200, ws: 3 });
  t.expectToPeer({ flags: 'S', seq: -1, mss: 1400, ws: 7 });
  t.fromPeer({ flags: 'SA', win: 64_000 });
  t.expectToGuest('b', { flags: 'SA', seq: -1, ack: 0, tsEcr: t.tsOf(t.sockets.b) });
  t.fromGuest('b', { seq: 0, ack: 0, len: 10 });
  t.expectToPeer({ seq: 0, ack: 0, len: 10 });
});

test('S36 S15: the peer answers a connect between attach and commit: the new socket is answered at once', () => {
  const t = connected();
  t.ports = { guest: 5001, peer: 443, outside: 5001 };
  t.fromGuest('a', { flags: 'S' });
  t.freeze();
  const both = [t.drained(0), { ...t.drained(0), local: { address: '100.64.0.9', port: 5000 } }];
  t.verb('export', { epoch: 1, sockets: both });
  t.verb('attach', { epoch: 2, leg: 'b' });
  t.fromGuest('b', { flags: 'S' });
  t.drain();
  t.fromPeer({ flags: 'SA', win: 64_000 });
  t.expectToPeer({ flags: 'A', ack: 0 });
  t.expectToGuest('b', { flags: 'SA', seq: -1, ack: 0 });
  t.fromGuest('b', { seq: 0, ack: 0 });
  t.allowReset = true;
  t.commit();
  t.drain();
  t.fromPeer({ seq: 0, ack: 0, len: 50 });
  assert.deepEqual(
    t
      .drain()
      .filter(({ device }) => device === 2)
      .map(({ payload }) => payload.length),
    [50],
  );
});

test('S36 S15: the SYN of a connect that was under way when the guest stopped waits, moved or taken back', () => {
  for (const moved of [true, false]) {
    const t = connected();
    t.freeze();
    t.drain();
    t.ports = { guest: 5001, peer: 443, outside: 5001 };
    t.fromGuest('a', { flags: 'S' });
    t.expectNothing();
    const both = [t.drained(0), { ...t.drained(0), local: { address: '100.64.0.9', port: 5000 } }];
    assert.ok(t.verb('export', { epoch: 1, sockets: both }).settled);
    if (moved) {
      t.verb('attach', { epoch: 2, leg: 'b' });
      t.fromGuest('b', { flags: 'S' });
      t.fromGuest('b', { flags: 'S' }, { guest: 5000 });
      t.drain();
      t.commit();
      t.firstSocket = { ...t.sockets.a };
      assert.equal(
        t.drain().filter(({ device, flags, srcPort }) => device === 0 && flags === 'S' && srcPort === 5001).length,
        1,
      );
    } else {
      t.abort();
      t.drain();
      t.fromGuest('a', { flags: 'S' });
      t.expectToPeer({ flags: 'S', seq: -1 });
    }
  }
});

test('S36 S15: the commit overtakes the SYN of a connect: the gateway stands in until it comes', () => {
  for (const answered of [true, false]) {
    const t = connected();
    t.ports = { guest: 5001, peer: 443, outside: 5001 };
    t.fromGuest('a', { flags: 'S' });
    t.freeze();
    if (answered) t.fromPeer({ flags: 'SA', win: 64_000 });
    const both = [t.drained(0), { ...t.drained(0), local: { address: '100.64.0.9', port: 5000 } }];
    t.verb('export', { epoch: 1, sockets: both });
    t.verb('attach', { epoch: 2, leg: 'b' });
    t.fromGuest('b', { flags: 'S' }, { guest: 5000 });
    t.commit();
    t.drain();
    if (answered) {
      t.fromPeer({ seq: 0, ack: 0, len: 70 });
      t.expectToPeer({ ack: 70 });
    }
    // A stop and a thaw do not lose it either.
    t.freeze();
    t.abort();
    t.drain();
    t.fromGuest('b', { flags: 'S' });
    if (!answered) {
      t.expectToPeer({ flags: 'S', seq: -1 });
      t.fromPeer({ flags: 'SA', win: 64_000 });
      t.expectToGuest('b', { flags: 'SA', seq: -1, ack: 0 });
      continue;
    }
    const seen = t.drain().filter(({ device }) => device === 2);
    assert.deepEqual(
      seen.map(({ flags }) => flags),
      ['SA'],
    );
    t.fromGuest('b', { seq: 0, ack: 0 });
    assert.deepEqual(
      t
        .drain()
        .filter(({ device }) => device === 2)
        .map(({ payload }) => payload.length),
      [70],
    );
  }
});

test('S36: a connect refused while frozen: attach says reset', () => {
  const t = connected();
  t.ports = { guest: 5001, peer: 443, outside: 5001 };
  t.fromGuest('a', { flags: 'S' });
  t.drain();
  t.freeze();
  t.fromPeer({ flags: 'RA', seq: 12_345, ack: 77 });
  assert.equal(t.state(), 'SYN-SENT');
  t.fromPeer({ flags: 'RA', seq: 0, ack: 0 });
  assert.equal(t.state(), 'CLOSED');
  const both = [t.drained(0), { ...t.drained(0), local: { address: '100.64.0.9', port: 5000 } }];
  const result = t.verb('export', { epoch: 1, sockets: both });
  assert.ok(result.settled);
  assert.equal(result.flows.find(({ local }) => local.port === 5001)?.reset, true);
});

test('S6: a connect that the guest gave up, which its runtime no longer knows, does not hold an export up', () => {
  const t = connected();
  const known = t.drained(0);
  t.ports = { guest: 5001, peer: 443, outside: 5001 };
  t.fromGuest('a', { flags: 'S' });
  t.freeze();
  assert.ok(t.verb('export', { epoch: 1, sockets: [known] }).settled);
});
