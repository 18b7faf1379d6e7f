/** Ends of connections: each close state at the cut, in each direction, and what a closed connection still gets. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { attached, cutAt, frozen, handshake, talked } from './factories.ts';
import type { Bench } from './lang.ts';

/** The guest has closed first; its FIN at 100 is not acknowledged. */
function finWait1(): Bench {
  const t = talked(100, 100);
  t.fromGuest('a', { flags: 'FA', seq: 100, ack: 100 });
  t.drain();
  assert.equal(t.state(), 'FIN-WAIT-1');
  return t;
}

function finWait2(): Bench {
  const t = finWait1();
  t.fromPeer({ seq: 100, ack: 101 });
  t.drain();
  assert.equal(t.state(), 'FIN-WAIT-2');
  return t;
}

/** Both have sent a FIN at once: the peer's is acknowledged, the guest's is not. */
function closing(): Bench {
  const t = finWait1();
  t.fromPeer({ flags: 'FA', seq: 100, ack: 100 });
  t.fromGuest('a', { seq: 101, ack: 101 });
  t.drain();
  assert.equal(t.state(), 'CLOSING');
  return t;
}

function timeWait(): Bench {
  const t = finWait2();
  t.fromPeer({ flags: 'FA', seq: 100, ack: 101 });
  t.fromGuest('a', { seq: 101, ack: 101 });
  t.drain();
  assert.equal(t.state(), 'TIME-WAIT');
  return t;
}

/** The peer has closed first, which the guest has acknowledged. */
function closeWait(): Bench {
  const t = talked(100, 100);
  t.fromPeer({ flags: 'FA', seq: 100, ack: 100 });
  t.fromGuest('a', { seq: 100, ack: 101 });
  t.drain();
  assert.equal(t.state(), 'CLOSE-WAIT');
  return t;
}

function lastAck(): Bench {
  const t = closeWait();
  t.fromGuest('a', { flags: 'FA', seq: 100, ack: 101 });
  t.drain();
  assert.equal(t.state(), 'LAST-ACK');
  return t;
}

/** Segments of the stream to the guest: [offset, bytes, flags]. */
function toGuest(t: Bench): [number, number, string][] {
  return t
    .drain()
    .filter(({ device }) => device !== 0)
    .map(({ seq, payload, flags }) => [t.inOffset(seq), payload.length, flags]);
}

test('S36 S37: FIN-WAIT-1 at the cut: the new socket sends tail and FIN again, at their old places', () => {
  const t = attached('b', 100, frozen(finWait1()));
  assert.equal(t.sockets.b.base, 100);
  t.commit();
  t.drain();
  t.fromGuest('b', { flags: 'FA', seq: 100, ack: 100 });
  t.expectToPeer({ flags: 'FA', seq: 100, ack: 100 });
  t.fromPeer({ seq: 100, ack: 101 });
  t.expectToGuest('b', { ack: 101 });
  assert.equal(t.state(), 'FIN-WAIT-2');
  t.fromPeer({ flags: 'FA', seq: 100, ack: 101 });
  t.drain();
  t.fromGuest('b', { seq: 101, ack: 101 });
  assert.equal(t.state(), 'TIME-WAIT');
});

test('S36: FIN-WAIT-1, acknowledged while frozen: the export says so, and nothing sends it again', () => {
  const t = frozen(finWait1());
  t.fromPeer({ seq: 100, ack: 101 });
  assert.equal(t.state(), 'FIN-WAIT-2');
  const result = t.export(100);
  assert.ok(result.settled);
  assert.deepEqual([result.flows[0]?.acked, result.flows[0]?.finAcked, result.flows[0]?.peerFin], [100, true, false]);
  t.attach('b');
  handshake('b', 100, t);
  t.commit();
  t.drain();
  // The runtime ends the new socket's writing too: the peer has that FIN, so the gateway answers it.
  t.fromGuest('b', { flags: 'FA', seq: 100, ack: 100 });
  t.expectToGuest('b', { flags: 'A', ack: 101 });
  t.expectNothing();
});

