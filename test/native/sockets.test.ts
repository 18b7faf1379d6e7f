import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { native, NO_WAKE, POLL, TCP_STATE, type SocketFd } from '../../src/native.ts';
import {
  close,
  connect,
  connected,
  datagrams,
  fails,
  listener,
  localName,
  LOOPBACK,
  ok,
  PATIENCE,
  text,
} from './support/sockets.ts';

const HELLO = new TextEncoder().encode('hello');

test('a connection carries bytes both ways, with peek, queues, names and states', () => {
  const { fd: listening, name } = listener();
  const client = connect(name);
  const peer = new Uint32Array(2);
  const server = ok(native.sockAccept(listening, NO_WAKE, PATIENCE, peer));
  assert.deepEqual([...peer], [LOOPBACK, localName(client).port]);
  const remote = new Uint32Array(2);
  assert.equal(native.sockRemote(client, remote), 0);
  assert.deepEqual([...remote], [name.address, name.port]);

  assert.equal(native.sockSend(client, HELLO, 1, 4, NO_WAKE, -1), 4);
  const buffer = new Uint8Array(16);
  assert.equal(native.sockRecv(server, buffer, 2, 2, true, NO_WAKE, -1), 2);
  assert.equal(text(buffer.subarray(2, 4)), 'el');
  assert.equal(native.sockInQueue(server), 4);
  assert.equal(native.sockRecv(server, buffer, 0, 16, false, NO_WAKE, -1), 4);
  assert.equal(text(buffer.subarray(0, 4)), 'ello');
  assert.equal(native.sockTcpState(server), TCP_STATE.ESTABLISHED);
  assert.equal(native.sockTcpState(listening), TCP_STATE.LISTEN);
  assert.equal(native.sockOutQueue(client), 0);

  assert.equal(native.sockShutdown(client, 1), 0);
  assert.equal(native.sockRecv(server, buffer, 0, 16, false, NO_WAKE, -1), 0);
  assert.equal(native.sockSetLinger(server, true, 0), 0);
  close(server);
  fails(native.sockRecv(client, buffer, 0, 16, false, NO_WAKE, PATIENCE), 'ECONNRESET');
  assert.equal(native.sockError(client), 0);
  close(client, listening);
});

test('datagrams, options and poll', () => {
  const one = datagrams();
  const two = datagrams();
  assert.equal(native.sockSendTo(one.fd, HELLO, 0, 5, two.name.address, two.name.port, NO_WAKE, -1), 5);
  const set = Int32Array.of(one.fd, POLL.IN | POLL.OUT, 0, two.fd, POLL.IN, 0);
  assert.equal(native.pollMany(set, 2, NO_WAKE, PATIENCE), 2);
  assert.deepEqual([set[2], set[5]], [POLL.OUT, POLL.IN]);
  const buffer = new Uint8Array(3);
  const from = new Uint32Array(2);
  assert.equal(native.sockRecvFrom(two.fd, buffer, 0, 3, false, NO_WAKE, -1, from), 3);
  assert.equal(text(buffer), 'hel');
  assert.deepEqual([...from], [LOOPBACK, one.name.port]);
  fails(native.sockRecvFrom(two.fd, buffer, 0, 3, false, NO_WAKE, 0.5, from), 'EAGAIN');

  assert.equal(native.sockSetInt(one.fd, 1, 2, 1), 0); // SOL_SOCKET, SO_REUSEADDR
  assert.equal(native.sockGetInt(one.fd, 1, 2), 1);
  fails(native.sockGetInt(one.fd, 1, 9999), 'ENOPROTOOPT');
  close(one.fd, two.fd);
});

test('data may lie in a SharedArrayBuffer, a Wasm memory, a part of a Buffer', () => {
  const { client, server } = connected();
  const shared = new Uint8Array(new SharedArrayBuffer(64), 7, 20);
  const memory = new Uint8Array(new WebAssembly.Memory({ initial: 1 }).buffer, 100, 20);
  const sharedMemory = new Uint8Array(new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true }).buffer);
  const pooled = Buffer.from('..hello..').subarray(2, 7);
  const onHeap = new Uint8Array(8);
  const names = new Uint32Array(new SharedArrayBuffer(16), 8);
  let source: Uint8Array = pooled;
  for (const target of [shared, memory, sharedMemory, onHeap]) {
    assert.equal(native.sockSend(client, source, 0, 5, NO_WAKE, -1), 5);
    assert.equal(native.sockRecv(server, target, 0, 5, false, NO_WAKE, PATIENCE), 5);
    assert.equal(text(target.subarray(0, 5)), 'hello');
    source = target;
  }
  assert.equal(new Uint8Array(shared.buffer)[7], HELLO[0]);
  assert.equal(native.sockLocal(client, names), 0);
  assert.equal(names[0], LOOPBACK);
  close(client, server);
});

