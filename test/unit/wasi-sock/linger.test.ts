import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TCP_STATE, native } from '../../../src/native.ts';
import type { SocketFd } from '../../../src/native.ts';
import { FIN_WAIT_TIMEOUT, STALL_TIMEOUT } from '../../../src/wasi-sock/linger.ts';
import { parseSavedSockets } from '../../../src/wasi-sock/saved.ts';
import { SHUT } from '../../../src/wasi-sock/tcp.ts';
import { move } from './moving.ts';
import { Peer, at, flow, guest, listener, ok, openFds, pattern, streamOf, text, until } from './support.ts';
import type { Guest } from './support.ts';

const ECONNRESET = -104;

function connected(g: Guest, receiveBuffer = 0) {
  const { handle, port } = listener(g);
  const peer = new Peer().connect(at(g.address, port), receiveBuffer);
  return { handle, peer, conn: ok(g.table.accept(handle)) };
}

test('a close sends all there is and a FIN, and the handle is gone when the peer has ended too', () => {
  using g = guest();
  const { peer, conn } = connected(g);
  using _ = peer;
  const before = openFds();
  g.table.send(conn, [text('the end')]);
  assert.equal(g.table.close(conn), 0);
  assert.equal(peer.readAll(), 0);
  assert.deepEqual(Uint8Array.from(peer.read), text('the end'));
  assert.equal(g.table.sweep(), 1, 'FIN_WAIT_2');
  peer.shutdown();
  until(() => g.table.sweep() === 0, 'TIME_WAIT');
  assert.equal(openFds(), before - 1);
});

test('a close when the peer has ended before waits for its acknowledgement only', () => {
  using g = guest();
  const { peer, conn } = connected(g);
  using _ = peer;
  peer.shutdown();
  assert.equal(g.table.receive(conn, [new Uint8Array(1)]), 0);
  g.table.close(conn);
  until(() => g.table.sweep() === 0, 'LAST_ACK done');
});

test('a close with data unread resets, as a kernel does', () => {
  using g = guest();
  const { peer, conn } = connected(g);
  using _ = peer;
  peer.send(text('unread'));
  until(() => native.sockInQueue(streamOf(conn).fd as SocketFd) === 6, 'arrived');
  g.table.close(conn);
  assert.equal(g.table.sweep(), 0);
  assert.equal(peer.readOnce(), ECONNRESET);
});

test('a close with data that only a drain has read resets too', () => {
  using g = guest();
  const { peer, conn } = connected(g);
  using _ = peer;
  peer.send(text('unread'));
  until(() => g.table.drain().connections[0]?.received === 6, 'drained');
  g.table.thaw();
  g.table.close(conn);
  assert.equal(peer.readOnce(), ECONNRESET);
});

test('SO_LINGER of 0 seconds resets; with a time it is a close like any other', () => {
  using g = guest();
  const one = connected(g);
  g.table.setLinger(one.conn, { on: true, seconds: 0 });
  g.table.close(one.conn);
  assert.equal(one.peer.readOnce(), ECONNRESET);
  const two = connected(g);
  g.table.setLinger(two.conn, { on: true, seconds: 3 });
  g.table.close(two.conn);
  assert.equal(two.peer.readOnce(), 0);
  one.peer[Symbol.dispose]();
  two.peer[Symbol.dispose]();
});

test('data for a connection that was closed is answered with a RST', () => {
  using g = guest();
  const { peer, conn } = connected(g);
  using _ = peer;
  g.table.close(conn);
  assert.equal(peer.readOnce(), 0);
  peer.send(text('anyone?'));
  until(() => g.table.sweep() === 0, 'the data');
  until(() => native.sockTcpState(peer.fd) === TCP_STATE.CLOSE, 'a RST');
});

test('a peer that does not end its half is waited for a minute', () => {
  using g = guest();
  const { peer, conn } = connected(g);
  using _ = peer;
  const fd = streamOf(conn).fd as SocketFd;
  g.table.close(conn);
  until(() => native.sockTcpState(fd) === TCP_STATE.FIN_WAIT2, 'FIN acknowledged');
  assert.equal(g.table.sweep(), 1);
  g.advance(FIN_WAIT_TIMEOUT - 1000);
  assert.equal(g.table.sweep(), 1);
  g.advance(1001);
  assert.equal(g.table.sweep(), 0);
});

test('what the peer has no room for yet is sent while the guest does other things', () => {
  using g = guest();
  const { handle, peer, conn } = connected(g, 4096);
  using _ = peer;
  g.table.setNonBlocking(conn, true);
  const data = pattern(0, 4 << 20);
  let sent = 0;
  for (let n = 1; n > 0; sent += Math.max(0, n)) n = g.table.send(conn, [data.subarray(sent)]);
  g.table.close(conn);
  g.table.setNonBlocking(handle, true);
  while (peer.readOnce() > 0) g.table.accept(handle);
  assert.deepEqual(Uint8Array.from(peer.read), data.subarray(0, sent));
});

