import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decode, encode } from 'cborg';
import { NO_WAKE, native } from '../../../src/native.ts';
import type { SocketFd } from '../../../src/native.ts';
import { socketAddress } from '../../../src/wasi-sock/address.ts';
import type { SocketAddress } from '../../../src/wasi-sock/address.ts';
import { WASI } from '../../../src/wasi-sock/errno.ts';
import { pollRequest } from '../../../src/wasi-sock/poll.ts';
import { RECEIVE, SHUT } from '../../../src/wasi-sock/tcp.ts';
import { at, good, guest, ok, ownAddress, text, until } from './support.ts';
import type { Guest } from './support.ts';

/** A UDP socket of the test. */
class Correspondent implements Disposable {
  readonly fd = native.sockOpen(false) as SocketFd;
  readonly name: SocketAddress;

  constructor() {
    good(native.sockBind(this.fd, ownAddress(), 0));
    const out = new Uint32Array(2);
    native.sockLocal(this.fd, out);
    this.name = socketAddress(out[0] ?? 0, out[1] ?? 0);
  }

  send(to: SocketAddress, message: string): void {
    const bytes = text(message);
    good(native.sockSendTo(this.fd, bytes, 0, bytes.length, to.address, to.port, NO_WAKE, 1000));
  }

  receive(): { message: string; from: SocketAddress } {
    const buffer = new Uint8Array(2000);
    const out = new Uint32Array(2);
    const n = good(native.sockRecvFrom(this.fd, buffer, 0, buffer.length, false, NO_WAKE, 1000, out));
    return { message: Buffer.from(buffer.subarray(0, n)).toString(), from: socketAddress(out[0] ?? 0, out[1] ?? 0) };
  }

  [Symbol.dispose](): void {
    native.fdClose(this.fd);
  }
}

function bound(g: Guest) {
  const handle = ok(g.table.open('udp'));
  assert.equal(g.table.bind(handle, at(g.address, 0)), 0);
  return { handle, name: g.table.localName(handle) };
}

test('datagrams go both ways, with their addresses', () => {
  using g = guest();
  using other = new Correspondent();
  const handle = ok(g.table.open('udp'));
  assert.equal(g.table.send(handle, [text('x')]), -WASI.EDESTADDRREQ);
  assert.equal(g.table.send(handle, [text('he'), text('llo')], other.name), 5);
  const { message, from } = other.receive();
  assert.equal(message, 'hello');
  assert.deepEqual(from, g.table.localName(handle));
  assert.equal(from.address, g.address, 'the guest address, without a bind');
  other.send(from, 'good day');
  const info = { from: other.name, truncated: false };
  const [a, b] = [new Uint8Array(4), new Uint8Array(2)];
  assert.equal(g.table.receive(handle, [a, b], RECEIVE.PEEK, 1000, info), 6);
  assert.ok(info.truncated);
  assert.equal(g.table.receive(handle, [a, b, new Uint8Array(10)], 0, 1000, info), 8);
  assert.deepEqual([a, info.truncated, info.from], [text('good'), false, other.name]);
  assert.equal(g.table.listen(handle, 1), -WASI.ENOTSUP);
  assert.equal(g.table.accept(handle), -WASI.ENOTSUP);
});

test('a connected socket hears its peer only', () => {
  using g = guest();
  using friend = new Correspondent();
  using stranger = new Correspondent();
  const { handle, name } = bound(g);
  assert.equal(g.table.shutdown(handle, SHUT.READ), -WASI.ENOTCONN);
  assert.equal(g.table.connect(handle, friend.name), 0);
  assert.deepEqual(g.table.remoteName(handle), friend.name);
  stranger.send(name, 'psst');
  friend.send(name, 'hi');
  const buffer = new Uint8Array(10);
  assert.equal(g.table.receive(handle, [buffer], 0, 1000), 2);
  assert.equal(g.table.receive(handle, [buffer], 0, 0), -WASI.EAGAIN);
  assert.equal(g.table.send(handle, [text('back')]), 4);
  assert.equal(friend.receive().message, 'back');
  assert.equal(g.table.shutdown(handle, SHUT.WRITE), 0);
  assert.equal(g.table.send(handle, [text('x')]), -WASI.EPIPE);
});

