/** A FIN that is ahead of bytes which have not come: one of the peer's, overtaking what was lost, or a forged one. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { NO_FIN } from '../../../src/gateway/flow.ts';
import { attached, frozen, move, spliced, talked } from './factories.ts';
import type { Bench, Leg } from './lang.ts';

/** 100 bytes went each way. `leg` has the guest's socket, or nobody has. */
const PLACES: Readonly<Record<string, () => { t: Bench; leg?: Leg }>> = {
  plain: () => ({ t: talked(100, 100), leg: 'a' }),
  'after a move': () => {
    const t = spliced(100, frozen(talked(100, 100)));
    t.fromGuest('b', { seq: 100, ack: 100, win: 60_000 });
    t.drain();
    assert.equal(t.f.hold[t.slot()], 0);
    return { t, leg: 'b' };
  },
  'while the gateway holds': () => {
    const t = spliced(100, frozen(talked(100, 100)));
    assert.equal(t.f.hold[t.slot()], 1);
    return { t, leg: 'b' };
  },
  frozen: () => ({ t: frozen(talked(100, 100)) }),
};

/** The guest, when it is there, has read all to `ack`; when not, the gateway has acknowledged it. */
function reads(t: Bench, leg: Leg | undefined, ack: number): void {
  if (leg !== undefined) t.fromGuest(leg, { seq: 100, ack });
  t.drain();
  assert.equal(t.f.ackedToPeer[t.slot()], ack);
}

for (const [place, make] of Object.entries(PLACES)) {
  test(`S33: ${place}: data refutes a FIN that was ahead of it, and the true one counts`, () => {
    const { t, leg } = make();
    t.fromPeer({ flags: 'FA', seq: 600, ack: 100 });
    t.drain();
    assert.equal(t.state(), 'ESTABLISHED');
    for (let at = 100; at < 1100; at += 400) t.fromPeer({ seq: at, ack: 100, len: 400 });
    reads(t, leg, 1300);
    assert.equal(t.f.inFin[t.slot()], NO_FIN);
    assert.equal(t.state(), 'ESTABLISHED');
    t.fromPeer({ flags: 'FA', seq: 1300, ack: 100 });
    reads(t, leg, 1301);
    assert.equal(t.state(), 'CLOSE-WAIT');
  });

  test(`S33: ${place}: after a FIN that was ahead the peer ends before it`, () => {
    const { t, leg } = make();
    t.fromPeer({ flags: 'FA', seq: 600, ack: 100 });
    t.fromPeer({ seq: 100, ack: 100, len: 100 });
    t.fromPeer({ flags: 'FA', seq: 200, ack: 100 });
    reads(t, leg, 201);
    assert.equal(t.state(), 'CLOSE-WAIT');
    assert.equal(t.f.inFin[t.slot()], 200);
  });

  test(`S32: ${place}: a FIN that overtook lost bytes counts when these have come, with a FIN of theirs or without`, () => {
    for (const flags of ['PA', 'FPA']) {
      const { t, leg } = make();
      t.fromPeer({ seq: 400, ack: 100, len: 200 });
      t.fromPeer({ flags: 'FA', seq: 600, ack: 100 });
      t.drain();
      assert.equal(t.state(), 'ESTABLISHED');
      t.fromPeer({ seq: 100, ack: 100, len: 300 });
      t.fromPeer({ flags, seq: 400, ack: 100, len: 200 });
      reads(t, leg, 601);
      assert.equal(t.state(), 'CLOSE-WAIT');
    }
  });

  test(`S32: ${place}: nothing follows a FIN that was acknowledged`, () => {
    const { t, leg } = make();
    t.fromPeer({ flags: 'FA', seq: 100, ack: 100, len: 50 });
    reads(t, leg, 151);
    t.fromPeer({ seq: 150, ack: 100, len: 300 });
    t.fromPeer({ seq: 151, ack: 100, len: 300 });
    t.fromPeer({ flags: 'FA', seq: 500, ack: 100 });
    t.drain();
    assert.equal(t.held(), leg === undefined ? 50 : 0);
    assert.deepEqual([t.f.inFin[t.slot()], t.f.peerNxt[t.slot()], t.state()], [150, 151, 'CLOSE-WAIT']);
  });
}

test('S33: a guest whose peer is said to have ended ahead moves, and moves again after data has shown the truth', () => {
  const t = talked(100, 100);
  t.fromPeer({ flags: 'FA', seq: 1000, ack: 100 });
  t.drain();
  move(t, 'b', 4711);
  t.drain();
  for (let at = 100; at < 2100; at += 1000) t.fromPeer({ seq: at, ack: 100, len: 1000 });
  t.fromGuest('b', { seq: 100, ack: 2100 });
  t.drain();
  assert.equal(t.state(), 'ESTABLISHED');
  move(t, 'a', 815);
  t.drain();
  t.fromPeer({ flags: 'FA', seq: 2100, ack: 100 });
  t.fromGuest('a', { seq: 100, ack: 2101 });
  assert.equal(t.state(), 'CLOSE-WAIT');
});

test('S33 S34: a FIN that is ahead does not keep a window closed', () => {
  const t = attached('b', 100, frozen(talked(100, 100)));
  t.commit();
  t.fromPeer({ flags: 'FA', seq: 1100, ack: 100 });
  t.drain();
  t.f.flags[t.slot()] = t.f.flags[t.slot()]! | (1 << 12);
  t.fromGuest('b', { seq: 100, ack: 100, win: 2000 });
  t.expectToPeer({ ack: 100, edge: 100 + 2000 * 128 });
});

test('S36: for a connection that the guest has closed, a FIN ahead of lost bytes is none, and the one in its place is', () => {
  const t = talked(100, 100);
  t.fromGuest('a', { flags: 'FA', seq: 100, ack: 100 });
  t.fromPeer({ seq: 100, ack: 101 });
  frozen(t);
  t.fromPeer({ flags: 'FA', seq: 600, ack: 101 });
  assert.ok(t.export(100).settled);
  t.attach('b');
  t.drain();
  t.commit();
  t.expectNothing();
  assert.equal(t.state(), 'FIN-WAIT-2');
  t.fromPeer({ flags: 'FA', seq: 100, ack: 101 });
  t.expectToPeer({ flags: 'A', seq: 101, ack: 101 });
  assert.equal(t.state(), 'TIME-WAIT');
});
