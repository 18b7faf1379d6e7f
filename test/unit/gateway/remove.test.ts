/** An operator gives a guest up. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { GAUGE } from '../../../src/gateway/arena.ts';
import { attached, cutAt, established, frozen, spliced, talked } from './factories.ts';
import type { Bench } from './lang.ts';

/** Nothing of the guest is left: no flow, no custody, no guest; its id, address and port are the next one's. */
function isFree(t: Bench): void {
  assert.equal(t.slot(), -1);
  assert.equal(t.arena.gauges[5], 0, 'custody is free');
  assert.equal(t.arena.gauges[GAUGE.guests], 0);
  const published = [...t.arena.portKind].filter((kind) => kind !== 0).length;
  assert.equal(published, 0);
}

test('frozen, as an agent that died has left it: peers are reset at their RCV.NXT, and all it had is free', () => {
  const t = frozen(talked(500, 1000));
  t.fromPeer({ seq: 1000, ack: 500, len: 100 });
  t.drain();
  t.allowReset = true;
  t.verb('remove', { epoch: 1 });
  t.expectToPeer({ flags: 'RA', seq: 500, ack: 1100 });
  t.expectNothing();
  isFree(t);
});

test('sealed: the image is worth nothing any more', () => {
  const t = cutAt(0);
  t.verb('seal', { epoch: 1 });
  t.allowReset = true;
  t.verb('remove', { epoch: 1 });
  t.expectToPeer({ flags: 'RA', seq: 0, ack: 0 });
  isFree(t);
  assert.throws(() => t.verb('attach', { epoch: 2, leg: 'b' }), { code: 'KEDGE_GUEST_UNKNOWN' });
});

test('running: refused, and nothing has changed; by force both ends are reset', () => {
  const t = established();
  assert.throws(() => t.verb('remove', { epoch: 1 }), { code: 'KEDGE_GUEST_RUNNING', message: /running on leg a/ });
  assert.throws(() => t.verb('remove', { epoch: 1, force: false }), { code: 'KEDGE_GUEST_RUNNING' });
  t.expectNothing();
  t.fromPeer({ seq: 0, ack: 0, len: 10 });
  t.expectToGuest('a', { seq: 0, ack: 0, len: 10 });
  t.fromGuest('a', { seq: 0, ack: 10 });
  t.drain();
  t.allowReset = true;
  t.verb('remove', { epoch: 1, force: true });
  t.expectToGuest('a', { flags: 'RA', seq: 10, ack: 0 });
  t.expectToPeer({ flags: 'RA', seq: 0, ack: 10 });
  t.expectNothing();
  isFree(t);
});

test('being restored: refused; by force the new socket and the peer are reset, and the commit comes too late', () => {
  const t = attached('b', 0);
  assert.throws(() => t.verb('remove', { epoch: 1 }), { code: 'KEDGE_GUEST_BUSY', message: /restored on leg b/ });
  t.expectNothing();
  t.allowReset = true;
  t.verb('remove', { epoch: 1, force: true });
  const reset = t.drain().map(({ device, flags }) => [device, flags]);
  assert.deepEqual(reset, [
    [2, 'RA'],
    [0, 'RA'],
  ]);
  assert.throws(() => t.verb('commit', { epoch: 2 }), { code: 'KEDGE_GUEST_UNKNOWN' });
  isFree(t);
});

test('of another epoch than the caller saw: refused, forced or not', () => {
  const t = spliced();
  for (const force of [true, false])
    assert.throws(() => t.verb('remove', { epoch: 1, force }), { code: 'KEDGE_EPOCH_STALE' });
  t.expectNothing();
});
