import assert from 'node:assert/strict';
import { test } from 'node:test';
import { KedgeError } from '../../../src/errors.ts';
import { native } from '../../../src/native.ts';
import type { SocketFd } from '../../../src/native.ts';
import { WASI } from '../../../src/wasi-sock/errno.ts';
import type { FlowReport } from '../../../src/wasi-sock/save.ts';
import { Peer, at, flow, good, guest, listener, ok, openFds, recvAll, streamOf, text, until } from './support.ts';

import { accepted, carried, move, same } from './moving.ts';
test('S32: the gateway says that the peer has reset it: told after what came before, not at the move', () => {
  using g = guest();
  const { port, conn, peer } = accepted(g);
  using _ = peer;
  peer.send(text('bye'));
  until(() => native.sockInQueue(streamOf(conn).fd as SocketFd) === 3, 'arrived');
  g.table.drain();
  const reports = [flow(g.address, port, peer, { acked: 0, received: 3 })];
  const saved = carried(g.table.save(reports));
  g.move(saved, [flow(g.address, port, peer, { acked: 0, received: 3, reset: true })]);
  assert.deepEqual(recvAll(g.table, same(g, conn), 3), text('bye'));
  assert.equal(g.table.receive(same(g, conn), [new Uint8Array(1)]), -WASI.ECONNRESET);
  assert.equal(g.table.receive(same(g, conn), [new Uint8Array(1)]), 0);
});

test('a connection reset before the cut is remembered in the image', () => {
  using g = guest();
  const { conn, peer } = accepted(g);
  peer.send(text('bye'));
  peer.reset();
  until(() => g.table.drain().connections.length === 0, 'the RST');
  g.move(carried(g.table.save([])), []);
  assert.deepEqual(recvAll(g.table, same(g, conn), 3), text('bye'));
  assert.equal(g.table.receive(same(g, conn), [new Uint8Array(1)]), -WASI.ECONNRESET);
});

test('a peer that ends and then resets leaves no connection: its next one from the same port has the name alone', () => {
  using g = guest();
  const { handle, port, conn, peer } = accepted(g);
  peer.send(text('bye'));
  peer.shutdown();
  until(() => native.sockInQueue(streamOf(conn).fd as SocketFd) === 3, 'arrived');
  peer.reset();
  using again = peer.connect(at(g.address, port));
  again.send(text('here'));
  const next = ok(g.table.accept(handle));
  until(() => g.table.drain().connections[0]?.received === 4, 'drained');
  const { connections } = g.table.drain();
  assert.deepEqual(
    connections.map(({ remote, received }) => [remote.port, received]),
    [[again.port, 4]],
  );
  const reports = [flow(g.address, port, again, { acked: 0, received: 4 })];
  const saved = carried(g.table.save(reports));
  again.listen();
  g.move(saved, reports);
  again.accept();
  // The first one reads to its end, and writes to nobody.
  assert.deepEqual(recvAll(g.table, same(g, conn), 3), text('bye'));
  assert.equal(g.table.receive(same(g, conn), [new Uint8Array(1)]), 0);
  assert.equal(g.table.send(same(g, conn), [text('x')]), -WASI.EPIPE);
  assert.deepEqual(recvAll(g.table, same(g, next), 4), text('here'));
  g.table.release();
  assert.equal(g.table.send(same(g, next), [text('yes')]), 3);
  again.readTo(3);
});

test('the same of one whose end was read before it was reset', () => {
  using g = guest();
  const { conn, peer } = accepted(g);
  peer.shutdown();
  assert.equal(g.table.receive(conn, [new Uint8Array(1)]), 0);
  peer.reset();
  until(() => g.table.drain().connections.length === 0, 'the RST');
  g.table.thaw();
  assert.equal(g.table.receive(conn, [new Uint8Array(1)]), 0);
  assert.equal(g.table.send(conn, [text('x')]), -WASI.EPIPE);
});

test('S32: a connection whose peer resets it between attach and restore is told so; the others are restored', () => {
  using g = guest();
  const { handle, port, conn, peer } = accepted(g);
  using other = new Peer().connect(at(g.address, port));
  const kept = ok(g.table.accept(handle));
  peer.send(text('bye'));
  until(() => g.table.drain().connections.find(({ received }) => received === 3) !== undefined, 'drained');
  const reports = [
    flow(g.address, port, peer, { acked: 0, received: 3 }),
    flow(g.address, port, other, { acked: 0, received: 0 }),
  ];
  const saved = carried(g.table.save(reports));
  const before = openFds();
  // Nobody listens where the peer was: its kernel refuses, as the gateway does for it.
  peer.reset();
  other.listen();
  g.move(saved, reports);
  other.accept();
  assert.deepEqual(
    g.table.refused.map(({ local, remote }) => [local.port, remote.port]),
    [[port, peer.port]],
  );
  assert.equal(openFds(), before - 1, 'the peer has one less, the other one more, the guest one less');
  assert.deepEqual(recvAll(g.table, same(g, conn), 3), text('bye'));
  assert.equal(g.table.receive(same(g, conn), [new Uint8Array(1)]), -WASI.ECONNRESET);
  g.table.release();
  assert.equal(g.table.send(same(g, kept), [text('on')]), 2);
  other.readTo(2);
});