test('at its exit all that the guest holds is closed, and lingers', () => {
  using g = guest();
  const a = connected(g);
  const b = connected(g);
  ok(g.table.open('udp'));
  g.table.send(a.conn, [text('last')]);
  g.table.shutdown(b.conn, SHUT.WRITE);
  assert.equal(g.table.closeAll(), 2);
  assert.deepEqual(g.table.handles(), []);
  assert.equal(a.peer.readAll(), 0);
  assert.equal(b.peer.readAll(), 0);
  a.peer.shutdown();
  b.peer.shutdown();
  until(() => g.table.sweep() === 0, 'nothing lingers');
  a.peer[Symbol.dispose]();
  b.peer[Symbol.dispose]();
});

/**
 * Closes a connection with far more on its way than the peer, which reads nothing, has room for. What the peer has acknowledged is
 * `acked` from then on: how the kernel squeezes a last byte into a small window is not for a test to time.
 */
function closedFull(g: Guest) {
  const { peer, conn } = connected(g, 4096);
  g.table.setNonBlocking(conn, true);
  const data = pattern(0, 8 << 20);
  for (let n = 1, sent = 0; n > 0; sent += Math.max(0, n)) n = g.table.send(conn, [data.subarray(sent)]);
  const stream = streamOf(conn);
  const state = { peer, stream, acked: 1000 };
  stream.acknowledged = () => state.acked;
  g.table.close(conn);
  return state;
}

test('a peer that acknowledges nothing more is given up', () => {
  using g = guest();
  const before = openFds();
  const state = closedFull(g);
  using peer = state.peer;
  assert.equal(g.table.sweep(), 1);
  g.advance(STALL_TIMEOUT - 2000);
  assert.equal(g.table.sweep(), 1);
  state.acked += 1;
  g.advance(1000);
  assert.equal(g.table.sweep(), 1);
  g.advance(STALL_TIMEOUT - 2000);
  assert.equal(g.table.sweep(), 1);
  g.advance(2001);
  assert.equal(g.table.sweep(), 0);
  assert.equal(peer.readAll(), ECONNRESET);
  assert.equal(openFds(), before + 2, 'the listener and the socket of the peer');
});

test('what is acknowledged is counted in bytes, without the FIN', () => {
  using g = guest();
  const { peer, conn } = connected(g);
  using _ = peer;
  const stream = streamOf(conn);
  g.table.send(conn, [text('five!')]);
  until(() => stream.acknowledged() === 5, 'acknowledged');
  g.table.shutdown(conn, SHUT.WRITE);
  until(() => native.sockTcpState(stream.fd as SocketFd) === TCP_STATE.FIN_WAIT2, 'the FIN too');
  assert.equal(stream.acknowledged(), 5);
});

test('a freeze that is taken back leaves a peer time to answer', () => {
  using g = guest();
  using _ = closedFull(g).peer;
  assert.equal(g.table.sweep(), 1);
  g.table.drain();
  g.advance(STALL_TIMEOUT + 1000);
  g.table.thaw();
  assert.equal(g.table.sweep(), 1);
  g.advance(STALL_TIMEOUT / 2);
  assert.equal(g.table.sweep(), 0);
});

test('a peer is not given up when it is only that nobody looked', () => {
  using g = guest();
  const { peer, conn } = connected(g);
  using _ = peer;
  const fd = streamOf(conn).fd as SocketFd;
  g.table.close(conn);
  until(() => native.sockTcpState(fd) === TCP_STATE.FIN_WAIT2, 'FIN acknowledged');
  g.advance(STALL_TIMEOUT + 1000);
  assert.equal(g.table.sweep(), 1);
  peer.shutdown();
  assert.equal(peer.readAll(), 0, 'no RST');
});

test('the time in which a peer has acknowledged nothing moves with the connection', () => {
  using g = guest();
  const { peer, stream } = closedFull(g);
  using _ = peer;
  const { port } = stream.local;
  assert.equal(g.table.sweep(), 1);
  g.advance(STALL_TIMEOUT / 2);
  const report = () => [flow(g.address, port, peer, { acked: peer.read.length, received: 0 })];
  const idle = (): number => {
    g.table.drain();
    return g.table.save(report()).lingering[0]?.idle ?? -1;
  };
  assert.ok(idle() >= STALL_TIMEOUT / 2);
  move(g, peer, report(), report);
  g.advance(1000);
  assert.ok(idle() >= STALL_TIMEOUT / 2 + 1000);
});

test('an image from before that time was kept has none', () => {
  using g = guest();
  const { peer, stream } = closedFull(g);
  using _ = peer;
  g.table.drain();
  const saved = g.table.save([flow(g.address, stream.local.port, peer, { acked: 1000, received: 0 })]);
  const old = { ...saved, lingering: saved.lingering.map(({ stream: kept, doomed }) => ({ stream: kept, doomed })) };
  assert.equal(parseSavedSockets(old).lingering[0]?.idle, 0);
});