test('S36 S32: FIN-WAIT-2, and the peer ends while frozen: its last bytes and its FIN are played to the new socket', () => {
  const t = frozen(finWait2());
  t.fromPeer({ flags: 'FA', seq: 100, ack: 101, len: 500 });
  t.expectToPeer({ ack: 601 });
  assert.equal(t.state(), 'TIME-WAIT');
  const result = t.export(100);
  assert.ok(result.settled);
  assert.equal(result.flows[0]?.peerFin, false, 'K is below what custody has: there is more to come');
  t.attach('b');
  t.fromGuest('b', { flags: 'S' });
  t.expectToGuest('b', { flags: 'SA', seq: 99 });
  t.fromGuest('b', { seq: 100, ack: 100 });
  t.commit();
  assert.deepEqual(toGuest(t).at(-1), [100, 500, 'FPA']);
  // Not forgotten while the guest has not acknowledged.
  t.advance(70_000, 1000);
  assert.ok(t.slot() >= 0);
  t.drain();
  t.fromGuest('b', { seq: 100, ack: 601 });
  assert.equal(t.held(), 0);
  t.drain();
  t.advance(70_000, 1000);
  t.expectNothing();
  assert.equal(t.slot(), -1);
});

test('S36 S32: FIN-WAIT-2, and only a FIN comes while frozen: it is played alone, and repeated until it is acknowledged', () => {
  const t = frozen(finWait2());
  t.fromPeer({ flags: 'FA', seq: 100, ack: 101 });
  attached('b', 100, t);
  t.commit();
  assert.deepEqual(toGuest(t), [
    [100, 0, 'A'],
    [100, 0, 'FPA'],
  ]);
  t.advance(250);
  assert.deepEqual(toGuest(t), [[100, 0, 'FPA']]);
  t.fromGuest('b', { seq: 100, ack: 101 });
  t.drain();
  t.advance(5000);
  t.expectNothing();
});

test('S36 S32: closed for the peer, whose FIN the gateway has acknowledged: what the guest sends again is answered here', () => {
  const t = frozen(finWait2());
  t.fromPeer({ flags: 'FA', seq: 100, ack: 101 });
  attached('b', 100, t);
  t.commit();
  t.drain();
  // Its FIN, twice: the answer to the first was on its way.
  for (let time = 0; time < 2; time++) t.fromGuest('b', { flags: 'FA', seq: 100, ack: 100 });
  for (let time = 0; time < 2; time++) t.expectToGuest('b', { ack: 101 });
  t.expectNothing();
});

test("S36: FIN-WAIT-2 without a socket at the guest: the gateway acknowledges the peer's FIN after the move", () => {
  const t = frozen(finWait2());
  const result = t.verb('export', { epoch: 1, sockets: [] });
  assert.ok(result.settled);
  t.verb('attach', { epoch: 2, leg: 'b' });
  t.commit();
  t.expectNothing();
  t.fromPeer({ seq: 99, ack: 101 });
  t.expectToPeer({ ack: 100 });
  t.fromPeer({ flags: 'FA', seq: 100, ack: 101 });
  t.expectToPeer({ flags: 'A', seq: 101, ack: 101 });
  assert.equal(t.state(), 'TIME-WAIT');
  t.fromPeer({ flags: 'FA', seq: 100, ack: 101 });
  t.expectToPeer({ ack: 101 });
});

test('S36: data for a connection the guest has closed is refused by RST, as a closed socket does', () => {
  const t = frozen(finWait2());
  t.verb('export', { epoch: 1, sockets: [] });
  t.verb('attach', { epoch: 2, leg: 'b' });
  t.commit();
  t.allowReset = true;
  t.fromPeer({ seq: 100, ack: 101, len: 10 });
  t.expectToPeer({ flags: 'RA', seq: 101 });
  assert.equal(t.state(), 'CLOSED');
  t.fromPeer({ seq: 110, ack: 101, len: 10 });
  t.expectToPeer({ flags: 'R', seq: 101 });
});

test('S36: a FIN behind data that was lost is not acknowledged for a closed socket', () => {
  const t = frozen(finWait2());
  t.verb('export', { epoch: 1, sockets: [] });
  t.verb('attach', { epoch: 2, leg: 'b' });
  t.commit();
  t.allowReset = true;
  t.fromPeer({ flags: 'FA', seq: 200, ack: 101 });
  t.expectToPeer({ flags: 'RA', seq: 101, ack: 100 });
});

test("S36: CLOSING at the cut: the FIN of the guest is sent again, the peer's is given to the new socket again", () => {
  const t = attached('b', 100, frozen(closing()));
  t.commit();
  assert.deepEqual(toGuest(t), [
    [100, 0, 'A'],
    [100, 0, 'FPA'],
  ]);
  t.fromGuest('b', { flags: 'FA', seq: 100, ack: 101 });
  t.expectToPeer({ flags: 'FA', seq: 100, ack: 101 });
  t.fromPeer({ seq: 101, ack: 101 });
  assert.equal(t.state(), 'TIME-WAIT');
});