test('without flows connections are reset, listeners listen, bound sockets are bound', () => {
  using g = guest();
  const { handle, port, conn, peer } = accepted(g);
  using _ = peer;
  using waiting = new Peer().connect(at(g.address, port));
  const bound = ok(g.table.open('tcp'));
  assert.equal(g.table.bind(bound, at(g.address, 0)), 0);
  const name = g.table.localName(bound);
  peer.send(text('lost'));
  g.table.drain();
  const saved = carried(g.table.save([]));
  assert.ok(waiting.port > 0);
  g.move(saved, 'without-flows');
  assert.equal(g.table.receive(same(g, conn), [new Uint8Array(4)]), -WASI.ECONNRESET);
  assert.equal(g.table.receive(same(g, conn), [new Uint8Array(4)]), 0);
  assert.equal(g.table.send(same(g, conn), [text('x')]), -WASI.EPIPE);
  assert.deepEqual(g.table.localName(same(g, bound)), name);
  g.table.release();
  g.table.setNonBlocking(same(g, handle), true);
  assert.equal(g.table.accept(same(g, handle)), -WASI.EAGAIN);
  using fresh = new Peer().connect(at(g.address, port));
  assert.deepEqual(g.table.remoteName(ok(g.table.accept(same(g, handle)))), fresh.remote);
});

test('without flows the guest may have another address', () => {
  using g = guest();
  const { handle, port } = listener(g);
  g.table.drain();
  const saved = carried(g.table.save([]));
  using other = guest();
  assert.throws(() => other.move(saved, []), { code: 'KEDGE_RESTORE_ADDRESS' });
  other.move(saved, 'without-flows');
  assert.deepEqual(other.table.localName(same(other, handle)), at(other.address, port));
});

test('thaw: the same sockets go on, what was drained comes first', () => {
  using g = guest();
  const { conn, peer } = accepted(g);
  using _ = peer;
  peer.send(text('before '));
  until(() => g.table.drain().connections[0]?.received === 7, 'drained');
  g.table.save([]);
  g.table.thaw();
  peer.send(text('after'));
  assert.deepEqual(recvAll(g.table, conn, 12), text('before after'));
  g.table.send(conn, [text('ok')]);
  g.table.close(conn);
  assert.equal(peer.readAll(), 0, 'a FIN, not a RST: SO_LINGER is as it was');
});

test('S48: after a drain a socket ends by RST, whoever closes it', () => {
  using g = guest();
  const { conn, peer } = accepted(g);
  using _ = peer;
  g.table.drain();
  native.fdClose(streamOf(conn).fd as SocketFd);
  assert.equal(peer.readOnce(), -104);
  (conn.state as { name: string }).name = 'closed';
});

test('options are set again on the new socket', () => {
  using g = guest();
  const { port, conn, peer } = accepted(g);
  using _ = peer;
  g.table.setOption(conn, 'noDelay', 1);
  g.table.setOption(conn, 'keepAlive', 1);
  g.table.setOption(conn, 'keepIdle', 11);
  g.table.setOption(conn, 'receiveBuffer', 30_000);
  g.table.setLinger(conn, { on: true, seconds: 0 });
  conn.options.receiveTimeoutUs = 1234;
  g.table.drain();
  const reports = [flow(g.address, port, peer, { acked: 0, received: 0 })];
  move(g, peer, reports, () => reports);
  peer.accept();
  g.table.release();
  const moved = same(g, conn);
  assert.deepEqual(
    (['noDelay', 'keepAlive', 'keepIdle', 'receiveBuffer'] as const).map((name) => g.table.getOption(moved, name)),
    [1, 1, 11, 60_000],
  );
  assert.equal(moved.options.receiveTimeoutUs, 1234);
  g.table.close(moved);
  assert.equal(peer.readOnce(), -104, 'its SO_LINGER of 0 s resets');
});

test('a restore that fails says why and leaves nothing open', () => {
  using g = guest();
  const { port, conn, peer } = accepted(g);
  using _ = peer;
  g.table.drain();
  const reports = [flow(g.address, port, peer, { acked: 0, received: 0 })];
  const saved = carried(g.table.save(reports));
  g.table.destroy();
  peer.reset();
  let before = openFds();
  const fails = (code: string, attached: FlowReport[], mentions: RegExp, hint = /./u): void => {
    assert.throws(
      () => g.move(saved, attached),
      (error) =>
        error instanceof KedgeError &&
        error.code === code &&
        mentions.test(error.message) &&
        hint.test(error.hint ?? ''),
    );
    assert.equal(openFds(), before);
  };
  fails('KEDGE_FLOW_MISMATCH', [flow(g.address, port, peer, { acked: 0, received: 1 })], /0 bytes received/u);
  fails('KEDGE_FLOW_MISMATCH', [flow(g.address, port, peer, { acked: 7, received: 0 })], /7 acknowledged/u);
  // Somebody else has the port.
  const squatter = native.sockOpen(true) as SocketFd;
  good(native.sockBind(squatter, g.address, port));
  before = openFds();
  fails('KEDGE_RESTORE_BIND', reports, /EADDRINUSE/u, new RegExp(`a service of this host.*sport = :${port}`, 'u'));
  native.fdClose(squatter);
  assert.equal(conn.kind, 'tcp');
});

test('a restore is given up when its host is woken', () => {
  using g = guest();
  const { port, peer } = accepted(g);
  using _ = peer;
  g.table.drain();
  const reports = [flow(g.address, port, peer, { acked: 0, received: 0 })];
  const saved = carried(g.table.save(reports));
  g.table.destroy();
  peer.reset();
  peer.listen();
  native.wakeSignal(g.wake);
  assert.throws(() => g.move(saved, reports), { code: 'KEDGE_RESTORE_CONNECT', message: /interrupted/u });
});
