import assert from 'node:assert/strict';
import { test } from 'node:test';
import { NO_WAKE, TCP_STATE, native } from '../../../src/native.ts';
import type { SocketFd } from '../../../src/native.ts';
import { WASI } from '../../../src/wasi-sock/errno.ts';
import { pollRequest } from '../../../src/wasi-sock/poll.ts';
import type { FlowReport } from '../../../src/wasi-sock/save.ts';
import { SHUT } from '../../../src/wasi-sock/tcp.ts';
import {
  Peer,
  at,
  flow,
  good,
  guest,
  listener,
  ok,
  openFds,
  ownAddress,
  pattern,
  recvAll,
  streamOf,
  text,
  until,
} from './support.ts';

import { accepted, carried, move, same } from './moving.ts';
test('S4 S6: bytes the kernel has acknowledged are in the image, once, and come before new ones', () => {
  using g = guest();
  const { port, conn, peer } = accepted(g);
  using _ = peer;
  const data = pattern(0, 300_000);
  peer.send(data.subarray(0, 100_000));
  assert.deepEqual(recvAll(g.table, conn, 1000), data.subarray(0, 1000));
  until(() => native.sockInQueue(streamOf(conn).fd as SocketFd) === 99_000, 'all arrived');
  const [reported] = g.table.drain().connections;
  assert.equal(reported?.received, 100_000);
  const reports = [flow(g.address, port, peer, { acked: 0, received: 100_000 })];
  move(g, peer, reports, () => reports);
  peer.accept();
  g.table.release();
  peer.send(data.subarray(100_000));
  assert.deepEqual(recvAll(g.table, same(g, conn), 299_000), data.subarray(1000));
  assert.equal(streamOf(same(g, conn)).received, 300_000);
});

test('S2 S3 S47: what the peer has not acknowledged is written again, from its ACK on, before anything new', () => {
  using g = guest();
  const { port, conn, peer } = accepted(g, 4096);
  using _ = peer;
  g.table.setNonBlocking(conn, true);
  const data = pattern(0, 8 << 20);
  let written = 0;
  for (let n = 1; n > 0; written += Math.max(0, n)) n = g.table.send(conn, [data.subarray(written)]);
  peer.readTo(10_000);
  const atExport = peer.read.length;
  const drained = g.table.drain();
  assert.equal(drained.connections[0]?.written, written);
  const report = (acked: number) => [flow(g.address, port, peer, { acked, received: 0 })];
  move(g, peer, report(atExport), () => report(peer.read.length));
  peer.accept();
  const acked = peer.read.length;
  assert.ok(acked >= atExport && acked < written, 'something is left to be sent again');
  const stream = streamOf(same(g, conn));
  assert.equal(stream.tail.start, acked);
  assert.equal(native.sockOutQueue(stream.fd as SocketFd), 0, 'nothing is written before release');
  g.table.release();
  const more = g.table.send(same(g, conn), [data.subarray(written, written + 1000)]);
  assert.equal(more, stream.hasBacklog || more < 0 ? -WASI.EAGAIN : 1000, 'new bytes wait behind the tail');
  const total = written + Math.max(0, more);
  while (peer.read.length < total) {
    peer.readOnce();
    g.table.sweep();
  }
  assert.deepEqual(Uint8Array.from(peer.read), data.subarray(0, total));
  assert.ok(!stream.hasBacklog);
});

test('a blocking write waits behind the tail of a restore', () => {
  using g = guest();
  const { port, conn, peer } = accepted(g);
  using _ = peer;
  const data = pattern(0, 50_000);
  g.table.send(conn, [data.subarray(0, 40_000)]);
  g.table.drain();
  // As if nothing had been acknowledged.
  const reports = [flow(g.address, port, peer, { acked: 0, received: 0 })];
  const saved = { ...g.table.save(reports) };
  const tail = saved.sockets.find((s) => s.id === conn.id);
  assert.ok(tail?.kind === 'tcp' && tail.state.name === 'connected');
  const all = { ...tail.state.stream, tailOffset: 0, tail: data.slice(0, 40_000) };
  const sockets = saved.sockets.map((s) => (s.id === conn.id ? { ...tail, state: { ...tail.state, stream: all } } : s));
  peer.reset();
  peer.listen();
  peer.read.length = 0;
  g.move(carried({ ...saved, sockets }), reports);
  peer.accept();
  g.table.release();
  assert.equal(g.table.send(same(g, conn), [data.subarray(40_000)]), 10_000);
  peer.readTo(50_000);
  assert.deepEqual(Uint8Array.from(peer.read), data);
});

