import assert from 'node:assert/strict';
import { test } from 'node:test';
import { native } from '../../../src/native.ts';
import { WASI } from '../../../src/wasi-sock/errno.ts';
import { pollRequest } from '../../../src/wasi-sock/poll.ts';
import { SHUT } from '../../../src/wasi-sock/tcp.ts';
import { Peer, at, guest, listener, ok, ownAddress, pattern, streamOf, text, until } from './support.ts';

test('each socket is ready for what it can do', () => {
  using g = guest();
  const { handle, port } = listener(g);
  const waiting = pollRequest(handle, 'read');
  assert.equal(g.table.poll([waiting], 0), 0);
  using peer = new Peer().connect(at(g.address, port));
  assert.equal(g.table.poll([waiting], 1000), 1);
  assert.equal(waiting.bytes, 1);
  const conn = ok(g.table.accept(handle));
  const [read, write] = [pollRequest(conn, 'read'), pollRequest(conn, 'write')];
  assert.equal(g.table.poll([waiting, read, write], 1000), 1);
  assert.deepEqual([waiting.ready, read.ready, write.ready], [false, false, true]);
  peer.send(text('12345'));
  assert.equal(g.table.poll([read], 1000), 1);
  assert.deepEqual([read.bytes, read.hangup, read.error], [5, false, 0]);
});

test('what a drain has read is ready without the kernel', () => {
  using g = guest();
  const { handle, port } = listener(g);
  using peer = new Peer().connect(at(g.address, port));
  const conn = ok(g.table.accept(handle));
  using second = new Peer().connect(at(g.address, port));
  peer.send(text('abc'));
  until(() => {
    const { connections } = g.table.drain();
    return connections.length === 2 && connections.some(({ received }) => received === 3);
  }, 'drained');
  g.table.thaw();
  const [read, accept] = [pollRequest(conn, 'read'), pollRequest(handle, 'read')];
  assert.equal(g.table.poll([read, accept], -1), 2);
  assert.deepEqual([read.bytes, accept.bytes], [3, 1]);
  assert.deepEqual(g.table.remoteName(ok(g.table.accept(handle))), second.remote);
});

test('the end and a reset are ready, and stay untold', () => {
  using g = guest();
  const { handle, port } = listener(g);
  using peer = new Peer().connect(at(g.address, port));
  const conn = ok(g.table.accept(handle));
  peer.shutdown();
  const read = pollRequest(conn, 'read');
  assert.equal(g.table.poll([read], 1000), 1);
  assert.equal(g.table.receive(conn, [new Uint8Array(1)]), 0);
  assert.equal(g.table.poll([read], 0), 1);
  assert.ok(read.hangup);
  const other = new Peer().connect(at(g.address, port));
  const lost = ok(g.table.accept(handle));
  other.reset();
  until(() => g.table.drain().connections.length === 1, 'the RST');
  g.table.thaw();
  for (const want of ['read', 'write'] as const) {
    const request = pollRequest(lost, want);
    assert.equal(g.table.poll([request], 0), 1);
    assert.equal(request.error, WASI.ECONNRESET);
  }
  assert.equal(g.table.receive(lost, [new Uint8Array(1)]), -WASI.ECONNRESET, 'a poll does not tell it');
  g.table.shutdown(conn, SHUT.WRITE);
  assert.equal(g.table.poll([pollRequest(conn, 'write')], 0), 1);
});

test('a connect becomes writable, or fails', () => {
  using g = guest();
  using peer = new Peer().listen();
  const handle = ok(g.table.open('tcp'));
  g.table.setNonBlocking(handle, true);
  assert.equal(g.table.connect(handle, peer.remote), -WASI.EINPROGRESS);
  assert.equal(g.table.poll([pollRequest(handle, 'write'), pollRequest(handle, 'read')], 1000), 1);
  assert.equal(g.table.connect(handle, peer.remote), 0);
  const lost = ok(g.table.open('tcp'));
  g.table.setNonBlocking(lost, true);
  assert.equal(g.table.connect(lost, at(ownAddress(), 9)), -WASI.EINPROGRESS);
  const write = pollRequest(lost, 'write');
  assert.equal(g.table.poll([write], 1000), 1);
  assert.equal(write.error, WASI.ECONNREFUSED);
  assert.equal(g.table.connect(lost, at(ownAddress(), 9)), -WASI.ECONNREFUSED);
});

test('a full socket is not writable until the peer reads', () => {
  using g = guest();
  const { handle, port } = listener(g);
  using peer = new Peer().connect(at(g.address, port), 4096);
  const conn = ok(g.table.accept(handle));
  g.table.setNonBlocking(conn, true);
  const data = pattern(0, 1 << 20);
  while (g.table.send(conn, [data]) > 0);
  const write = pollRequest(conn, 'write');
  assert.equal(g.table.poll([write], 0), 0);
  until(() => peer.readOnce(0) !== 0 && g.table.poll([write], 0) === 1, 'room');
});

test('other descriptors of the host can be waited for beside sockets', () => {
  using g = guest();
  const { handle } = listener(g);
  const event = native.wakeCreate() as unknown as number;
  const requests = [pollRequest(handle, 'read'), pollRequest(event, 'read')];
  assert.equal(g.table.poll(requests, 10), 0);
  native.wakeSignal(event as never);
  assert.equal(g.table.poll(requests, 1000), 1);
  assert.deepEqual(
    requests.map(({ ready }) => ready),
    [false, true],
  );
  native.fdClose(event as never);
  assert.equal(g.table.poll(requests, 0), 1);
  assert.equal(requests[1]?.error, WASI.EBADF);
});

test('many sockets at once, and the clock when none is ready', () => {
  using g = guest();
  const { handle, port } = listener(g);
  const peers = Array.from({ length: 40 }, () => new Peer().connect(at(g.address, port)));
  const conns = peers.map(() => ok(g.table.accept(handle)));
  const requests = conns.flatMap((conn) => [pollRequest(conn, 'read')]);
  const began = performance.now();
  assert.equal(g.table.poll(requests, 20), 0);
  assert.ok(performance.now() - began >= 19);
  peers[7]?.send(text('x'));
  assert.equal(g.table.poll(requests, 1000), 1);
  const ready = conns.find((_, i) => requests[i]?.ready);
  assert.ok(ready !== undefined);
  assert.equal(streamOf(ready).remote.port, peers[7]?.port);
  for (const peer of peers) peer[Symbol.dispose]();
});
