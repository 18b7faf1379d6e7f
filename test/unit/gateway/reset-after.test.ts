/** A peer that resets, with bytes of it that it was told are taken: its guest gets those, as from a kernel's queue. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { frozen, handshake, spliced } from './factories.ts';
import type { Bench } from './lang.ts';

/** When a peer that has sent 3000 bytes resets; the guest had none of them. */
const RESETS: Readonly<Record<string, (t: Bench) => void>> = {
  'while they are held': (t) => {
    t.fromPeer({ flags: 'R', seq: 3000 });
    t.expectNothing();
    assert.equal(t.export(0).settled, true);
    assert.equal(t.attach('b').flows[0]?.reset, false, 'a socket is to be restored for it');
    handshake('b', 0, t);
    t.commit();
  },
  'before an abort': (t) => {
    t.fromPeer({ flags: 'R', seq: 3000 });
    t.abort();
  },
  'while they are played': (t) => {
    spliced(0, t);
    t.fromPeer({ flags: 'R', seq: 3000 });
  },
};
for (const [when, reset] of Object.entries(RESETS))
  test(`S32: what was acknowledged to a peer that resets ${when} is read first, and then the guest learns of it`, () => {
    const t = frozen();
    for (let at = 0; at < 3000; at += 1000) t.fromPeer({ seq: at, len: 1000 });
    t.drain();
    reset(t);
    assert.equal(t.state(), 'CLOSED');
    const leg = when === 'before an abort' ? 'a' : 'b';
    t.drain();
    // It must be repeated as long as it is not acknowledged.
    t.fromGuest(leg, { ack: 1000, win: 600 });
    t.advance(1000);
    const played = t.drain();
    assert.ok(played.some(({ payload }) => payload.length > 0));
    assert.ok(played.every(({ device, flags }) => device !== 0 && !flags.includes('R')));
    // Nobody is there who would want that.
    t.fromGuest(leg, { ack: 2000, len: 100, win: 600 });
    assert.ok(t.drain().every(({ device }) => device !== 0));
    t.allowReset = true;
    t.fromPeer({ seq: 3000, ack: 0 });
    t.expectToPeer({ flags: 'R' });
    t.allowReset = false;
    t.fromGuest(leg, { ack: 3000, seq: 100, win: 600 });
    t.expectToGuest(leg, { flags: 'RA', seq: 3000 });
    t.advance(5000);
    t.expectNothing();
    assert.equal(t.held(), 0);
  });

test('S32: a guest that resets, while it is given what a peer that is gone had sent, is not heard of any more', () => {
  const t = frozen();
  t.fromPeer({ seq: 0, len: 1000 });
  spliced(0, t);
  t.fromPeer({ flags: 'R', seq: 1000 });
  t.drain();
  t.fromGuest('b', { flags: 'RA', ack: 500 });
  t.expectNothing();
  t.advance(5000);
  t.expectNothing();
  assert.equal(t.held(), 0);
});
