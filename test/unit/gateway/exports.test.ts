/** The cut: K of the runtime against what its old kernel has acknowledged, and what a new socket begins with. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { frozen, talked } from './factories.ts';

test("S6: an ACK of the old kernel after the freeze is evidence: its bytes are the guest's, and acknowledged", () => {
  const t = talked(0, 1000);
  t.fromPeer({ seq: 1000, len: 500 });
  t.drain();
  t.freeze();
  t.fromGuest('a', { ack: 1500 });
  t.expectToPeer({ flags: 'A', ack: 1500 });
  // K below what its kernel has acknowledged cannot be the cut.
  const early = t.export(1200);
  assert.ok(!early.settled);
  assert.match(early.reasons.join(), /received 1200, but 1500 bytes are acknowledged/);
  assert.equal(t.f.cut[t.slot()], -1);
  const settled = t.export(1500);
  assert.ok(settled.settled);
  assert.equal(settled.flows[0]?.received, 1500);
});

test('S6: evidence of bytes that custody has too frees them there; no byte is in both', () => {
  const t = talked(0, 1000);
  t.fromPeer({ seq: 1000, len: 500 });
  t.freeze();
  // The ACK for it was under way when the peer repeated the segment.
  t.fromPeer({ seq: 1000, len: 500 });
  t.fromPeer({ seq: 1500, len: 500 });
  assert.equal(t.held(), 1000);
  t.fromGuest('a', { ack: 1500 });
  assert.equal(t.held(), 500);
  assert.equal(t.show().custody.start, 1500);
});

test('S6: K above what was acknowledged drops custody below it and is acknowledged at once', () => {
  const t = talked(0, 1000);
  t.fromPeer({ seq: 1000, len: 500 });
  t.freeze();
  t.drain();
  // The old kernel has 1500 bytes; its ACK did not get here.
  const result = t.export(1500);
  assert.ok(result.settled);
  t.expectToPeer({ flags: 'A', ack: 1500 });
  t.expectNothing();
  assert.equal(t.held(), 0);
});

test('S6: a gap between K and what was forwarded is fetched by three duplicate acknowledgements', () => {
  const t = talked(0, 1000);
  t.fromPeer({ seq: 1000, len: 500 });
  t.fromPeer({ seq: 1500, len: 500 });
  t.freeze();
  t.fromPeer({ seq: 2000, len: 500 });
  t.drain();
  const result = t.export(1500);
  assert.ok(result.settled);
  const [news, ...duplicates] = t.drain();
  assert.ok(news !== undefined);
  assert.equal(t.inOffset(news.ack), 1500);
  assert.equal(duplicates.length, 3);
  // RFC 5681 §2: same ACK, same window, no data.
  for (const each of duplicates)
    assert.deepEqual([each.ack, each.window, each.payload.length], [news.ack, news.window, 0]);
  t.fromPeer({ seq: 1500, len: 500 });
  t.expectToPeer({ ack: 2500 });
});

test('S6: K beyond what the peer ever sent is refused, and changes nothing', () => {
  const t = frozen(talked(0, 1000));
  assert.throws(() => t.export(1001), { code: 'KEDGE_EXPORT_INCONSISTENT' });
  assert.equal(t.f.cut[t.slot()], -1);
});

test('S6: an export is all or nothing, and says which flow holds it up', () => {
  const t = talked(0, 1000);
  const first = t.ports;
  t.ports = { ...first, peer: 40_001 };
  t.fromPeer({ flags: 'S' });
  t.fromGuest('a', { flags: 'SA' });
  t.fromPeer({ ack: 0, len: 700 });
  t.fromGuest('a', { ack: 700 });
  t.freeze();
  t.drain();
  const sockets = [t.drained(600), { ...t.drained(1000), remote: { address: '198.51.100.7', port: first.peer } }];
  const result = t.verb('export', { epoch: 1, sockets });
  assert.ok(!result.settled);
  assert.equal(result.reasons.length, 1);
  t.ports = first;
  assert.equal(t.f.cut[t.slot()], -1);
});

test('S6: a connection the runtime has no socket for is asked about: RST of the old kernel says it is over', () => {
  const t = frozen(talked(500, 1000));
  const result = t.verb('export', { epoch: 1, sockets: [] });
  assert.ok(!result.settled);
  assert.match(result.reasons.join(), /has no socket in the export/);
  // A keepalive, one byte back, no data.
  t.expectToGuest('a', { flags: 'A', seq: 999, ack: 500, len: 0 });
  t.allowReset = true;
  t.fromGuest('a', { flags: 'R', seq: 500 });
  t.expectToPeer({ flags: 'RA', seq: 500 });
  const again = t.verb('export', { epoch: 1, sockets: [] });
  assert.ok(again.settled);
  assert.deepEqual(again.flows, []);
});

test('S6: the same, answered by an ACK: the socket is there, and the drain has to find it', () => {
  const t = frozen(talked(500, 1000));
  t.verb('export', { epoch: 1, sockets: [] });
  t.drain();
  t.fromGuest('a', { seq: 500, ack: 1000 });
  assert.ok(!t.verb('export', { epoch: 1, sockets: [] }).settled);
  assert.equal(t.state(), 'ESTABLISHED');
});

test('S3: ACKs and windows of the peer while frozen are what attach and new socket begin with', () => {
  const t = talked(0, 0);
  t.fromGuest('a', { seq: 0, len: 1448 });
  t.fromGuest('a', { seq: 1448, len: 1448 });
  t.drain();
  t.freeze();
  t.fromPeer({ seq: 0, ack: 1448, win: 300 });
  t.expectNothing();
  const result = t.export(0);
  assert.ok(result.settled);
  assert.equal(result.flows[0]?.acked, 1448);
  t.fromPeer({ seq: 0, ack: 2896, win: 290 });
  assert.equal(t.attach('b').flows[0]?.acked, 2896);
  t.fromGuest('b', { flags: 'S' });
  t.expectToGuest('b', { flags: 'SA', seq: -1, ack: 2896, win: 290 * 128 });
});
