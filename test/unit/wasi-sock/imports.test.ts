import assert from 'node:assert/strict';
import { test } from 'node:test';
import { native } from '../../../src/native.ts';
import { parseIpv4 } from '../../../src/rewrite/numbers.ts';
import { WASI } from '../../../src/wasi-sock/errno.ts';
import { Program } from './program.ts';
import { Peer, at, guest, ownAddress, text, until } from './support.ts';

/** Names and signatures as WAMR registers them (`libc_wasi_wrapper.c`). */
const WAMR: Readonly<Record<string, string>> = {
  sock_accept: '(ii*)i',
  sock_addr_local: '(i*)i',
  sock_addr_remote: '(i*)i',
  sock_addr_resolve: '($$**i*)i',
  sock_bind: '(i*)i',
  sock_close: '(i)i',
  sock_connect: '(i*)i',
  sock_get_broadcast: '(i*)i',
  sock_get_keep_alive: '(i*)i',
  sock_get_linger: '(i**)i',
  sock_get_recv_buf_size: '(i*)i',
  sock_get_recv_timeout: '(i*)i',
  sock_get_reuse_addr: '(i*)i',
  sock_get_reuse_port: '(i*)i',
  sock_get_send_buf_size: '(i*)i',
  sock_get_send_timeout: '(i*)i',
  sock_get_tcp_fastopen_connect: '(i*)i',
  sock_get_tcp_keep_idle: '(i*)i',
  sock_get_tcp_keep_intvl: '(i*)i',
  sock_get_tcp_no_delay: '(i*)i',
  sock_get_tcp_quick_ack: '(i*)i',
  sock_get_ip_multicast_loop: '(ii*)i',
  sock_get_ip_multicast_ttl: '(i*)i',
  sock_get_ip_ttl: '(i*)i',
  sock_get_ipv6_only: '(i*)i',
  sock_listen: '(ii)i',
  sock_open: '(iii*)i',
  sock_recv: '(i*ii**)i',
  sock_recv_from: '(i*ii**)i',
  sock_send: '(i*ii*)i',
  sock_send_to: '(i*ii**)i',
  sock_set_broadcast: '(ii)i',
  sock_set_keep_alive: '(ii)i',
  sock_set_linger: '(iii)i',
  sock_set_recv_buf_size: '(ii)i',
  sock_set_recv_timeout: '(iI)i',
  sock_set_reuse_addr: '(ii)i',
  sock_set_reuse_port: '(ii)i',
  sock_set_send_buf_size: '(ii)i',
  sock_set_send_timeout: '(iI)i',
  sock_set_tcp_fastopen_connect: '(ii)i',
  sock_set_tcp_keep_idle: '(ii)i',
  sock_set_tcp_keep_intvl: '(ii)i',
  sock_set_tcp_no_delay: '(ii)i',
  sock_set_tcp_quick_ack: '(ii)i',
  sock_set_ip_multicast_loop: '(iii)i',
  sock_set_ip_multicast_ttl: '(ii)i',
  sock_set_ip_add_membership: '(i*i)i',
  sock_set_ip_drop_membership: '(i*i)i',
  sock_set_ip_ttl: '(ii)i',
  sock_set_ipv6_only: '(ii)i',
  sock_shutdown: '(ii)i',
};

test('all 52 functions of WAMR are there, with its signatures', () => {
  using g = guest();
  const { functions } = new Program(g);
  const ours = Object.fromEntries(Object.entries(functions).map(([name, { signature }]) => [name, signature]));
  assert.deepEqual(ours, WAMR);
  assert.equal(Object.keys(ours).length, 52);
});

