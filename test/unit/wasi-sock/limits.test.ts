/** Calls that ask for more than there is of something. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { WASI } from '../../../src/wasi-sock/errno.ts';
import { Program } from './program.ts';
import { Peer, at, guest } from './support.ts';

test('1024 buffers are taken, and 1025 are not', () => {
  using g = guest();
  const p = new Program(g);
  const fd = p.open(0);
  p.putAddress(65_000, g.address, 9);
  assert.equal(p.call('sock_send_to', fd, 0, 1024, 0, 65_000, 65_100), 0);
  assert.equal(p.call('sock_send_to', fd, 0, 1025, 0, 65_000, 65_100), WASI.EINVAL);
  assert.equal(p.call('sock_send', fd, 0, 1025, 0, 65_100), WASI.EINVAL);
  assert.equal(p.call('sock_recv', fd, 0, 1025, 0, 65_100, 65_104), WASI.EINVAL);
  assert.equal(p.call('sock_recv_from', fd, 0, 1025, 0, 65_000, 65_100), WASI.EINVAL);
});

test('a datagram has at most 65507 bytes, however many buffers overlap', () => {
  using g = guest();
  const p = new Program(g);
  const fd = p.open(0);
  p.putAddress(65_000, g.address, 9);
  p.putVector(300, 0, 65_507);
  assert.equal(p.call('sock_send_to', fd, 300, 1, 0, 65_000, 65_100), 0);
  p.putVector(300, 0, 65_508);
  assert.equal(p.call('sock_send_to', fd, 300, 1, 0, 65_000, 65_100), WASI.EMSGSIZE);
  for (let i = 0; i < 1024; i += 1) p.putVector(300 + 8 * i, 0, 65_536);
  assert.equal(p.call('sock_send_to', fd, 300, 1024, 0, 65_000, 65_100), WASI.EMSGSIZE);
});

test('a receive that waits for all waits for no more than the memory holds', () => {
  using g = guest();
  const p = new Program(g);
  const fd = p.open(1);
  assert.equal(p.call('sock_listen', fd, 8), 0);
  p.call('sock_addr_local', fd, 100);
  using peer = new Peer().connect(at(g.address, p.view.getUint16(108, true)));
  assert.equal(p.call('sock_accept', fd, 0, 8), 0);
  const conn = p.u32(8);
  peer.send(new Uint8Array(65_537));
  for (let i = 0; i < 3; i += 1) p.putVector(300 + 8 * i, 1024, 30_000);
  assert.equal(p.call('sock_recv', conn, 300, 3, 2, 8, 12), 0);
  assert.equal(p.u32(8), 65_536);
});

test('a name longer than any is of nobody', () => {
  using g = guest();
  const p = new Program(g);
  p.memory.fill(97, 1000, 60_000);
  assert.equal(p.call('sock_addr_resolve', 1000, 0, 0, 100, 1, 8), WASI.ENOENT);
});

test('a connection that there is no descriptor for stays in the queue', () => {
  using g = guest();
  const p = new Program(g);
  const fd = p.open(1);
  assert.equal(p.call('sock_listen', fd, 8), 0);
  p.call('sock_addr_local', fd, 100);
  const listener = p.descriptors[fd];
  assert.ok(listener !== undefined && listener !== 'file');
  g.table.setNonBlocking(listener, true);
  p.limit = p.descriptors.length;
  assert.equal(p.call('sock_accept', fd, 0, 8), WASI.EMFILE, 'even when nobody waits, as in Linux');
  using peer = new Peer().connect(at(g.address, p.view.getUint16(108, true)));
  assert.equal(p.call('sock_accept', fd, 0, 8), WASI.EMFILE);
  p.limit += 1;
  assert.equal(p.call('sock_accept', fd, 0, 8), 0);
  peer.send(Uint8Array.of(7));
  p.putVector(300, 400, 4);
  assert.equal(p.call('sock_recv', p.u32(8), 300, 1, 0, 8, 12), 0);
  assert.deepEqual([p.u32(8), p.memory[400]], [1, 7]);
});
