/** A guest that has ended after a move, and connections on which only its peer has still something to say. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RETIRED } from '../../../src/gateway/guests.ts';
import { listGuests } from '../../../src/gateway/listing.ts';
import { frozen, talked } from './factories.ts';
import { GUEST_PORT, OUTSIDE_PORT, type Bench } from './lang.ts';

const NEXT = '00000000-0000-4000-8000-000000000002';

/** The guest had closed, the peer has acknowledged that, the guest has moved to b and ended there. */
function retired(): Bench {
  const t = talked(100, 100);
  t.fromGuest('a', { flags: 'FA', seq: 100, ack: 100 });
  t.fromPeer({ seq: 100, ack: 101 });
  frozen(t);
  t.verb('export', { epoch: 1, sockets: [] });
  t.verb('attach', { epoch: 2, leg: 'b' });
  t.commit();
  t.drain();
  t.verb('unregister', { epoch: 2 });
  t.expectNothing();
  assert.equal(t.state(), 'FIN-WAIT-2');
  return t;
}

function registerNext(t: Bench): void {
  const publish = [{ proto: 'tcp' as const, outsidePort: OUTSIDE_PORT, guestPort: GUEST_PORT }];
  t.verb('register', { id: NEXT, name: 'next', address: '100.64.0.9', leg: 'a', publish });
}

test("S36: the peer's FIN is acknowledged, again too, and then nothing of the guest is left", () => {
  const t = retired();
  assert.deepEqual(listGuests(t.arena, ['a', 'b']), []);
  for (let times = 0; times < 2; times++) {
    t.fromPeer({ flags: 'FA', seq: 100, ack: 101 });
    t.expectToPeer({ flags: 'A', seq: 101, ack: 101 });
  }
  assert.equal(t.state(), 'TIME-WAIT');
  t.advance(62_000, 1000);
  t.expectNothing();
  assert.equal(t.slot(), -1);
  assert.ok(!t.ctx.g.used.includes(RETIRED));
  assert.ok(t.ctx.ports.isFree(6, OUTSIDE_PORT));
});

test('S36: a peer that says no more is not waited for longer than a kernel would, and hears nothing', () => {
  const t = retired();
  t.advance(62_000, 1000);
  t.expectNothing();
  assert.equal(t.slot(), -1);
  assert.ok(!t.ctx.g.used.includes(RETIRED));
});

test('address and port of a guest that has ended are free at once, and what is left of it takes nothing from the next', () => {
  const t = retired();
  registerNext(t);
  t.fromPeer({ flags: 'FA', seq: 100, ack: 101 });
  t.expectToPeer({ flags: 'A', seq: 101, ack: 101 });
  t.fromPeer({ flags: 'S' }, { peer: 50_000 });
  assert.equal(t.emitted[0]?.device, 1, 'the SYN of another peer goes to the new guest');
  t.drain();
  t.advance(62_000, 1000);
  t.drain();
  t.fromPeer({ flags: 'S' }, { peer: 50_001 });
  assert.equal(t.emitted[0]?.device, 1, 'and still does when the old one is forgotten');
  assert.deepEqual(
    listGuests(t.arena, ['a', 'b']).map(({ name }) => name),
    ['next'],
  );
});

for (const leg of ['a', 'b'] as const)
  test(`a new guest on leg ${leg} connects with the ports of one that is not forgotten yet, and the flow is its own`, () => {
    const t = retired();
    t.verb('register', { id: NEXT, name: 'next', address: '100.64.0.9', leg, publish: [] });
    t.fromGuest(leg, { flags: 'S' });
    t.expectToPeer({ flags: 'S' });
    assert.equal(t.f.guest[t.slot()], t.ctx.guests.find(NEXT));
    assert.equal(t.f.leg[t.slot()], leg === 'a' ? 0 : 1);
  });