test('a server in the guest: open, bind, listen, accept, recv, send, shutdown', () => {
  using g = guest();
  const p = new Program(g);
  const fd = p.open(1);
  p.putAddress(100, 0, 0);
  assert.equal(p.call('sock_bind', fd, 100), 0);
  assert.equal(p.call('sock_listen', fd, 8), 0);
  assert.equal(p.call('sock_addr_local', fd, 100), 0);
  assert.equal(p.u32(100), 0);
  assert.equal(p.view.getUint32(104), g.address, 'bytes in network order');
  const port = p.view.getUint16(108, true);
  using peer = new Peer().connect(at(g.address, port));
  assert.equal(p.call('sock_accept', fd, 0, 8), 0);
  const conn = p.u32(8);
  assert.equal(p.call('sock_addr_remote', conn, 200), 0);
  assert.deepEqual([p.view.getUint32(204), p.view.getUint16(208, true)], [peer.address, peer.port]);
  peer.send(text('ping'));
  p.putVector(300, 400, 16);
  assert.equal(p.call('sock_recv', conn, 300, 1, 0, 8, 12), 0);
  assert.equal(p.u32(8), 4);
  assert.deepEqual(p.memory.subarray(400, 404), text('ping'));
  p.putVector(300, 400, 4);
  assert.equal(p.call('sock_send', conn, 300, 1, 0, 8), 0);
  assert.equal(p.u32(8), 4);
  peer.readTo(4);
  assert.equal(p.call('sock_shutdown', conn, 2), 0);
  assert.equal(peer.readOnce(), 0);
  assert.equal(p.call('sock_close', conn), WASI.ENOSYS);
});

test('accept with NONBLOCK gives a socket that does not wait', () => {
  using g = guest();
  const p = new Program(g);
  const fd = p.open(1);
  assert.equal(p.call('sock_listen', fd, 8), 0);
  p.call('sock_addr_local', fd, 100);
  using peer = new Peer().connect(at(g.address, p.view.getUint16(108, true)));
  assert.equal(p.call('sock_accept', fd, 4, 8), 0);
  p.putVector(300, 400, 4);
  assert.equal(p.call('sock_recv', p.u32(8), 300, 1, 0, 8, 12), WASI.EAGAIN);
  assert.ok(peer.port > 0);
});

test('datagrams: send_to and recv_from', () => {
  using g = guest();
  const p = new Program(g);
  const [a, b] = [p.open(0), p.open(0)];
  p.putAddress(100, 0, 0);
  assert.equal(p.call('sock_bind', b, 100), 0);
  p.call('sock_addr_local', b, 100);
  p.memory.set(text('datagram'), 400);
  p.putVector(300, 400, 8);
  assert.equal(p.call('sock_send_to', a, 300, 1, 0, 100, 8), 0);
  p.putVector(300, 500, 4);
  assert.equal(p.call('sock_recv', b, 300, 1, 1, 8, 12), 0, 'peek');
  assert.equal(p.view.getUint16(12, true), 1, 'cut');
  p.putVector(300, 500, 64);
  assert.equal(p.call('sock_recv_from', b, 300, 1, 0, 200, 8), 0);
  assert.equal(p.u32(8), 8);
  assert.deepEqual(p.memory.subarray(500, 508), text('datagram'));
  p.call('sock_addr_local', a, 100);
  assert.deepEqual(p.memory.subarray(200, 224), p.memory.subarray(100, 124));
});

test('what is not there is refused by a number', () => {
  using g = guest();
  const p = new Program(g);
  assert.equal(p.call('sock_open', 0, 1, 1, 8), WASI.EAFNOSUPPORT);
  assert.equal(p.call('sock_open', 0, 0, 7, 8), WASI.EPROTONOSUPPORT);
  const fd = p.open(1);
  p.view.setUint32(100, 1, true);
  assert.equal(p.call('sock_bind', fd, 100), WASI.EAFNOSUPPORT);
  p.view.setUint32(100, 5, true);
  assert.equal(p.call('sock_connect', fd, 100), WASI.EINVAL);
  assert.equal(p.call('sock_listen', 0, 1), WASI.ENOTSOCK);
  assert.equal(p.call('sock_listen', 77, 1), WASI.EBADF);
  assert.equal(p.call('sock_bind', fd, 65_536 - 23), WASI.EFAULT);
  assert.equal(p.call('sock_bind', fd, -4), WASI.EFAULT);
  p.putVector(300, 65_000, 1000);
  assert.equal(p.call('sock_recv', fd, 300, 1, 0, 8, 12), WASI.EFAULT);
  assert.equal(p.call('sock_recv', fd, 65_000, 68, 0, 8, 12), WASI.EFAULT);
  assert.equal(p.call('sock_recv', fd, 300, -1, 0, 8, 12), WASI.EINVAL);
  assert.equal(p.call('sock_send', fd, 300, 0, 1, 8), WASI.ENOTSUP);
  assert.equal(p.call('sock_addr_remote', fd, 100), WASI.ENOTCONN);
  p.limit = p.descriptors.length;
  const before = g.table.handles().length;
  assert.equal(p.call('sock_open', 0, 0, 1, 8), WASI.EMFILE);
  assert.equal(g.table.handles().length, before, 'the socket is closed again');
});