test('S14: accepted connections are opened again from the port of the listener, which listens beside them', () => {
  using g = guest();
  const { handle, port } = listener(g);
  const peers = Array.from({ length: 8 }, () => new Peer().connect(at(g.address, port)));
  const conns = peers.map(() => ok(g.table.accept(handle)));
  const peerOf = conns.map((conn) => peers.find((peer) => peer.port === streamOf(conn).remote.port));
  g.table.drain();
  const reports = peers.map((peer) => flow(g.address, port, peer, { acked: 0, received: 0 }));
  const saved = carried(g.table.save(reports));
  g.table.destroy();
  for (const peer of peers) {
    peer.reset();
    peer.listen();
  }
  g.move(saved, reports);
  g.table.release();
  for (const peer of peers) assert.deepEqual(peer.accept(), at(g.address, port));
  conns.forEach((conn, i) => {
    g.table.send(same(g, conn), [text(`number ${i}`)]);
    const peer = peerOf[i];
    peer?.readTo(8);
    assert.deepEqual(Uint8Array.from(peer?.read ?? []), text(`number ${i}`));
  });
  using fresh = new Peer().connect(at(g.address, port));
  assert.deepEqual(g.table.remoteName(ok(g.table.accept(same(g, handle)))), fresh.remote);
  for (const peer of peers) peer[Symbol.dispose]();
});

test('S15: connections that wait at a listener move, and are accepted in their order', () => {
  using g = guest();
  const { handle, port } = listener(g);
  using first = new Peer().connect(at(g.address, port));
  using second = new Peer().connect(at(g.address, port));
  first.send(text('early'));
  until(() => g.table.poll([pollRequest(handle, 'read')], 0) === 1, 'pending');
  const { connections } = g.table.drain();
  assert.deepEqual(
    connections.map(({ remote, received }) => [remote.port, received]),
    [
      [first.port, 5],
      [second.port, 0],
    ],
  );
  const reports = [
    flow(g.address, port, first, { acked: 0, received: 5 }),
    flow(g.address, port, second, { acked: 0, received: 0 }),
  ];
  const saved = carried(g.table.save(reports));
  g.table.destroy();
  for (const peer of [first, second]) {
    peer.reset();
    peer.listen();
  }
  g.move(saved, reports);
  g.table.release();
  assert.equal(g.table.poll([pollRequest(same(g, handle), 'read')], 0), 1);
  const a = ok(g.table.accept(same(g, handle)));
  assert.deepEqual(g.table.remoteName(a), first.remote);
  assert.deepEqual(recvAll(g.table, a, 5), text('early'));
  assert.deepEqual(g.table.remoteName(ok(g.table.accept(same(g, handle)))), second.remote);
});

test('S15: a connect that nobody has answered is begun anew from its port', () => {
  using g = guest();
  // A listener whose queue is full answers no SYN: as slow a peer as can be.
  const address = ownAddress();
  const full = native.sockOpen(true) as SocketFd;
  good(native.sockBind(full, address, 0));
  good(native.sockListen(full, 0));
  const name = new Uint32Array(2);
  native.sockLocal(full, name);
  const remote = at(address, name[1] ?? 0);
  const filler = native.sockOpen(true) as SocketFd;
  native.sockConnectStart(filler, remote.address, remote.port);
  good(native.sockConnectWait(filler, NO_WAKE, 1000));
  const handle = ok(g.table.open('tcp'));
  g.table.setNonBlocking(handle, true);
  assert.equal(g.table.connect(handle, remote), -WASI.EINPROGRESS);
  const local = g.table.localName(handle);
  const { connections } = g.table.drain();
  assert.equal(connections.length, 1);
  assert.deepEqual([connections[0]?.received, connections[0]?.written], [0, 0]);
  const report = { ...connections[0], acked: 0, received: 0, finAcked: false } as FlowReport;
  const saved = carried(g.table.save([report]));
  g.move(saved, [report]);
  assert.deepEqual(g.table.localName(same(g, handle)), local);
  assert.equal(g.table.connect(same(g, handle), remote), -WASI.EALREADY);
  // Now there is room: the SYN that is repeated gets an answer.
  const taken = good(native.sockAccept(full, NO_WAKE, 1000, name)) as SocketFd;
  until(() => g.table.connect(same(g, handle), remote) === 0, 'connected');
  for (const fd of [full, filler, taken]) native.fdClose(fd);
});

