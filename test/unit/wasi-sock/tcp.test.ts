import assert from 'node:assert/strict';
import { test } from 'node:test';
import { NO_WAKE, TCP_STATE, native } from '../../../src/native.ts';
import type { SocketFd } from '../../../src/native.ts';
import { WASI } from '../../../src/wasi-sock/errno.ts';
import { RECEIVE, SHUT } from '../../../src/wasi-sock/tcp.ts';
import {
  Peer,
  at,
  good,
  guest,
  listener,
  ok,
  openFds,
  ownAddress,
  pattern,
  recv,
  recvAll,
  streamOf,
  text,
  until,
} from './support.ts';

test('INADDR_ANY is the guest address, and no other may be bound', () => {
  using g = guest();
  const any = ok(g.table.open('tcp'));
  assert.equal(g.table.bind(any, at(0 as never, 0)), 0);
  assert.equal(g.table.localName(any).address, g.address);
  const other = ok(g.table.open('tcp'));
  assert.equal(g.table.bind(other, at(ownAddress(), 0)), -WASI.EADDRNOTAVAIL);
  assert.equal(g.table.bind(any, at(g.address, 0)), -WASI.EINVAL, 'twice');
});

test('a connect without a bind comes from the guest address', () => {
  using g = guest();
  using peer = new Peer().listen();
  const handle = ok(g.table.open('tcp'));
  assert.equal(g.table.connect(handle, peer.remote), 0);
  assert.deepEqual(peer.accept(), g.table.localName(handle));
  assert.equal(g.table.localName(handle).address, g.address);
  assert.deepEqual(g.table.remoteName(handle), peer.remote);
  assert.equal(g.table.connect(handle, peer.remote), -WASI.EISCONN);
});

test('bytes go both ways, and both counters count them', () => {
  using g = guest();
  const { handle, port } = listener(g);
  using peer = new Peer().connect(at(g.address, port));
  const conn = ok(g.table.accept(handle));
  peer.send(text('hello'));
  assert.deepEqual(recv(g.table, conn, 3), text('hel'));
  assert.deepEqual(recv(g.table, conn, 10), text('lo'));
  assert.equal(g.table.send(conn, [text('good'), text('bye')]), 7);
  peer.readTo(7);
  assert.deepEqual(Uint8Array.from(peer.read), text('goodbye'));
  const stream = streamOf(conn);
  assert.equal(stream.received, 5);
  assert.equal(stream.written, 7);
});

test('the tail holds what is not acknowledged, and no more for long', () => {
  using g = guest();
  const { handle, port } = listener(g);
  using peer = new Peer().connect(at(g.address, port));
  const conn = ok(g.table.accept(handle));
  const data = pattern(0, 400_000);
  let sent = 0;
  while (sent < 4_000_000) {
    sent += g.table.send(conn, [data.subarray(0, 40_000)]);
    peer.readTo(sent);
    assert.ok(streamOf(conn).tail.length < 2_000_000);
  }
  until(() => (g.table.sweep(), streamOf(conn).tail.length === 0), 'everything acknowledged');
  assert.equal(streamOf(conn).tail.start, 4_000_000);
});

test('a peer that does not read leaves its bytes in the tail', () => {
  using g = guest();
  const { handle, port } = listener(g);
  using peer = new Peer().connect(at(g.address, port), 4096);
  const conn = ok(g.table.accept(handle));
  g.table.setNonBlocking(conn, true);
  const data = pattern(0, 1 << 20);
  let sent = 0;
  for (let n = 1; n > 0; sent += Math.max(0, n)) n = g.table.send(conn, [data.subarray(sent)]);
  const stream = streamOf(conn);
  g.table.sweep();
  assert.equal(stream.written, sent);
  assert.ok(stream.tail.length > sent / 2, 'most is not acknowledged');
  assert.deepEqual(stream.tail.bytes(), data.subarray(stream.tail.start, sent));
  peer.readTo(sent);
  assert.deepEqual(Uint8Array.from(peer.read), data.subarray(0, sent));
});

