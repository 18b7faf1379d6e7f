import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { native } from '../../../src/native.ts';
import { INTERRUPTED, WASI } from '../../../src/wasi-sock/errno.ts';
import { pollRequest } from '../../../src/wasi-sock/poll.ts';
import { RECEIVE } from '../../../src/wasi-sock/tcp.ts';
import { Peer, at, flow, guest, listener, ok, openFds, pattern, recvAll, streamOf, text } from './support.ts';
import type { Guest } from './support.ts';

/**
 * Runs a call that waits for ever while another thread wakes it; the signal is taken back afterwards. `first`: a socket that must
 * have got bytes before.
 */
async function interrupted(g: Guest, call: () => unknown, first = -1): Promise<unknown> {
  const go = new Int32Array(new SharedArrayBuffer(4));
  const waker = new Worker(
    `const { workerData: { go, addon, fd, first } } = require('node:worker_threads');
     import(addon).then(({ sockInQueue, wakeSignal }) => {
       Atomics.store(go, 0, 1);
       Atomics.notify(go, 0);
       Atomics.wait(go, 0, 1);
       while (first >= 0 && sockInQueue(first) === 0) Atomics.wait(go, 0, 2, 1);
       wakeSignal(fd);
     });`,
    {
      eval: true,
      workerData: { go, first, fd: g.wake, addon: new URL('../../../native/index.js', import.meta.url).href },
    },
  );
  const ended = new Promise((resolve) => waker.once('exit', resolve));
  Atomics.wait(go, 0, 0);
  Atomics.store(go, 0, 2);
  Atomics.notify(go, 0);
  const result = call();
  await ended;
  native.wakeClear(g.wake);
  return result;
}

test('accept: the connection that comes later is still there', async () => {
  using g = guest();
  const { handle, port } = listener(g);
  const before = openFds();
  assert.equal(await interrupted(g, () => g.table.accept(handle)), INTERRUPTED);
  assert.equal(openFds(), before);
  using peer = new Peer().connect(at(g.address, port));
  assert.deepEqual(g.table.remoteName(ok(g.table.accept(handle))), peer.remote);
});

test('receive: no byte is lost, not even of a wait for all', async () => {
  using g = guest();
  const { handle, port } = listener(g);
  using peer = new Peer().connect(at(g.address, port));
  const conn = ok(g.table.accept(handle));
  const buffer = new Uint8Array(10);
  assert.equal(await interrupted(g, () => g.table.receive(conn, [buffer])), INTERRUPTED);
  peer.send(text('half '));
  assert.equal(await interrupted(g, () => g.table.receive(conn, [buffer], RECEIVE.WAIT_ALL)), INTERRUPTED);
  peer.send(text('whole'));
  assert.equal(g.table.receive(conn, [buffer], RECEIVE.WAIT_ALL), 10);
  assert.deepEqual(buffer, text('half whole'));
});

test('send: cut short it says how much was taken, and no byte is written twice', async () => {
  using g = guest();
  const { handle, port } = listener(g);
  using peer = new Peer().connect(at(g.address, port), 4096);
  const conn = ok(g.table.accept(handle));
  const data = pattern(0, 16 << 20);
  const first = await interrupted(g, () => g.table.send(conn, [data]), peer.fd);
  assert.ok(typeof first === 'number' && first > 0 && first < data.length);
  assert.equal(streamOf(conn).written, first);
  g.table.setNonBlocking(conn, true);
  let sent = first;
  for (let n = 1; n > 0; sent += Math.max(0, n)) n = g.table.send(conn, [data.subarray(sent)]);
  g.table.setNonBlocking(conn, false);
  // The kernel may have found room since: what it takes counts, until a call finds none.
  for (;;) {
    const more = await interrupted(g, () => g.table.send(conn, [data.subarray(sent)]));
    if (more === INTERRUPTED) break;
    assert.ok(typeof more === 'number' && more > 0 && sent + more < data.length);
    sent += more;
  }
  peer.readTo(sent);
  assert.deepEqual(Uint8Array.from(peer.read), data.subarray(0, sent));
});

test('connect: goes on, and its end is told when the call is issued again', () => {
  using g = guest();
  using peer = new Peer().listen();
  const handle = ok(g.table.open('tcp'));
  native.wakeSignal(g.wake);
  assert.equal(g.table.connect(handle, peer.remote), INTERRUPTED);
  native.wakeClear(g.wake);
  assert.deepEqual(peer.accept(), g.table.localName(handle));
  g.table.drain();
  g.table.thaw();
  assert.equal(g.table.connect(handle, peer.remote), 0);
});

test('connect: a failure is told too', () => {
  using g = guest();
  using peer = new Peer();
  const handle = ok(g.table.open('tcp'));
  native.wakeSignal(g.wake);
  assert.equal(g.table.connect(handle, at(peer.address, 9)), INTERRUPTED);
  g.table.drain();
  g.table.thaw();
  native.wakeClear(g.wake);
  assert.equal(g.table.connect(handle, at(peer.address, 9)), -WASI.ECONNREFUSED);
});

test('poll: what was ready stays ready', async () => {
  using g = guest();
  const { handle, port } = listener(g);
  using peer = new Peer().connect(at(g.address, port));
  const conn = ok(g.table.accept(handle));
  assert.equal(await interrupted(g, () => g.table.poll([pollRequest(conn, 'read')], -1)), INTERRUPTED);
  peer.send(text('x'));
  assert.equal(g.table.poll([pollRequest(conn, 'read')], 5000), 1);
});

test('poll and receive are interrupted too while other connections linger or are pumped', async () => {
  using g = guest();
  const { handle, port } = listener(g);
  using slow = new Peer().connect(at(g.address, port), 4096);
  const leaving = ok(g.table.accept(handle));
  g.table.setNonBlocking(leaving, true);
  const data = pattern(0, 1 << 20);
  while (g.table.send(leaving, [data]) > 0);
  g.table.close(leaving);
  assert.equal(g.table.sweep(), 1);
  using peer = new Peer().connect(at(g.address, port));
  const conn = ok(g.table.accept(handle));
  assert.equal(await interrupted(g, () => g.table.receive(conn, [new Uint8Array(1)])), INTERRUPTED);
  assert.equal(await interrupted(g, () => g.table.accept(handle)), INTERRUPTED);
  assert.equal(await interrupted(g, () => g.table.poll([pollRequest(conn, 'read')], -1)), INTERRUPTED);
  assert.ok(slow.port !== peer.port);
});

test('a read that is interrupted, moved and issued again loses nothing', () => {
  using g = guest();
  const { handle, port } = listener(g);
  using peer = new Peer().connect(at(g.address, port));
  const conn = ok(g.table.accept(handle));
  native.wakeSignal(g.wake);
  assert.equal(g.table.receive(conn, [new Uint8Array(4)]), INTERRUPTED);
  g.table.drain();
  const reports = [flow(g.address, port, peer, { acked: 0, received: 0 })];
  const saved = g.table.save(reports);
  native.wakeClear(g.wake);
  g.table.destroy();
  peer.reset();
  peer.listen();
  g.move(saved, reports);
  peer.accept();
  g.table.release();
  peer.send(text('here'));
  const again = g.table.handle(conn.id);
  assert.ok(again !== undefined);
  assert.deepEqual(recvAll(g.table, again, 4), text('here'));
});
