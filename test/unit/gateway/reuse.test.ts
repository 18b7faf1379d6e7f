/** A peer that uses its ports anew after a connection whose end a move has met, and resets that come while a socket is made. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { attached, cutAt, frozen, handshake, talked } from './factories.ts';
import type { Bench } from './lang.ts';

/** The guest has closed first, its FIN is acknowledged, and it needs no socket. */
function finWait2(): Bench {
  const t = talked(100, 100);
  t.fromGuest('a', { flags: 'FA', seq: 100, ack: 100 });
  t.fromPeer({ seq: 100, ack: 101 });
  t.drain();
  return frozen(t);
}

function moveWithoutSocket(t: Bench): void {
  assert.ok(t.export(100).settled);
  t.attach('b');
  t.commit();
}

const FIN = { flags: 'FA', seq: 100, ack: 101 };
/** When the peer ends its half, or all, of a connection that the guest had closed. */
const ENDS: Readonly<Record<string, { state: string; end: (t: Bench) => void }>> = {
  'a FIN while frozen': {
    state: 'TIME-WAIT',
    end: (t) => {
      t.fromPeer(FIN);
      t.expectToPeer({ ack: 101 });
      moveWithoutSocket(t);
      // A peer that is gone by now would answer by RST.
      t.expectNothing();
    },
  },
  'a FIN after the move': {
    state: 'TIME-WAIT',
    end: (t) => {
      moveWithoutSocket(t);
      for (let time = 0; time < 2; time++) {
        t.fromPeer(FIN);
        t.expectToPeer({ flags: 'A', seq: 101, ack: 101 });
      }
    },
  },
  'a FIN and a RST while frozen': {
    state: 'CLOSED',
    end: (t) => {
      t.fromPeer(FIN);
      t.expectToPeer({ ack: 101 });
      t.fromPeer({ flags: 'R', seq: 101 });
      moveWithoutSocket(t);
      t.expectNothing();
    },
  },
  'a FIN while frozen, and a RST after the move': {
    state: 'CLOSED',
    end: (t) => {
      t.fromPeer(FIN);
      t.expectToPeer({ ack: 101 });
      moveWithoutSocket(t);
      t.fromPeer({ flags: 'R', seq: 101 });
      t.expectNothing();
    },
  },
};
for (const [what, { state, end }] of Object.entries(ENDS)) {
  test(`S36: after ${what} the peer connects from the same port`, () => {
    const t = finWait2();
    end(t);
    assert.equal(t.state(), state);
    const id = t.f.flowId[t.slot()]!;
    t.peer.isn = 99_999;
    t.fromPeer({ flags: 'S' });
    t.expectToGuest('b', { flags: 'S' });
    assert.notEqual(t.f.flowId[t.slot()], id);
  });

  test(`S36: after ${what} the flow is soon forgotten`, () => {
    const t = finWait2();
    end(t);
    t.advance(state === 'CLOSED' ? 12_000 : 62_000, 1000);
    t.expectNothing();
    assert.equal(t.slot(), -1);
  });
}

test("S36: a guest that ends after the peer's FIN came: a repeated FIN is still acknowledged", () => {
  const t = finWait2();
  t.fromPeer(FIN);
  moveWithoutSocket(t);
  t.drain();
  t.verb('unregister', { epoch: 2 });
  t.fromPeer(FIN);
  t.expectToPeer({ flags: 'A', seq: 101, ack: 101 });
});

test('S32: a RST between the new socket and the commit is told to that socket, and the flow goes', () => {
  const t = attached('b', 1000, frozen(talked(0, 1000)));
  // Above a gap: nobody was told that it is taken.
  t.fromPeer({ seq: 2000, len: 100 });
  t.drain();
  t.fromPeer({ flags: 'R', seq: 1000 });
  t.expectNothing();
  t.commit();
  // At the RCV.NXT of the new socket, which would challenge another.
  t.expectToGuest('b', { flags: 'RA', seq: 1000, ack: 0 });
  assert.equal(t.state(), 'CLOSED');
  assert.equal(t.held(), 0);
  t.fromGuest('b', { seq: 0, ack: 1000, len: 10 });
  t.expectToGuest('b', { flags: 'R', seq: 1000 });
  t.advance(12_000, 1000);
  t.expectNothing();
  assert.equal(t.slot(), -1);
});

test('S32: a RST before the new socket: its SYN is refused, the move goes on, and the flow goes', () => {
  const t = cutAt(1000, frozen(talked(0, 1000)));
  t.attach('b');
  t.fromPeer({ flags: 'R', seq: 1000 });
  t.fromGuest('b', { flags: 'S' });
  t.expectToGuest('b', { flags: 'RA' });
  t.commit();
  t.expectNothing();
  assert.equal(t.held(), 0);
  // Another move finds nothing to do for it.
  t.freeze();
  assert.ok(t.verb('export', { epoch: 2, sockets: [] }).settled);
  t.sockets.a.isn = 5;
  assert.deepEqual(t.attach('a').flows, []);
  t.commit();
  t.advance(12_000, 1000);
  t.expectNothing();
  assert.equal(t.slot(), -1);
});

test('S32: a RST behind bytes that were acknowledged: the socket that was announced gets those first', () => {
  const t = cutAt(0, frozen());
  t.attach('b');
  t.fromPeer({ seq: 0, len: 500 });
  t.fromPeer({ flags: 'R', seq: 500 });
  t.drain();
  handshake('b', 0, t);
  t.commit();
  assert.ok(t.drain().some(({ payload }) => payload.length === 500));
  t.fromGuest('b', { seq: 0, ack: 500 });
  t.expectToGuest('b', { flags: 'RA', seq: 500 });
  t.advance(12_000, 1000);
  t.expectNothing();
  assert.equal(t.slot(), -1);
});
