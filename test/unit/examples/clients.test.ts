import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { createServer as createHttpServer } from 'node:http';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { test } from 'node:test';
import { pattern, patternHash } from '../../support/stream.ts';
import { ExampleGuest, ownAddress, Peer } from './support.ts';

const TIMEOUT = { timeout: 60_000 };
const SIZE = 2_000_003;

/** A server on an address of its own; serves each connection with `serve`. */
async function listen(serve: (socket: Socket) => void): Promise<{ server: Server; address: string; port: string }> {
  const address = ownAddress().text;
  const server = createServer({ allowHalfOpen: true }, serve);
  await new Promise<void>((resolve) => server.listen(0, address, resolve));
  return { server, address, port: String((server.address() as AddressInfo).port) };
}

async function moveUntilEnd(guest: ExampleGuest): Promise<void> {
  let ended = false;
  void guest.ended.finally(() => (ended = true)).catch(() => {});
  while (!ended) {
    await Promise.race([guest.move().catch(() => {}), guest.ended]);
  }
}

test('fetch downloads over HTTP while it moves', TIMEOUT, async () => {
  const body = pattern(3, 0, SIZE);
  const server = createHttpServer((request, response) => {
    assert.equal(request.url, '/file');
    response.setHeader('Content-Length', body.length);
    response.end(body);
  });
  const address = ownAddress().text;
  await new Promise<void>((resolve) => server.listen(0, address, resolve));
  try {
    const port = String((server.address() as AddressInfo).port);
    await using guest = ExampleGuest.start('fetch', 'http', address, port, '--pause', '1', '/file');
    await moveUntilEnd(guest);
    assert.deepEqual(await guest.ended, { kind: 'exited', code: 0 });
    assert.match(guest.output, new RegExp(`HTTP/1.1 200 OK\nbytes ${SIZE} sha256 ${patternHash(3, SIZE)}\n$`, 'u'));
    assert.ok(guest.moves > 3, `${guest.moves} moves`);
  } finally {
    server.close();
  }
});

test('fetch speaks the stream protocol with a stream guest, both moving', TIMEOUT, async () => {
  await using stream = ExampleGuest.start('stream', '7000');
  await stream.until(() => stream.output.includes('listening'));
  const runs: readonly (readonly [string, RegExp])[] = [
    ['get', new RegExp(`bytes ${SIZE} sha256 ${patternHash(4, SIZE)}\n$`, 'u')],
    ['put', new RegExp(`OK ${SIZE} ${patternHash(4, SIZE)}\nbytes 0 sha256 e3b0c442`, 'u')],
    ['both', new RegExp(`OK ${SIZE} ${patternHash(5, SIZE)}\nbytes ${SIZE} sha256 ${patternHash(4, SIZE)}\n$`, 'u')],
  ];
  for (const [mode, expected] of runs) {
    await using guest = ExampleGuest.start('fetch', mode, stream.address, '7000', String(SIZE), '4');
    await Promise.all([moveUntilEnd(guest), stream.move()]);
    assert.deepEqual(await guest.ended, { kind: 'exited', code: 0 }, guest.output);
    assert.match(guest.output, expected);
  }
});

test('fetch sends a bare stream, and reads one', TIMEOUT, async () => {
  const hash = createHash('sha256');
  const { server, address, port } = await listen((socket) => {
    socket.on('data', (chunk) => hash.update(chunk));
    socket.on('end', () => socket.end('thank you'));
  });
  try {
    await using guest = ExampleGuest.start('fetch', 'send', address, port, String(SIZE), '6');
    await moveUntilEnd(guest);
    assert.deepEqual(await guest.ended, { kind: 'exited', code: 0 }, guest.output);
    assert.match(guest.output, /bytes 9 sha256/u);
    assert.equal(hash.digest('hex'), patternHash(6, SIZE));
  } finally {
    server.close();
  }
});

test('fetch says what went wrong', TIMEOUT, async () => {
  const { server, address, port } = await listen((socket) => socket.end(pattern(8, 0, 999)));
  try {
    const run = async (...args: readonly string[]): Promise<[unknown, string]> => {
      await using guest = ExampleGuest.start('fetch', ...args);
      return [await guest.ended, guest.output];
    };
    const [short, said] = await run('get', address, port, '1000', '8');
    assert.deepEqual(short, { kind: 'exited', code: 1 });
    assert.match(said, /failed: 999 of 1000 bytes/u);
    assert.match((await run('get', address, port, '999', '7'))[1], /failed: wrong byte at 0/u);
    assert.match((await run('http', address, port, '/'))[1], /failed: no HTTP response/u);
    assert.deepEqual((await run('nonsense'))[0], { kind: 'exited', code: 2 });
    server.close();
    const unused = ownAddress().text;
    assert.match((await run('raw', unused, '1'))[1], /failed: connect: /u);
  } finally {
    server.close();
  }
});

test('fetch idles, blocked in a receive, and still answers after moves', TIMEOUT, async () => {
  const connected = Promise.withResolvers<Peer>();
  const { server, address, port } = await listen((socket) => connected.resolve(new Peer(socket)));
  try {
    await using guest = ExampleGuest.start('fetch', 'idle', address, port);
    const peer = await connected.promise;
    assert.equal(await peer.line(), 'idle');
    for (let i = 1; i <= 5; i += 1) {
      await guest.move();
      await guest.move();
      await peer.write('ping\n');
      assert.equal(await peer.line(), `idle ${i}`);
    }
    peer.socket.end();
    assert.deepEqual(await guest.ended, { kind: 'exited', code: 0 });
  } finally {
    server.close();
  }
});

test('compute comes to the same result however often it moves', TIMEOUT, async () => {
  await using straight = ExampleGuest.start('compute', '3000000', '10');
  await straight.ended;
  await using moved = ExampleGuest.start('compute', '3000000', '10');
  await moveUntilEnd(moved);
  assert.equal(moved.output, straight.output);
  assert.match(moved.output, /step 10 [0-9a-f]{16}\nresult [0-9a-f]{16}\n$/u);
  assert.ok(moved.moves > 3, `${moved.moves} moves`);
});