test('S36: TIME-WAIT at the cut: no socket moves; the gateway answers a repeated FIN, until it forgets', () => {
  const t = frozen(timeWait());
  t.fromPeer({ flags: 'FA', seq: 100, ack: 101 });
  t.expectToPeer({ seq: 101, ack: 101 });
  const result = t.verb('export', { epoch: 1, sockets: [] });
  assert.ok(result.settled);
  assert.deepEqual(t.verb('attach', { epoch: 2, leg: 'b' }).flows, []);
  t.commit();
  t.expectNothing();
  t.fromPeer({ flags: 'FA', seq: 100, ack: 101 });
  t.expectToPeer({ seq: 101, ack: 101 });
  t.advance(62_000, 1000);
  assert.equal(t.slot(), -1);
});

test('S36: TIME-WAIT with a socket of the runtime is exported as over on both sides', () => {
  const t = frozen(timeWait());
  const result = t.export(100);
  assert.ok(result.settled);
  assert.deepEqual([result.flows[0]?.finAcked, result.flows[0]?.peerFin, result.flows[0]?.reset], [true, true, false]);
});

test('S36: CLOSE-WAIT at the cut: the FIN is played to the new socket after the data, and the guest goes on writing', () => {
  const t = attached('b', 100, frozen(closeWait()));
  t.commit();
  assert.deepEqual(toGuest(t).at(-1), [100, 0, 'FPA']);
  t.fromGuest('b', { seq: 100, ack: 101, len: 1000 });
  t.expectToPeer({ seq: 100, ack: 101, len: 1000 });
  assert.equal(t.state(), 'CLOSE-WAIT');
  t.fromGuest('b', { flags: 'FA', seq: 1100, ack: 101 });
  t.expectToPeer({ flags: 'FA', seq: 1100, ack: 101 });
  t.fromPeer({ seq: 101, ack: 1101 });
  assert.equal(t.state(), 'CLOSED');
});

test('S36: LAST-ACK at the cut: tail and FIN are sent again by the new socket', () => {
  const t = attached('b', 100, frozen(lastAck()));
  t.commit();
  t.drain();
  t.fromGuest('b', { flags: 'FA', seq: 100, ack: 101 });
  t.expectToPeer({ flags: 'FA', seq: 100, ack: 101 });
  t.fromPeer({ seq: 101, ack: 101 });
  t.expectToGuest('b', { ack: 101 });
  assert.equal(t.state(), 'CLOSED');
});

test('S36: LAST-ACK, acknowledged between attach and connect: the socket that was announced is served all the same', () => {
  const t = cutAt(100, frozen(lastAck()));
  t.attach('b');
  t.fromPeer({ seq: 101, ack: 101 });
  assert.equal(t.state(), 'CLOSED');
  t.fromGuest('b', { flags: 'S' });
  t.expectToGuest('b', { flags: 'SA', seq: 99 });
  t.fromGuest('b', { seq: 100, ack: 100 });
  t.commit();
  assert.deepEqual(toGuest(t).at(-1), [100, 0, 'FPA']);
  t.fromGuest('b', { flags: 'FA', seq: 100, ack: 101 });
  t.expectToGuest('b', { ack: 101 });
  t.expectNothing();
});

test('S36: LAST-ACK, acknowledged while frozen: the connection is over, no socket moves', () => {
  const t = frozen(lastAck());
  t.fromPeer({ seq: 101, ack: 101 });
  assert.equal(t.state(), 'CLOSED');
  const result = t.verb('export', { epoch: 1, sockets: [] });
  assert.ok(result.settled);
  t.verb('attach', { epoch: 2, leg: 'b' });
  t.commit();
  t.expectNothing();
  // The peer, in TIME-WAIT, is answered if it asks.
  t.fromPeer({ seq: 100, ack: 101 });
  t.expectToPeer({ seq: 101, ack: 101 });
});

test('S36: LAST-ACK, acknowledged while frozen, then abort: the old socket learns it, and the peer hears nothing', () => {
  const t = frozen(lastAck());
  t.fromPeer({ seq: 101, ack: 101 });
  t.abort();
  t.expectToGuest('a', { flags: 'A', ack: 101 });
  t.expectNothing();
});

test('S36: an abort does not wake the socket of a connection that was over', () => {
  const t = frozen(timeWait());
  t.abort();
  t.expectNothing();
});

