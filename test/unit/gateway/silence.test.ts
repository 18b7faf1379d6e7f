/** A host that dies behind a splice: its guest is not spoken for longer than it can answer. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { spliced } from './factories.ts';
import type { Bench } from './lang.ts';

const KEEPALIVE = { seq: -1 };
const SECOND = 1000;

/** Keepalives of the peer, one in fifteen seconds. Gives how many were answered. */
function keepalives(t: Bench, count: number, guest: 'answers' | 'is gone'): number {
  let answered = 0;
  for (let i = 0; i < count; i++) {
    t.fromPeer(KEEPALIVE);
    const seen = t.drain();
    answered += seen.filter(({ device }) => device === 0).length;
    if (guest === 'answers' && seen.some(({ device }) => device !== 0)) t.fromGuest('b', { ack: 0 });
    t.drain();
    t.advance(15 * SECOND, 1000);
    t.drain();
  }
  return answered;
}

/** Nothing is held, but the guest's window has not reached what the peer was promised. */
function catchingUp(): Bench {
  const t = spliced(0);
  assert.equal(t.f.hold[t.slot()], 1);
  return t;
}

test('S29: keepalives are answered as long as the guest answers them, too', () => {
  assert.equal(keepalives(catchingUp(), 400, 'answers'), 400);
});

test('S29: a guest that is gone is not spoken for: its peer finds out by its own timers', () => {
  const t = catchingUp();
  keepalives(t, 3, 'answers');
  const answered = keepalives(t, 40, 'is gone');
  assert.ok(answered >= 4 && answered <= 5, `${answered} in a minute`);
  assert.equal(t.drops()['silent-guest'], 40 - answered);
  // It was a switch that took long.
  t.fromPeer(KEEPALIVE);
  t.fromGuest('b', { ack: 0 });
  t.drain();
  assert.equal(keepalives(t, 5, 'answers'), 5);
});

test('S44: nor is data taken for it for ever', () => {
  const t = catchingUp();
  const [base] = [t.f.guestEdge[t.slot()]!];
  let acknowledged = 0;
  let at = 0;
  for (let i = 0; i < 200 && at < base; i++, at += 100) {
    t.fromPeer({ seq: at, len: 100 });
    acknowledged = t.drain().some(({ device }) => device === 0) ? at + 100 : acknowledged;
    t.advance(SECOND, 100);
    t.drain();
  }
  assert.ok(acknowledged > 5000 && acknowledged < 7000, `${acknowledged}`);
  assert.ok(t.held() <= acknowledged);
});

test('a guest that computes for long is asked, and answers by its kernel: nothing is said to its peer but acknowledgements', () => {
  const t = catchingUp();
  t.advance(3600 * SECOND, 1000);
  t.expectNothing();
  t.fromPeer(KEEPALIVE);
  t.expectToGuest('b', { flags: 'A', seq: -1, len: 0 });
  t.expectToPeer({ flags: 'A', ack: 0 });
  t.expectNothing();
});