test('a connect that was there at the cut is told so, though its call was interrupted', () => {
  using g = guest();
  using peer = new Peer().listen();
  const handle = ok(g.table.open('tcp'));
  g.table.setNonBlocking(handle, true);
  assert.equal(g.table.connect(handle, peer.remote), -WASI.EINPROGRESS);
  const from = peer.accept();
  const { connections } = g.table.drain();
  const report = { ...connections[0], acked: 0, received: 0, finAcked: false } as FlowReport;
  const saved = carried(g.table.save([report]));
  g.table.destroy();
  g.move(saved, [report]);
  assert.deepEqual(peer.accept(), from);
  assert.equal(g.table.connect(same(g, handle), peer.remote), 0);
  assert.equal(g.table.connect(same(g, handle), peer.remote), -WASI.EISCONN);
});

test('S36 S37: the peer had ended its half: the guest reads to the end and still answers', () => {
  using g = guest();
  const { port, conn, peer } = accepted(g);
  using _ = peer;
  peer.send(text('question'));
  peer.shutdown();
  until(() => native.sockTcpState(streamOf(conn).fd as SocketFd) === TCP_STATE.CLOSE_WAIT, 'FIN');
  assert.equal(g.table.drain().connections[0]?.received, 8, 'a FIN is no byte');
  const reports = [flow(g.address, port, peer, { acked: 0, received: 8 })];
  move(g, peer, reports, () => reports);
  peer.accept();
  peer.shutdown();
  g.table.release();
  assert.deepEqual(recvAll(g.table, same(g, conn), 100), text('question'));
  assert.equal(g.table.send(same(g, conn), [text('answer')]), 6);
  g.table.close(same(g, conn));
  assert.equal(peer.readAll(), 0);
  assert.deepEqual(Uint8Array.from(peer.read), text('answer'));
});

test('S36: the guest had ended its half: the FIN follows the tail, and it reads on', () => {
  using g = guest();
  const { port, conn, peer } = accepted(g);
  using _ = peer;
  g.table.send(conn, [text('all I have')]);
  assert.equal(g.table.shutdown(conn, SHUT.WRITE), 0);
  const { connections } = g.table.drain();
  assert.equal(connections[0]?.written, 10);
  const reports = () => [flow(g.address, port, peer, { acked: 4, received: 0 })];
  const saved = g.table.save([flow(g.address, port, peer, { acked: 4, received: 0 })]);
  const socket = saved.sockets.find((s) => s.id === conn.id);
  assert.ok(socket?.kind === 'tcp' && socket.state.name === 'connected' && socket.state.stream.writingEnded);
  // The kernel of this test has had its ACK; the wire of a gateway may not.
  const stream = { ...socket.state.stream, tailOffset: 4, tail: text(' I have'.slice(1)).slice(0, 6) };
  const sockets = saved.sockets.map((s) => (s.id === conn.id ? { ...socket, state: { ...socket.state, stream } } : s));
  g.table.destroy();
  peer.readTo(4);
  peer.reset();
  peer.read.length = 4;
  peer.listen();
  g.move(carried({ ...saved, sockets }), reports());
  peer.accept();
  assert.equal(native.sockRecv(peer.fd, new Uint8Array(9), 0, 9, true, NO_WAKE, 0), -11, 'no FIN before release');
  g.table.release();
  assert.equal(peer.readAll(), 0);
  assert.equal(peer.read.length, 10);
  peer.send(text('thanks'));
  assert.deepEqual(recvAll(g.table, same(g, conn), 6), text('thanks'));
  assert.equal(g.table.send(same(g, conn), [text('x')]), -WASI.EPIPE);
});