test('options are set and read in their sizes', () => {
  using g = guest();
  const p = new Program(g);
  const [tcp, udp] = [p.open(1), p.open(0)];
  const get8 = (name: string, fd: number): number => {
    p.memory.fill(0xee, 600, 616);
    assert.equal(p.call(name, fd, 600), 0, name);
    assert.equal(p.memory[601], 0xee, `${name} writes one byte`);
    return p.memory[600] ?? -1;
  };
  for (const name of ['keep_alive', 'reuse_addr', 'reuse_port', 'tcp_no_delay', 'tcp_quick_ack']) {
    for (const on of [1, 0]) {
      assert.equal(p.call(`sock_set_${name}`, tcp, on), 0, name);
      assert.equal(get8(`sock_get_${name}`, tcp), on, name);
    }
  }
  assert.equal(p.call('sock_set_ip_ttl', tcp, 33), 0);
  assert.equal(get8('sock_get_ip_ttl', tcp), 33);
  assert.equal(p.call('sock_set_ip_multicast_ttl', udp, 5), 0);
  assert.equal(get8('sock_get_ip_multicast_ttl', udp), 5);
  assert.equal(p.call('sock_set_broadcast', udp, 1), 0);
  assert.equal(get8('sock_get_broadcast', udp), 1);
  assert.equal(p.call('sock_set_ip_multicast_loop', udp, 0, 0), 0);
  assert.equal(p.call('sock_get_ip_multicast_loop', udp, 0, 600), 0);
  assert.equal(p.memory[600], 0);
  assert.equal(p.call('sock_get_ip_multicast_loop', udp, 1, 600), WASI.EAFNOSUPPORT);
  assert.equal(p.call('sock_set_tcp_keep_idle', tcp, 77), 0);
  assert.equal(p.call('sock_get_tcp_keep_idle', tcp, 600), 0);
  assert.equal(p.u32(600), 77);
  p.memory.fill(0xee, 600, 616);
  assert.equal(p.call('sock_get_recv_buf_size', tcp, 600), 0);
  assert.ok(p.u32(600) > 1000);
  assert.equal(p.memory[604], 0xee, 'four bytes, as the header says');
  assert.equal(p.call('sock_set_recv_timeout', tcp, 1_500_000n), 0);
  assert.equal(p.call('sock_get_recv_timeout', tcp, 600), 0);
  assert.equal(p.view.getBigUint64(600, true), 1_500_000n);
  assert.equal(p.call('sock_set_linger', tcp, 1, 4), 0);
  assert.equal(p.call('sock_get_linger', tcp, 600, 604), 0);
  assert.deepEqual([p.memory[600], p.u32(604)], [1, 4]);
  assert.equal(p.call('sock_set_linger', tcp, 1, -1), WASI.EINVAL);
  assert.equal(p.call('sock_set_tcp_fastopen_connect', tcp, 1), WASI.ENOTSUP);
  assert.equal(p.call('sock_set_tcp_fastopen_connect', tcp, 0), 0);
  assert.equal(get8('sock_get_tcp_fastopen_connect', tcp), 0);
  assert.equal(p.call('sock_set_ipv6_only', tcp, 1), WASI.EAFNOSUPPORT);
  p.putAddress(100, 0xe0000001, 0);
  assert.equal(p.call('sock_set_ip_add_membership', udp, 100, 0), WASI.ENOTSUP);
  p.view.setUint32(100, 1, true);
  assert.equal(p.call('sock_set_ip_drop_membership', udp, 100, 0), WASI.EAFNOSUPPORT);
  assert.equal(p.call('sock_set_tcp_no_delay', udp, 1), WASI.ENOPROTOOPT);
});