test('peek leaves bytes where they are, wait-all waits for all', () => {
  using g = guest();
  const { handle, port } = listener(g);
  using peer = new Peer().connect(at(g.address, port));
  const conn = ok(g.table.accept(handle));
  peer.send(text('abcdef'));
  assert.deepEqual(recv(g.table, conn, 4, RECEIVE.PEEK), text('abcd'));
  assert.equal(streamOf(conn).received, 0);
  assert.deepEqual(recv(g.table, conn, 4, RECEIVE.PEEK), text('abcd'));
  const short = new Uint8Array(10);
  assert.equal(g.table.receive(conn, [short], RECEIVE.WAIT_ALL, 20), 6, 'the time is up: what there is');
  peer.send(text('0123456789'));
  peer.shutdown();
  const [a, b] = [new Uint8Array(4), new Uint8Array(20)];
  assert.equal(g.table.receive(conn, [a, b], RECEIVE.WAIT_ALL, 5000), 10, 'the end comes before all');
  assert.deepEqual(a, text('0123'));
  assert.equal(g.table.receive(conn, [b]), 0);
});

test('several buffers are filled and sent in order', () => {
  using g = guest();
  const { handle, port } = listener(g);
  using peer = new Peer().connect(at(g.address, port));
  const conn = ok(g.table.accept(handle));
  peer.send(text('abcdefghij'));
  until(() => native.sockInQueue(streamOf(conn).fd as SocketFd) === 10, 'all arrived');
  const parts = [new Uint8Array(3), new Uint8Array(0), new Uint8Array(4), new Uint8Array(9)];
  assert.equal(g.table.receive(conn, parts), 10);
  assert.deepEqual(parts[2], text('defg'));
  assert.deepEqual(parts[3]?.subarray(0, 3), text('hij'));
});

test('timeouts of the guest, in microseconds, end a call with EAGAIN', () => {
  using g = guest();
  const { handle, port } = listener(g);
  handle.options.receiveTimeoutUs = 20_000;
  assert.equal(g.table.patience(handle, 'receive'), 20);
  assert.equal(g.table.accept(handle), -WASI.EAGAIN);
  using peer = new Peer().connect(at(g.address, port));
  const conn = ok(g.table.accept(handle));
  assert.deepEqual(g.table.remoteName(conn), peer.remote);
  assert.equal(g.table.receive(conn, [new Uint8Array(1)]), -WASI.EAGAIN, 'accepted sockets inherit it');
  assert.equal(g.table.receive(conn, [new Uint8Array(1)], 0, 0), -WASI.EAGAIN);
});

test('a connect that may not wait tells how it goes', () => {
  using g = guest();
  using peer = new Peer().listen();
  const handle = ok(g.table.open('tcp'));
  g.table.setNonBlocking(handle, true);
  assert.equal(g.table.connect(handle, peer.remote), -WASI.EINPROGRESS);
  until(() => g.table.connect(handle, peer.remote) === 0, 'connected');
  assert.equal(g.table.connect(handle, peer.remote), -WASI.EISCONN);
});

test('a refused connect says so, and the socket can be used again', () => {
  using g = guest();
  using peer = new Peer().listen();
  const nobody = at(ownAddress(), peer.port);
  const handle = ok(g.table.open('tcp'));
  assert.equal(g.table.connect(handle, nobody), -WASI.ECONNREFUSED);
  assert.equal(g.table.connect(handle, peer.remote), 0);
  const lazy = ok(g.table.open('tcp'));
  g.table.setNonBlocking(lazy, true);
  assert.equal(g.table.connect(lazy, nobody), -WASI.EINPROGRESS);
  until(() => {
    const result = g.table.send(lazy, [text('x')]);
    assert.ok(result === -WASI.EAGAIN || result === -WASI.ECONNREFUSED);
    return result === -WASI.ECONNREFUSED;
  }, 'the refusal');
  assert.equal(g.table.send(lazy, [text('x')]), -WASI.ENOTCONN, 'told once');
});

