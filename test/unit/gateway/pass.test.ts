/** Flows that were never frozen: translation of addresses, and the record that a freeze will need. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { HAS_MD5 } from '../../../src/gateway/flow.ts';
import { icmp } from '../../support/packets.ts';
import { connected, established, talked } from './factories.ts';
import { Bench } from './lang.ts';
import { GUEST_ADDRESS, OUTSIDE_ADDRESS, PEER_ADDRESS, datagram } from './segments.ts';

test('S1 S23: a handshake from outside passes with addresses and checksums translated, full and partial', () => {
  for (const partial of [true, false]) {
    const t = new Bench();
    t.firstSocket = { ...t.sockets.a };
    t.fromPeer({ flags: 'S', win: 64_000, partial });
    const syn = t.expectToGuest('a', { flags: 'S', seq: -1, mss: 1460, ws: 7, sackOk: true, partial });
    assert.equal(syn.src, PEER_ADDRESS);
    assert.equal(syn.dst, GUEST_ADDRESS);
    assert.equal(syn.dstPort, 80);
    t.fromGuest('a', { flags: 'SA', win: 65_000, partial });
    const synAck = t.expectToPeer({ flags: 'SA', seq: -1, ack: 0, win: 65_000, partial });
    assert.equal(synAck.src, OUTSIDE_ADDRESS);
    assert.equal(synAck.srcPort, 8080);
    t.fromPeer({ seq: 0, ack: 0, partial });
    t.expectToGuest('a', { flags: 'A', seq: 0, ack: 0 });
    assert.equal(t.state(), 'ESTABLISHED');
    t.expectNothing();
  }
});

test('S1: SND.UNA, SND.NXT and RCV.NXT of both directions are kept as offsets', () => {
  const t = established();
  t.fromGuest('a', { seq: 0, len: 1000 });
  t.fromGuest('a', { seq: 1000, len: 500 });
  t.fromPeer({ seq: 0, ack: 1000, len: 300 });
  t.fromPeer({ seq: 300, ack: 1000, len: 300 });
  t.fromGuest('a', { seq: 1500, ack: 300 });
  const { sequence } = t.show();
  assert.deepEqual([sequence.sndUna, sequence.sndNxt, sequence.rcvNxt, sequence.peerNxt], [1000, 1500, 300, 600]);
  assert.equal(t.state(), 'ESTABLISHED');
});

test('S1: offsets count on beyond 4 GiB while sequence numbers wrap, in both directions', () => {
  const t = established();
  const step = 2 ** 30 - 12_345;
  let at = 0;
  // Six gigabytes each way, in leaps that a window of scale 14 would allow.
  for (let i = 0; i < 6; i++) {
    t.f.peerEdge[t.slot()] = t.f.maxEdge[t.slot()] = at + 2 * step;
    at += step;
    t.f.sndNxt[t.slot()] = t.f.sndUna[t.slot()] = t.f.guestNxt[t.slot()] = at;
    t.f.peerNxt[t.slot()] = t.f.rcvNxt[t.slot()] = t.f.ackedToPeer[t.slot()] = at;
  }
  assert.ok(at > 2 ** 32);
  t.fromPeer({ seq: at, ack: at, len: 100 });
  t.expectToGuest('a', { seq: at, len: 100 });
  t.fromGuest('a', { seq: at, ack: at + 100, len: 50 });
  t.expectToPeer({ seq: at, ack: at + 100, len: 50 });
  assert.equal(t.f.peerNxt[t.slot()], at + 100);
  assert.equal(t.f.sndNxt[t.slot()], at + 50);
});

test('S16: a connect of the guest passes, keeps its port, and its sequence numbers', () => {
  const t = connected();
  assert.equal(t.state(), 'ESTABLISHED');
  t.fromGuest('a', { seq: 0, len: 700 });
  t.expectToPeer({ seq: 0, ack: 0, len: 700 });
  t.fromPeer({ seq: 0, ack: 700, len: 90 });
  t.expectToGuest('a', { seq: 0, ack: 700, len: 90 });
});

test('S22 S26: urgent pointer and ECN bits of a plain flow pass as they are', () => {
  const t = established();
  t.fromPeer({ flags: 'PAUE', len: 10 });
  t.expectToGuest('a', { flags: 'PAUE', len: 10 });
  t.fromGuest('a', { flags: 'PAC', len: 10 });
  t.expectToPeer({ flags: 'PAC', len: 10 });
});

test('S23: super-packets pass whole, with the size of their pieces', () => {
  const t = established();
  t.fromGuest('a', { seq: 0, len: 44 * 1448, gso: 1448 });
  t.expectToPeer({ seq: 0, len: 44 * 1448, gsoSize: 1448, partial: true });
  t.fromPeer({ seq: 0, len: 40 * 1448, gso: 1448 });
  t.expectToGuest('a', { seq: 0, len: 40 * 1448, gsoSize: 1448, partial: true });
});

test('S23: a segment whose checksum is wrong is dropped before it is recorded', () => {
  const t = established();
  const before = t.show().sequence;
  const damaged = (send: () => void): void => {
    // Catches the packet as it is written: the last byte is inverted behind the finished checksum.
    const packet = t.plane.packet.bind(t.plane);
    t.plane.packet = (device, offset, length) => {
      t.ctx.out.buffer[offset + length - 1]! ^= 0xff;
      packet(device, offset, length);
    };
    send();
    t.plane.packet = packet;
  };
  damaged(() => t.fromPeer({ seq: 0, len: 100, partial: false }));
  damaged(() => t.fromGuest('a', { seq: 0, len: 100, partial: false }));
  t.expectNothing();
  assert.deepEqual(t.show().sequence, before);
  assert.equal(t.drops()['bad-l4-checksum'], 2);
});

test('S46: a window larger than custody is passed as custody can keep it', () => {
  const t = established({ a: { shift: 10 } });
  t.fromGuest('a', { win: 60_000 });
  t.expectToPeer({ win: 4096, edge: 4 * 1024 * 1024 });
  assert.equal(t.f.maxEdge[t.slot()], 4 * 1024 * 1024);
});

test('S9: Fast Open is stripped from SYNs of both sides', () => {
  const t = new Bench();
  t.firstSocket = { ...t.sockets.a };
  const fastOpen = (device: number): void => {
    // 192-bit room: kind 34, length 10, an eight-byte cookie, two NOPs.
    const whole = t.ctx.writer;
    whole.reset();
    whole.src = device === 0 ? PEER_ADDRESS : GUEST_ADDRESS;
    whole.dst = device === 0 ? OUTSIDE_ADDRESS : PEER_ADDRESS;
    whole.srcPort = (device === 0 ? t.ports.peer : 6000) as never;
    whole.dstPort = (device === 0 ? 8080 : 443) as never;
    whole.flags = 2;
    whole.seq = 5 as never;
    whole.setTimestamps(1, 0);
    const bytes = new Uint8Array(200);
    const length = whole.write(bytes, 0);
    bytes.set([34, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 1], 10 + 20 + 20);
    t.raw(device, bytes.slice(0, length));
  };
  fastOpen(0);
  assert.deepEqual(t.expectToGuest('a', { flags: 'S' }).kinds, []);
  fastOpen(1);
  const seen = t.drain();
  assert.deepEqual(
    seen.map(({ kinds }) => kinds),
    [[]],
  );
});

test('S25: TCP-MD5, TCP-AO and MPTCP connections are found at the SYN, and a move is refused before anything stops', () => {
  for (const [kind, name] of [
    [19, /MD5/],
    [29, /AO/],
    [30, /MPTCP/],
  ] as const) {
    const t = new Bench();
    t.firstSocket = { ...t.sockets.a };
    const withOption = (send: () => void): void => {
      const packet = t.plane.packet.bind(t.plane);
      t.plane.packet = (device, offset, length) => {
        // In the place of timestamps, which are the last option of a SYN but for the window scale.
        const { buffer } = t.ctx.out;
        for (let at = offset + 50; at < offset + length; at++)
          if (buffer[at] === 8 && buffer[at + 1] === 10) {
            buffer[at] = kind;
            break;
          }
        packet(device, offset, length);
      };
      send();
      t.plane.packet = packet;
    };
    withOption(() => t.fromPeer({ flags: 'S' }));
    // Anybody can send one. The guest may never answer, and moves.
    assert.deepEqual(t.verb('check', { epoch: 1 }), { movable: true });
    withOption(() => t.fromGuest('a', { flags: 'SA' }));
    t.fromPeer({ seq: 0, ts: false });
    t.drain();
    assert.throws(() => t.verb('check', { epoch: 1 }), { code: 'KEDGE_FLOW_UNMOVABLE', message: name });
    assert.throws(() => t.freeze(), { code: 'KEDGE_FLOW_UNMOVABLE', message: name });
    // It goes on as if nothing had been asked.
    t.fromPeer({ seq: 0, len: 10, ts: false });
    t.expectToGuest('a', { len: 10 });
  }
});

test('S25: a signed SYN that waits for a frozen guest is not repeated by the gateway, which cannot sign: its peer does so', () => {
  const t = new Bench();
  t.freeze();
  t.fromPeer({ flags: 'S' });
  t.f.flags[t.slot()] = t.f.flags[t.slot()]! | HAS_MD5;
  t.abort();
  t.expectNothing();
  assert.equal(t.slot(), -1);
  t.fromPeer({ flags: 'S' });
  t.expectToGuest('a', { flags: 'S' });
});

test('S25: an MPTCP SYN that the other end answers without it makes an ordinary connection', () => {
  const t = new Bench();
  t.firstSocket = { ...t.sockets.a };
  const packet = t.plane.packet.bind(t.plane);
  t.plane.packet = (device, offset, length) => {
    const { buffer } = t.ctx.out;
    for (let at = offset + 50; at < offset + length; at++)
      if (buffer[at] === 8 && buffer[at + 1] === 10) buffer[at] = 30;
    packet(device, offset, length);
  };
  t.fromPeer({ flags: 'S' });
  t.plane.packet = packet;
  t.fromGuest('a', { flags: 'SA' });
  assert.deepEqual(t.verb('check', { epoch: 1 }), { movable: true });
});

test('S33: what a blind attacker sends into a plain flow passes to the guest, and is not recorded', () => {
  const t = talked(1000, 1000);
  const before = t.show();
  const far = 2 ** 31 - 5000;
  t.fromPeer({ flags: 'FA', seq: 1000 - 600_000, ack: 1000 });
  t.fromPeer({ seq: 1000 - far, ack: 1000, len: 10, ts: [0x7fff_0000, 0] });
  t.fromPeer({ seq: 1000 + far, ack: 1000, len: 10 });
  t.fromPeer({ seq: 1000, ack: 1000 + far, len: 10 });
  t.fromPeer({ seq: 1000, ack: 1000 - far, len: 10 });
  t.fromPeer({ flags: 'R', seq: 1000 - far });
  t.fromPeer({ flags: 'R', seq: 1001 });
  t.fromPeer({ flags: 'FA', seq: 500, ack: 1000 });
  assert.equal(t.drain().length, 8);
  const after = t.show();
  assert.deepEqual(after.sequence, before.sequence);
  assert.deepEqual(after.timestamps.lastFromPeer, before.timestamps.lastFromPeer);
  assert.equal(t.state(), 'ESTABLISHED');
});

test('S33: a SYN into a live connection is challenged; a peer that started anew resets, and its next SYN opens a new flow', () => {
  const t = talked(100, 100);
  t.fromPeer({ flags: 'S', seq: 99_999 });
  t.expectToPeer({ flags: 'A', seq: 100, ack: 100 });
  // The peer has no such connection: RST at our ACK.
  t.fromPeer({ flags: 'R', seq: 100 });
  t.expectToGuest('a', { flags: 'R', seq: 100 });
  assert.equal(t.state(), 'CLOSED');
  const id = t.f.flowId[t.slot()]!;
  t.fromPeer({ flags: 'S', seq: 99_999 });
  t.expectToGuest('a', { flags: 'S' });
  assert.equal(t.f.flowId[t.slot()], id + 1);
  assert.equal(t.state(), 'SYN-RECEIVED');
});

test('S9: a repeated SYN passes again and opens nothing new; a new attempt before any answer replaces the old one', () => {
  const t = new Bench();
  t.firstSocket = { ...t.sockets.a };
  t.fromPeer({ flags: 'S' });
  t.fromPeer({ flags: 'S' });
  assert.equal(t.drain().length, 2);
  assert.equal(t.ctx.arena.gauges[2], 1);
  // The attempt is given up, and the same port tries again with another ISN.
  t.peer.isn = 4242;
  t.fromPeer({ flags: 'S' });
  t.fromGuest('a', { flags: 'SA' });
  t.fromPeer({ seq: 0, ack: 0 });
  t.drain();
  t.fromPeer({ seq: 0, len: 100 });
  assert.equal(t.f.peerNxt[t.slot()], 100);
  t.freeze();
  t.fromPeer({ seq: 100, len: 50 });
  t.fromPeer({ seq: 0, len: 100 });
  assert.equal(t.held(), 150);
});

test('S16: a connect that nobody answered gives way to the next of the same ports', () => {
  const t = new Bench({ publish: false });
  t.firstSocket = { ...t.sockets.a };
  t.ports = { guest: 5000, peer: 443, outside: 5000 };
  t.fromGuest('a', { flags: 'S' });
  t.expectToPeer({ flags: 'S' });
  t.sockets.a.isn = t.firstSocket.isn = 123_456;
  t.fromGuest('a', { flags: 'S' });
  t.expectToPeer({ flags: 'S', seq: -1 });
  t.fromPeer({ flags: 'SA' });
  t.expectToGuest('a', { flags: 'SA', ack: 0 });
  assert.equal(t.state(), 'ESTABLISHED');
});

test('S40: a SYN of the current leg that nobody announced is challenged; a kernel without the old socket resets, then connects', () => {
  const t = connected();
  t.fromGuest('a', { seq: 0, len: 100 });
  t.fromPeer({ ack: 100 });
  t.drain();
  t.fromGuest('a', { flags: 'S', seq: 500_000 });
  t.expectToGuest('a', { flags: 'A', seq: 0, ack: 100 });
  assert.equal(t.drops()['unannounced-syn'], 1);
  // SYN-SENT: an ACK of something else gets a RST at that number (RFC 9293 §3.5.1), which ends the old connection at the peer.
  t.allowReset = true;
  t.fromGuest('a', { flags: 'R', seq: 100 });
  t.expectToPeer({ flags: 'R', seq: 100 });
  t.fromGuest('a', { flags: 'S', seq: 500_000 });
  t.expectToPeer({ flags: 'S' });
  assert.equal(t.state(), 'SYN-SENT');
});

test('S32: a RST that the guest does not accept leaves the flow alive as soon as both talk on', () => {
  const t = talked(0, 0);
  t.fromPeer({ seq: 0, len: 100 });
  t.fromPeer({ seq: 100, len: 100 });
  // Blind, within what is under way: the guest challenges it.
  t.fromPeer({ flags: 'R', seq: 150 });
  t.drain();
  assert.equal(t.state(), 'CLOSED');
  t.fromGuest('a', { ack: 200 });
  assert.equal(t.state(), 'CLOSED');
  t.advance(1500);
  t.fromGuest('a', { ack: 200 });
  assert.equal(t.state(), 'ESTABLISHED');
  t.fromPeer({ flags: 'R', seq: 200 });
  t.advance(1500);
  t.fromPeer({ seq: 200, len: 10 });
  assert.equal(t.state(), 'ESTABLISHED');
});

test('what belongs to no flow is answered as a host would, and counted', () => {
  const t = new Bench();
  t.allowReset = true;
  t.fromPeer({ seq: 5, ack: 9 });
  t.expectToPeer({ flags: 'R' });
  t.fromPeer({ flags: 'S' }, { outside: 999 });
  assert.deepEqual(
    t.drain().map(({ flags }) => flags),
    ['RA'],
  );
  t.fromPeer({ flags: 'R' });
  t.fromGuest('a', { seq: 5, ack: 9 });
  t.expectToGuest('a', { flags: 'R' });
  t.fromGuest('b', { flags: 'S' });
  t.expectToGuest('b', { flags: 'RA' });
  t.expectNothing();
  assert.deepEqual(t.drops(), { 'no-flow': 3, 'closed-port': 1, 'fenced-epoch': 1 });
});

/** A packet that no flow is needed for, as `device` brings it. */
function bare(t: Bench, src: number, dst: number, flags: number): Uint8Array {
  const w = t.ctx.writer;
  w.reset();
  w.src = src as never;
  w.dst = dst as never;
  w.srcPort = 1 as never;
  w.dstPort = 2 as never;
  w.flags = flags;
  w.seq = 700 as never;
  w.partial = false;
  const bytes = new Uint8Array(100);
  return bytes.slice(0, w.write(bytes, 0));
}