test('queued datagrams, port and peer move', () => {
  using g = guest();
  using other = new Correspondent();
  using friend = new Correspondent();
  const { handle, name } = bound(g);
  const linked = bound(g);
  assert.equal(g.table.connect(linked.handle, friend.name), 0);
  g.table.setOption(handle, 'broadcast', 1);
  other.send(name, 'one');
  other.send(name, '');
  other.send(name, 'three');
  const waiting = () => g.table.handle(handle.id)?.state;
  until(() => {
    assert.deepEqual(g.table.drain().connections, []);
    const state = waiting();
    return state !== undefined && 'queue' in state && state.queue.length === 3;
  }, 'three datagrams');
  g.move(decode(encode(g.table.save([]))), []);
  g.table.release();
  const moved = g.table.handle(handle.id);
  assert.ok(moved !== undefined);
  assert.deepEqual(g.table.localName(moved), name);
  assert.equal(g.table.getOption(moved, 'broadcast'), 1);
  assert.equal(g.table.poll([pollRequest(moved, 'read')], 0), 1);
  other.send(name, 'four');
  const buffer = new Uint8Array(10);
  const messages = ['one', '', 'three', 'four'].map(() => {
    const info = { from: name, truncated: false };
    const n = good(g.table.receive(moved, [buffer], 0, 1000, info));
    assert.deepEqual(info.from, other.name);
    return Buffer.from(buffer.subarray(0, n)).toString();
  });
  assert.deepEqual(messages, ['one', '', 'three', 'four']);
  const again = g.table.handle(linked.handle.id);
  assert.ok(again !== undefined);
  assert.equal(g.table.send(again, [text('still you')]), 9);
  assert.deepEqual(friend.receive(), { message: 'still you', from: linked.name });
});

test('a guest that reads nothing keeps no more than its receive buffer, the oldest, however often it is drained', () => {
  using g = guest();
  using other = new Correspondent();
  const { handle, name } = bound(g);
  assert.equal(g.table.setOption(handle, 'receiveBuffer', 4096), 0);
  const queue = (): readonly Uint8Array[] => {
    const state = g.table.handle(handle.id)?.state;
    return state !== undefined && 'queue' in state ? state.queue.map(({ bytes }) => bytes) : [];
  };
  const lengths: number[] = [];
  for (let round = 0; round < 5; round += 1) {
    for (let n = 0; n < 30; n += 1) other.send(name, `${round} ${n} ${'x'.repeat(200)}`);
    assert.deepEqual(g.table.drain().connections, []);
    lengths.push(queue().length);
    g.table.release();
  }
  assert.ok((lengths[0] ?? 0) > 2, String(lengths));
  const room = good(g.table.getOption(handle, 'receiveBuffer'));
  assert.ok((lengths.at(-1) ?? 0) * 200 < room, `${lengths.join(' ')} of ${room} bytes`);
  assert.equal(lengths.at(-1), lengths.at(-2), 'it grows no more');
  const first = queue().map((bytes) => Buffer.from(bytes).toString().split(' ', 2).join(' '));
  assert.deepEqual(
    first.slice(0, lengths[0]),
    Array.from({ length: lengths[0] ?? 0 }, (_, n) => `0 ${n}`),
  );
});

test('the error of an unreachable peer is told, and nothing else is lost', () => {
  using g = guest();
  const nobody = at(ownAddress(), 9);
  const { handle } = bound(g);
  assert.equal(g.table.connect(handle, nobody), 0);
  assert.equal(g.table.send(handle, [text('x')]), 1);
  assert.equal(g.table.receive(handle, [new Uint8Array(1)], 0, 1000), -WASI.ECONNREFUSED);
  assert.equal(g.table.receive(handle, [new Uint8Array(1)], 0, 0), -WASI.EAGAIN);
  assert.equal(g.table.send(handle, [new Uint8Array(65_535)]), -WASI.EMSGSIZE);
});