test('S49: a lingering connection moves with unacknowledged bytes and FIN', () => {
  const t = talked(0, 50);
  for (let at = 0; at < 3; at++) t.fromGuest('a', { seq: at * 1000, ack: 50, len: 1000 });
  t.fromGuest('a', { flags: 'FA', seq: 3000, ack: 50 });
  t.fromPeer({ seq: 50, ack: 1000 });
  t.freeze();
  const result = t.verb('export', { epoch: 1, sockets: [{ ...t.drained(50, 3000), lingering: true }] });
  assert.ok(result.settled);
  assert.deepEqual([result.flows[0]?.acked, result.flows[0]?.finAcked], [1000, false]);
  t.attach('b');
  handshake('b', 50, t);
  t.commit();
  t.drain();
  t.fromGuest('b', { flags: 'FPA', seq: 1000, ack: 50, len: 2000 });
  t.expectToPeer({ flags: 'FPA', seq: 1000, len: 2000 });
  t.fromPeer({ seq: 50, ack: 3001 });
  t.expectToGuest('b', { ack: 3001 });
  assert.equal(t.state(), 'FIN-WAIT-2');
});

test('S49: a lingering connection whose FIN is acknowledged needs no socket; bytes that came for it are refused at commit', () => {
  const t = frozen(finWait2());
  t.fromPeer({ seq: 100, ack: 101, len: 300 });
  const result = t.verb('export', { epoch: 1, sockets: [{ ...t.drained(100, 100), lingering: true }] });
  assert.ok(result.settled);
  t.verb('attach', { epoch: 2, leg: 'b' });
  t.drain();
  t.allowReset = true;
  t.commit();
  t.expectToPeer({ flags: 'RA', seq: 101 });
  assert.equal(t.arena.gauges[5], 0);
});

test("S36: the peer's FIN was on its way to the old kernel, which has it: exported, closed by the guest, acknowledged once", () => {
  const t = finWait2();
  t.fromPeer({ flags: 'FA', seq: 100, ack: 101 });
  t.drain();
  t.freeze();
  // The old kernel's ACK of the FIN is lost; the runtime has read the end of the stream and needs no socket.
  const result = t.export(100);
  assert.ok(result.settled);
  t.expectToPeer({ flags: 'A', ack: 101 });
  t.attach('b');
  t.commit();
  t.expectNothing();
  assert.equal(t.state(), 'TIME-WAIT');
});

test('S32: a FIN that passes to the guest is acknowledged to the peer by the guest alone', () => {
  const t = attached('b', 100, frozen(talked(100, 100)));
  t.commit();
  // The guest's window has caught up: packets pass.
  t.fromGuest('b', { seq: 100, ack: 100, win: 60_000 });
  t.drain();
  assert.equal(t.f.hold[t.slot()], 0);
  t.fromPeer({ flags: 'FA', seq: 100, ack: 100, len: 50 });
  t.expectToGuest('b', { flags: 'FA', seq: 100, len: 50 });
  // Its ACK of the data alone: had the FIN been lost, the peer must send it again.
  t.fromGuest('b', { seq: 100, ack: 150 });
  t.expectToPeer({ ack: 150 });
  t.fromGuest('b', { seq: 100, ack: 151 });
  t.expectToPeer({ ack: 151 });
});

test('S36: FIN of either side before, during and after a move, with data in both directions', () => {
  for (const who of ['peer', 'guest'] as const)
    for (const when of ['before', 'during', 'after'] as const) {
      const t = talked(100, 100);
      const close = (leg: 'a' | 'b'): void => {
        if (who === 'peer') t.fromPeer({ flags: 'FA', seq: 100, ack: 100 });
        else t.fromGuest(leg, { flags: 'FA', seq: 100, ack: 100 });
      };
      if (when === 'before') close('a');
      t.freeze();
      if (when === 'during') close('a');
      cutAt(100, t);
      t.attach('b');
      handshake('b', 100, t);
      t.commit();
      t.drain();
      // What the guest had closed, it closes again: by the runtime's order. What an old socket sent while frozen never left.
      if (when === 'after' || who === 'guest') close('b');
      t.drain();
      if (who === 'peer') {
        t.fromGuest('b', { seq: 100, ack: 101, len: 40 });
        t.expectToPeer({ seq: 100, ack: 101, len: 40 });
        assert.equal(t.state(), 'CLOSE-WAIT');
      } else {
        t.fromPeer({ seq: 100, ack: 101 });
        t.drain();
        assert.equal(t.state(), 'FIN-WAIT-2', `${who} ${when}`);
      }
    }
});

test('S37: a FIN takes a number: ACKs of it, and RSTs behind it, are offsets like others', () => {
  const t = finWait2();
  const { sequence } = t.show();
  assert.deepEqual([sequence.sndUna, sequence.sndNxt], [101, 101]);
  t.freeze();
  t.fromPeer({ flags: 'R', seq: 100 });
  assert.equal(t.state(), 'CLOSED');
});