test('shutdown ends one direction', () => {
  using g = guest();
  const { handle, port } = listener(g);
  using peer = new Peer().connect(at(g.address, port));
  const conn = ok(g.table.accept(handle));
  assert.equal(g.table.shutdown(conn, 0), -WASI.EINVAL);
  assert.equal(g.table.shutdown(conn, SHUT.WRITE), 0);
  assert.equal(g.table.send(conn, [text('x')]), -WASI.EPIPE);
  assert.equal(peer.readOnce(), 0);
  peer.send(text('still'));
  assert.deepEqual(recv(g.table, conn, 9), text('still'));
  assert.equal(g.table.shutdown(conn, SHUT.READ), 0);
  assert.equal(g.table.receive(conn, [new Uint8Array(4)]), 0, 'does not wait any more');
  assert.equal(g.table.shutdown(handle, SHUT.READ), -WASI.ENOTCONN);
});

test('a reset is told once, after what came before it', () => {
  using g = guest();
  const { handle, port } = listener(g);
  const first = new Peer().connect(at(g.address, port));
  const conn = ok(g.table.accept(handle));
  first.send(text('last words'));
  first.reset();
  assert.deepEqual(recv(g.table, conn, 20), text('last words'));
  assert.equal(g.table.receive(conn, [new Uint8Array(4)]), -WASI.ECONNRESET);
  assert.equal(g.table.receive(conn, [new Uint8Array(4)]), 0);
  assert.equal(g.table.send(conn, [text('x')]), -WASI.EPIPE);
  assert.equal(g.table.remoteName(conn), -WASI.ENOTCONN);
});

test('a reset behind bytes that fill a buffer is told by the next call, though this one had another buffer', () => {
  using g = guest();
  const { handle, port } = listener(g);
  const first = new Peer().connect(at(g.address, port));
  const conn = ok(g.table.accept(handle));
  first.send(text('exact'));
  until(() => native.sockInQueue(streamOf(conn).fd as SocketFd) === 5, 'arrived');
  first.reset();
  assert.equal(g.table.receive(conn, [new Uint8Array(5), new Uint8Array(5)]), 5);
  assert.equal(g.table.receive(conn, [new Uint8Array(5)]), -WASI.ECONNRESET);
  assert.equal(g.table.receive(conn, [new Uint8Array(5)]), 0);
});

test('a socket whose reading is shut down has no news for a drain', () => {
  using g = guest();
  const { handle, port } = listener(g);
  using peer = new Peer().connect(at(g.address, port));
  const conn = ok(g.table.accept(handle));
  peer.send(text('held'));
  until(() => native.sockInQueue(streamOf(conn).fd as SocketFd) === 4, 'arrived');
  assert.equal(g.table.shutdown(conn, SHUT.READ), 0);
  const stream = streamOf(conn);
  assert.deepEqual(
    [1, 2].map(() => stream.drain(new Uint8Array(64))),
    [true, false],
  );
});

test('a reset that a write finds leaves what can be read', () => {
  using g = guest();
  const { handle, port } = listener(g);
  const first = new Peer().connect(at(g.address, port));
  const conn = ok(g.table.accept(handle));
  first.send(text('unread'));
  until(() => native.sockInQueue(streamOf(conn).fd as SocketFd) === 6, 'arrived');
  first.reset();
  assert.equal(g.table.send(conn, [text('x')]), -WASI.ECONNRESET);
  assert.equal(g.table.send(conn, [text('x')]), -WASI.EPIPE);
  assert.deepEqual(recv(g.table, conn, 20), text('unread'));
  assert.equal(g.table.receive(conn, [new Uint8Array(4)]), 0);
});