const ANOTHER_GUEST = (GUEST_ADDRESS + 5) as typeof GUEST_ADDRESS;

test('addresses that are not ours, and guests that are not known, are dropped and counted', () => {
  const t = established();
  t.raw(0, bare(t, PEER_ADDRESS, OUTSIDE_ADDRESS + 1, 2));
  t.raw(1, bare(t, GUEST_ADDRESS + 1, PEER_ADDRESS, 2));
  t.expectNothing();
  assert.deepEqual(t.drops(), { 'not-our-address': 1, 'unknown-guest': 1 });
});

test('a guest that connects to another guest, or to the outside address, is refused at once', () => {
  const t = established();
  for (const dst of [OUTSIDE_ADDRESS, ANOTHER_GUEST]) {
    t.raw(1, bare(t, GUEST_ADDRESS, dst, 2));
    const [refusal, ...more] = t.drain();
    assert.ok(refusal !== undefined && more.length === 0);
    const { device, flags, src, srcPort, dstPort, seq, ack } = refusal;
    assert.deepEqual(
      { device, flags, src, dst: refusal.dst, srcPort, dstPort, seq, ack },
      { device: 1, flags: 'RA', src: dst, dst: GUEST_ADDRESS, srcPort: 2, dstPort: 1, seq: 0, ack: 701 },
    );
    // A RST is not answered, nor a datagram, nor what was damaged on the way.
    t.raw(1, bare(t, GUEST_ADDRESS, dst, 4));
    t.raw(1, datagram(GUEST_ADDRESS, dst, 5000, 53));
    const damaged = bare(t, GUEST_ADDRESS, dst, 2);
    damaged[10 + 20 + 4]! ^= 1;
    t.raw(1, damaged);
    t.expectNothing();
  }
  assert.deepEqual(t.drops(), { hairpin: 6, 'bad-l4-checksum': 2 });
});

test('ICMP of either side, an error or a ping, is dropped and counted as what it is', () => {
  const t = established();
  const outside = { from: '198.51.100.7:1', to: '192.0.2.1:1' };
  const inside = { from: '100.64.0.9:1', to: '198.51.100.7:1' };
  for (const message of [
    [3, 1, 0, 0, 0, 0, 0, 0],
    [8, 0, 0, 0, 0, 1, 0, 1],
  ]) {
    t.raw(0, Buffer.concat([Buffer.alloc(10), icmp(outside, message)]));
    t.raw(1, Buffer.concat([Buffer.alloc(10), icmp(inside, message)]));
  }
  t.expectNothing();
  assert.deepEqual(t.drops(), { icmp: 4 });
});