test('a whole memory of a guest that has grown is seen at its new size', () => {
  const { client, server } = connected();
  const memory = new WebAssembly.Memory({ initial: 1 });
  memory.grow(1);
  assert.equal(native.sockSend(client, HELLO, 0, 5, NO_WAKE, -1), 5);
  const bytes = new Uint8Array(memory.buffer);
  assert.equal(native.sockRecv(server, bytes, 2 * 65_536 - 5, 5, false, NO_WAKE, PATIENCE), 5);
  assert.equal(text(bytes.subarray(-5)), 'hello');
  close(client, server);
});

test('windows that do not lie within their array are refused and nothing happens', () => {
  const { client, server } = connected();
  const odd = fc.oneof(
    fc.integer(),
    fc.double(),
    fc.constantFrom(NaN, Infinity, -Infinity, -0.5, 2 ** 31, 2 ** 32, 2 ** 53, 2 ** 64, Number.MAX_VALUE),
  );
  const fits = (offset: number, length: number): boolean =>
    Number.isInteger(offset) && Number.isInteger(length) && offset >= 0 && length >= 0 && offset + length <= 10;
  fc.assert(
    fc.property(odd, odd, (offset, length) => {
      fc.pre(!fits(offset, length));
      const data = new Uint8Array(10);
      fails(native.sockSend(client, data, offset, length, NO_WAKE, 0), 'EINVAL');
      fails(native.sockRecv(client, data, offset, length, false, NO_WAKE, 0), 'EINVAL');
      fails(native.sockSendTo(client, data, offset, length, LOOPBACK, 9, NO_WAKE, 0), 'EINVAL');
      fails(native.sockRecvFrom(client, data, offset, length, false, NO_WAKE, 0, new Uint32Array(2)), 'EINVAL');
    }),
    { numRuns: 500 },
  );
  assert.equal(native.sockInQueue(server), 0);
  close(client, server);
});

test('bad numbers are errors: ports, timeouts, counts, descriptors, short arrays', () => {
  const { client, server } = connected();
  const byte = new Uint8Array(1);
  fails(native.sockBind(client, LOOPBACK, 65_536), 'EINVAL');
  fails(native.sockConnectStart(client, LOOPBACK, -1), 'EINVAL');
  fails(native.sockRecv(client, byte, 0, 1, false, NO_WAKE, NaN), 'EINVAL');
  fails(native.sockAccept(client, NO_WAKE, 0, new Uint32Array(1)), 'EINVAL');
  fails(native.sockLocal(client, new Uint32Array(1)), 'EINVAL');
  fails(native.pollMany(new Int32Array(5), 2, NO_WAKE, 0), 'EINVAL');
  fails(native.pollMany(new Int32Array(5), -1, NO_WAKE, 0), 'EINVAL');
  fails(native.pollMany(new Int32Array(5), 2 ** 40, NO_WAKE, 0), 'EINVAL');
  for (const bad of [-1, NaN, 1.5, 2 ** 31, 2 ** 32, Infinity]) {
    // NaN must not be descriptor 0.
    fails(native.fdClose(bad as SocketFd), 'EBADF');
    fails(native.sockRecv(bad as SocketFd, byte, 0, 1, false, NO_WAKE, -1), 'EBADF');
  }
  close(client, server);
});

test('arguments of a wrong type throw and name what was expected', () => {
  const { client, server } = connected();
  const send = (...values: unknown[]): number => (native.sockSend as (...given: unknown[]) => number)(...values);
  const attempts: [unknown[], RegExp][] = [
    [[client, 'hello', 0, 5, -1, -1], /Uint8Array/],
    [[client, new Int8Array(5), 0, 5, -1, -1], /Uint8Array/],
    [[client, new ArrayBuffer(5), 0, 5, -1, -1], /Uint8Array/],
    [[client, null, 0, 5, -1, -1], /Uint8Array/],
    [['3', HELLO, 0, 5, -1, -1], /convert napi value String/],
    [[client, HELLO, 0, 5n, -1, -1], /convert napi value/],
    [[], /./],
  ];
  for (const [values, message] of attempts) assert.throws(() => send(...values), message);
  assert.throws(() => native.pollMany(new Uint32Array(3) as unknown as Int32Array, 1, NO_WAKE, 0), /Int32Array/);
  assert.equal(native.sockInQueue(server), 0);
  close(client, server);
});

test('a detached array is empty', () => {
  const { client, server } = connected();
  const data = new Uint8Array(16);
  structuredClone(data.buffer, { transfer: [data.buffer] });
  fails(native.sockSend(client, data, 0, 1, NO_WAKE, 0), 'EINVAL');
  assert.equal(native.sockSend(client, data, 0, 0, NO_WAKE, 0), 0);
  close(client, server);
});