test('the guest keeps its own view of SO_REUSEADDR', () => {
  using g = guest();
  const { handle, port } = listener(g);
  assert.equal(g.table.getOption(handle, 'reuseAddr'), 0);
  using peer = new Peer().connect(at(g.address, port));
  const conn = ok(g.table.accept(handle));
  assert.deepEqual(g.table.remoteName(conn), peer.remote);
  g.table.close(handle);
  const again = ok(g.table.open('tcp'));
  assert.equal(g.table.bind(again, at(g.address, port)), -WASI.EADDRINUSE, 'as a kernel would, by the connection');
  g.table.setOption(conn, 'reuseAddr', 1);
  assert.equal(g.table.setOption(again, 'reuseAddr', 1), 0);
  assert.equal(g.table.bind(again, at(g.address, port)), 0);
  assert.equal(g.table.listen(again, 4), 0);
  assert.equal(g.table.getOption(again, 'reuseAddr'), 1);
  const third = ok(g.table.open('tcp'));
  g.table.setOption(third, 'reuseAddr', 1);
  assert.equal(g.table.bind(third, at(g.address, port)), -WASI.EADDRINUSE, 'never beside a listener');
});

test('options reach the kernel and are read back', () => {
  using g = guest();
  const tcp = ok(g.table.open('tcp'));
  assert.equal(g.table.setOption(tcp, 'noDelay', 7), 0);
  assert.equal(g.table.getOption(tcp, 'noDelay'), 1);
  assert.equal(g.table.setOption(tcp, 'keepIdle', 30), 0);
  assert.equal(g.table.getOption(tcp, 'keepIdle'), 30);
  assert.equal(g.table.setOption(tcp, 'keepIdle', 0), -WASI.EINVAL);
  assert.equal(g.table.setOption(tcp, 'sendBuffer', 20_000), 0);
  assert.equal(g.table.getOption(tcp, 'sendBuffer'), 40_000, 'Linux doubles it');
  assert.equal(g.table.setOption(tcp, 'multicastLoop', 0), -WASI.ENOPROTOOPT);
  assert.equal(g.table.getOption(ok(g.table.open('udp')), 'noDelay'), -WASI.ENOPROTOOPT);
});

test('S22: urgent bytes stay in the stream of every connection', () => {
  const SO_OOBINLINE = 10;
  using g = guest();
  const { handle, port } = listener(g);
  using _ = new Peer().connect(at(g.address, port));
  using server = new Peer().listen();
  const connected = ok(g.table.open('tcp'));
  assert.equal(g.table.connect(connected, server.remote), 0);
  for (const conn of [ok(g.table.accept(handle)), connected]) {
    const { fd } = streamOf(conn);
    assert.equal(native.sockGetInt(fd as SocketFd, 1, SO_OOBINLINE), 1);
  }
});

test('a guest that is not on loopback does not reach the host there', () => {
  using g = guest(0x64400001 as never);
  const handle = ok(g.table.open('tcp'));
  assert.equal(g.table.connect(handle, at(0x7f000001 as never, 22)), -WASI.ECONNREFUSED);
  assert.equal(g.table.connect(handle, at(0 as never, 22)), -WASI.ECONNREFUSED);
});

test('closing leaves no descriptor open', () => {
  const before = openFds();
  {
    using g = guest();
    const { handle, port } = listener(g);
    using peer = new Peer().connect(at(g.address, port));
    using server = new Peer().listen();
    const conn = ok(g.table.accept(handle));
    const out = ok(g.table.open('tcp'));
    good(g.table.connect(out, server.remote));
    g.table.close(out);
    g.table.close(conn);
    peer.reset();
    ok(g.table.open('udp'));
  }
  assert.equal(openFds(), before);
});

test('a long answer goes through whole while the peer reads', () => {
  using g = guest();
  const { handle, port } = listener(g);
  using peer = new Peer().connect(at(g.address, port));
  const conn = ok(g.table.accept(handle));
  const request = pattern(0, 3_000_000);
  let done = 0;
  let got = 0;
  g.table.setNonBlocking(conn, true);
  while (got < request.length) {
    if (done < request.length)
      done += good(native.sockSend(peer.fd, request, done, request.length - done, NO_WAKE, 1000));
    got += recvAll(g.table, conn, Math.min(done - got, 200_000)).length;
  }
  assert.equal(streamOf(conn).received, request.length);
  assert.equal(native.sockTcpState(peer.fd), TCP_STATE.ESTABLISHED);
});