test('S36: both halves have ended: no kernel socket, only what is left to be read', () => {
  using g = guest();
  const { port, conn, peer } = accepted(g);
  using _ = peer;
  peer.send(text('unread'));
  peer.shutdown();
  g.table.shutdown(conn, SHUT.WRITE);
  assert.equal(peer.readOnce(), 0);
  until(() => native.sockInQueue(streamOf(conn).fd as SocketFd) === 6, 'arrived');
  until(() => native.sockOutQueue(streamOf(conn).fd as SocketFd) === 0, 'FIN acknowledged');
  g.table.drain();
  const reports = [flow(g.address, port, peer, { acked: 0, received: 6, finAcked: true })];
  const saved = carried(g.table.save(reports));
  const before = openFds();
  g.move(saved, reports);
  assert.equal(openFds(), before);
  assert.equal(streamOf(same(g, conn)).fd, undefined);
  assert.deepEqual(recvAll(g.table, same(g, conn), 99), text('unread'));
  assert.equal(g.table.send(same(g, conn), [text('x')]), -WASI.EPIPE);
  assert.equal(g.table.close(same(g, conn)), 0);
});

test('S49: a connection the guest has closed moves with its bytes and its FIN', () => {
  using g = guest();
  const { port, conn, peer } = accepted(g, 4096);
  using _ = peer;
  g.table.setNonBlocking(conn, true);
  const data = pattern(0, 8 << 20);
  let written = 0;
  for (let n = 1; n > 0; written += Math.max(0, n)) n = g.table.send(conn, [data.subarray(written)]);
  g.table.close(conn);
  assert.equal(g.table.sweep(), 1);
  const { connections } = g.table.drain();
  assert.deepEqual(connections[0]?.lingering, true);
  assert.equal(connections[0].written, written);
  const report = (acked: number) => [flow(g.address, port, peer, { acked, received: 0 })];
  move(g, peer, report(0), () => report(peer.read.length));
  peer.accept();
  assert.ok(peer.read.length < written);
  g.table.release();
  assert.equal(g.table.sweep(), 1);
  for (let n = 1; n > 0; g.table.sweep()) n = peer.readOnce();
  assert.deepEqual(Uint8Array.from(peer.read), data.subarray(0, written));
  peer.shutdown();
  until(() => g.table.sweep() === 0, 'nothing lingers');
});

test('a connection the guest has closed, with data coming in at the cut, ends with a RST', () => {
  using g = guest();
  const { port, conn, peer } = accepted(g);
  using _ = peer;
  g.table.close(conn);
  assert.equal(g.table.sweep(), 1);
  peer.send(text('too late'));
  until(() => g.table.drain().connections[0]?.received === 8, 'drained');
  const reports = [flow(g.address, port, peer, { acked: 0, received: 8, finAcked: true })];
  move(g, peer, reports, () => reports);
  peer.accept();
  g.table.release();
  g.table.sweep();
  assert.equal(peer.readOnce(), -104);
});

test('a connection moves twenty times, bytes in both directions', () => {
  using g = guest();
  const { port, conn, peer } = accepted(g);
  using _ = peer;
  const data = pattern(0, 200_000);
  let received = 0;
  const got: number[] = [];
  for (let round = 0; round < 20; round += 1) {
    peer.send(data.subarray(received, received + 5000));
    received += 5000;
    g.table.send(same(g, conn), [data.subarray(round * 3000, round * 3000 + 3000)]);
    if (round % 2 === 0) got.push(...recvAll(g.table, same(g, conn), 3000));
    until(() => g.table.drain().connections[0]?.received === received, 'all drained');
    const reports = (acked: number) => [flow(g.address, port, peer, { acked, received })];
    const old = peer.read.length;
    move(g, peer, reports(old), () => reports(peer.read.length));
    peer.accept();
    g.table.release();
  }
  got.push(...recvAll(g.table, same(g, conn), received - got.length));
  peer.readTo(60_000);
  assert.deepEqual(Uint8Array.from(got), data.subarray(0, received));
  assert.deepEqual(Uint8Array.from(peer.read), data.subarray(0, 60_000));
});