test('names: numeric addresses, the hosts table, and nothing else', () => {
  using g = guest();
  const p = new Program(g);
  const resolve = (host: string, service: string, hints: number, room: number): number => {
    p.memory.set(text(`${host}\0`), 1000);
    p.memory.set(text(`${service}\0`), 1100);
    return p.call('sock_addr_resolve', 1000, 1100, hints, 1200, room, 8);
  };
  assert.equal(resolve('192.0.2.7', '80', 0, 0), 0, 'no room is no division by zero');
  assert.equal(p.u32(8), 2);
  assert.equal(resolve('192.0.2.7', '80', 0, 2), 0);
  assert.equal(p.view.getUint32(1204), parseIpv4('192.0.2.7'));
  assert.equal(p.view.getUint16(1208, true), 80);
  assert.deepEqual([p.view.getInt32(1224, true), p.view.getInt32(1252, true)], [1, 0]);
  p.view.setInt32(1300, 0, true);
  p.view.setInt32(1304, 2, true);
  p.view.setUint8(1308, 1);
  assert.equal(resolve('DB', '', 1300, 8), 0);
  assert.equal(p.u32(8), 1);
  assert.equal(p.view.getUint32(1204), 0x0a000001);
  assert.equal(resolve('localhost', '7', 1300, 1), 0);
  assert.equal(p.view.getUint32(1204), g.address);
  assert.equal(resolve('unknown.example', '80', 0, 1), WASI.ENOENT);
  assert.equal(resolve('db', 'http', 0, 1), WASI.ENOENT);
  p.view.setInt32(1304, 1, true);
  assert.equal(resolve('db', '80', 1300, 1), WASI.EAFNOSUPPORT);
  p.memory.fill(1, 65_000);
  assert.equal(p.call('sock_addr_resolve', 65_000, 1100, 0, 1200, 1, 8), WASI.EFAULT);
});

test('an interrupted call suspends, and issued again waits only for what was left', () => {
  using g = guest();
  const p = new Program(g);
  const fd = p.open(1);
  assert.equal(p.call('sock_listen', fd, 8), 0);
  assert.equal(p.call('sock_set_recv_timeout', fd, 60_000_000n), 0);
  native.wakeSignal(g.wake);
  assert.equal(p.call('sock_accept', fd, 0, 8), 0);
  assert.ok(p.context.suspended);
  native.wakeClear(g.wake);
  const left = p.context.pending;
  assert.ok(typeof left === 'number' && left > 50_000 && left <= 60_000);
  p.context.pending = 15;
  const began = performance.now();
  assert.equal(p.again('sock_accept', fd, 0, 8), WASI.EAGAIN);
  assert.ok(performance.now() - began < 5000);
  assert.ok(!p.context.suspended);
  assert.equal(p.call('sock_set_recv_timeout', fd, 0n), 0);
  native.wakeSignal(g.wake);
  p.call('sock_accept', fd, 0, 8);
  native.wakeClear(g.wake);
  assert.equal(p.context.pending, -1, 'for ever');
});

test('a connect that failed can be asked for', () => {
  using g = guest();
  const p = new Program(g);
  const fd = p.open(1);
  const handle = p.descriptors[fd];
  assert.ok(typeof handle === 'object');
  g.table.setNonBlocking(handle, true);
  p.putAddress(100, ownAddress(), 9);
  assert.equal(p.call('sock_connect', fd, 100), WASI.EINPROGRESS);
  until(() => p.call('sock_connect', fd, 100) === WASI.ECONNREFUSED, 'refused');
});
