import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { linkSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import type { KedgeError } from '../../../src/errors.ts';
import { expect, readRequest } from '../../../src/migrate/protocol.ts';
import { MOVE_VERSION } from '../../../src/migrate/stages.ts';
import type { Frame } from '../../../src/migrate/transport.ts';
import { unixTransport } from '../../../src/migrate/transport.ts';
import { Hosts } from './agents.ts';

test('a bare number is the path of a socket, not a port that anybody may connect to', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'kedge-transport-'));
  const home = process.cwd();
  process.chdir(directory);
  try {
    const listener = await unixTransport.listen('8099', (link) => link.close());
    assert.deepEqual(readdirSync('.'), ['8099']);
    (await unixTransport.connect('8099')).close();
    await assert.rejects(
      unixTransport.listen('8099', (link) => link.close()),
      { code: 'KEDGE_AGENT_RUNNING' },
    );
    await listener.close();
    assert.deepEqual(readdirSync('.'), []);
    await assert.rejects(unixTransport.connect('8099'), { code: 'KEDGE_AGENT_UNREACHABLE' });
  } finally {
    process.chdir(home);
    rmSync(directory, { recursive: true });
  }
});

test('of several agents that start at a socket which one that was killed left, one listens', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'kedge-transport-'));
  const left = join(directory, 'left.sock');
  const killed = `net.createServer().listen(${JSON.stringify(left)}, () => process.kill(process.pid, 'SIGKILL'))`;
  spawnSync(process.execPath, ['-e', killed]);
  try {
    for (let round = 0; round < 50; round += 1) {
      const target = join(directory, 'agent.sock');
      linkSync(left, target);
      const greeted: number[] = [];
      const starts = await Promise.allSettled(
        [0, 1, 2].map((number) =>
          unixTransport.listen(target, (link) => {
            greeted.push(number);
            link.close();
          }),
        ),
      );
      const refused = starts.flatMap((start) => (start.status === 'rejected' ? [start.reason as KedgeError] : []));
      assert.deepEqual(
        refused.map(({ code }) => code),
        ['KEDGE_AGENT_RUNNING', 'KEDGE_AGENT_RUNNING'],
      );
      const link = await unixTransport.connect(target);
      assert.equal(await link.receive(), undefined);
      assert.equal(starts[greeted.at(-1) ?? -1]?.status, 'fulfilled');
      link.close();
      for (const start of starts) if (start.status === 'fulfilled') await start.value.close();
      assert.deepEqual(readdirSync(directory), ['left.sock']);
    }
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test('a path that no socket can have is refused', async () => {
  for (const path of ['', `/${'x'.repeat(107)}`]) {
    const refused = { code: 'KEDGE_SOCKET_PATH', message: /1 to 107 bytes/ };
    await assert.rejects(unixTransport.connect(path), refused);
    await assert.rejects(
      unixTransport.listen(path, (link) => link.close()),
      refused,
    );
  }
});

test('requests are checked, and what is wrong is named', () => {
  assert.deepEqual(readRequest({ type: 'list' }), { type: 'list' });
  for (const [request, words] of [
    [{}, /nothing known/],
    ['list', /nothing known/],
    [{ type: 'toString' }, /no request is called toString/],
    [{ type: 'logs', name: 'x' }, /logs.*follow/],
    [{ type: 'migrate', name: 1, to: '/x' }, /migrate\/name/],
    [{ type: 'run', spec: { publish: [{ proto: 'tcp', outsidePort: 0, guestPort: 1 }] } }, /run\/spec/],
  ] as const) {
    assert.throws(() => readRequest(request), { code: 'KEDGE_AGENT_PROTOCOL', message: words });
  }
});

describe('a link', () => {
  let hosts: Hosts;
  before(async () => {
    hosts = await Hosts.start();
  });
  after(() => hosts[Symbol.asyncDispose]());

  test('carries records and payloads of any size, in order', async () => {
    const path = hosts.gateway.path('echo.sock');
    const listener = await unixTransport.listen(path, (link) => {
      void (async () => {
        for (let frame = await link.receive(); frame !== undefined; frame = await link.receive()) {
          await link.send(frame.message, [frame.payload]);
        }
      })();
    });
    const link = await unixTransport.connect(path);
    const payloads = [0, 1, 65_536, 5_000_000].map((size) => Buffer.alloc(size, size % 251));
    const sent = payloads.map((payload, n) => link.send({ n, big: 2n ** 63n }, [payload, payload]));
    for (const [n, payload] of payloads.entries()) {
      const frame = await link.receive();
      assert.deepEqual(frame?.message, { n, big: 2n ** 63n });
      assert.equal(Buffer.compare(frame.payload, Buffer.concat([payload, payload])), 0);
    }
    await Promise.all(sent);
    link.close();
    await listener.close();
  });

  test('reads a payload where it is; when that fails, nothing else is taken for the rest of it', async () => {
    const path = hosts.gateway.path('pieces.sock');
    const received: Frame[] = [];
    const ended = Promise.withResolvers<unknown>();
    const listener = await unixTransport.listen(path, (link) => {
      void (async () => {
        for (let frame = await link.receive(); frame !== undefined; frame = await link.receive()) received.push(frame);
      })().then(ended.resolve, ended.resolve);
    });
    const link = await unixTransport.connect(path);
    /** The same buffer again and again, as whoever lends memory does. */
    async function* pieces(good: number): AsyncGenerator<Uint8Array> {
      const piece = new Uint8Array(1_000_000);
      for (let n = 1; n <= 3; n += 1) {
        if (n > good) throw new Error('gone');
        yield await Promise.resolve(piece.fill(n));
      }
    }
    const tail = new Uint8Array(10).fill(9);
    await link.send('whole', [{ length: 3_000_000, read: () => pieces(3) }, tail]);
    const broken = link.send('broken', [{ length: 3_000_000, read: () => pieces(2) }, tail]);
    const behind = link.send('behind');
    await assert.rejects(broken, /gone/);
    await assert.rejects(behind, { code: 'KEDGE_LINK_BROKEN' });
    assert.equal((await ended.promise) instanceof Error, true);
    assert.deepEqual(
      received.map(({ message }) => message),
      ['whole'],
    );
    const expected = Buffer.concat([...[1, 2, 3].map((n) => Buffer.alloc(1_000_000, n)), tail]);
    assert.equal(Buffer.compare(received[0]?.payload ?? tail, expected), 0);
    await listener.close();
  });

  test('waits with patience: what comes slowly is no stall, and what stalls is told to the other end', async () => {
    const path = hosts.gateway.path('slow.sock');
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(path, resolve));
    const accepted = once(server, 'connection') as Promise<[Socket]>;
    const link = await unixTransport.connect(path);
    const [socket] = await accepted;
    const frame = Buffer.alloc(12 + 1 + 200_000);
    frame.writeUInt32LE(1, 0);
    frame.writeBigUInt64LE(200_000n, 4);
    frame.writeUInt8(0xf6, 12);
    const received = link.receive(400);
    // Far longer in all than the patience, and never so long without a part.
    for (let at = 0; at < frame.length; at += 20_000) {
      socket.write(frame.subarray(at, at + 20_000));
      await setTimeout(80);
    }
    assert.equal((await received)?.payload.length, 200_000);
    await assert.rejects(link.receive(50), { code: 'KEDGE_LINK_BROKEN', message: /it sent nothing for 50 ms/ });
    await link.send({ type: 'still' });
    const [told] = (await once(socket, 'data')) as [Buffer];
    assert.ok(told.includes('still'));
    link.close();
    server.close();
  });

  test('its socket is for its owner only', () => {
    assert.equal(statSync(hosts.a.socket).mode & 0o777, 0o600);
  });

  test('bytes of no one do not end an agent', async () => {
    const huge = Buffer.alloc(12);
    huge.writeUInt32LE(0xffff_ffff, 0);
    const many = Buffer.alloc(12);
    many.writeBigUInt64LE(2n ** 60n, 4);
    const cut = Buffer.alloc(13);
    cut.writeUInt32LE(100, 0);
    const wrong = Buffer.alloc(16, 0xff);
    wrong.writeUInt32LE(4, 0);
    wrong.writeBigUInt64LE(0n, 4);
    // An array of ten million empty arrays.
    const bomb = Buffer.alloc(12 + 10_000_005, 0x80);
    bomb.writeUInt32LE(10_000_005, 0);
    bomb.writeBigUInt64LE(0n, 4);
    bomb.writeUInt8(0x9a, 12);
    bomb.writeUInt32BE(10_000_000, 13);
    for (const bytes of [huge, many, cut, wrong, bomb, Buffer.from('GET / HTTP/1.1\r\n\r\n'), Buffer.alloc(0)]) {
      const socket = connect(hosts.a.socket);
      await once(socket, 'connect');
      socket.on('error', () => undefined);
      socket.end(bytes);
      socket.resume();
      await once(socket, 'close');
      assert.deepEqual(await hosts.a.client.list(), []);
    }
  });

  test('an agent of another version is refused, and which one to update is said', async () => {
    const guest = {
      id: randomUUID(),
      name: 'newer',
      address: '127.77.0.1',
      epoch: 1,
      engine: 'v8',
      policy: 'loop',
      publish: [],
      dirs: [],
      env: {},
      moduleName: 'guest.wasm',
      moduleHash: '',
      args: [],
      startedAt: new Date(0).toISOString(),
    };
    for (const [version, older] of [
      [MOVE_VERSION + 1, 'target'],
      [MOVE_VERSION - 1, 'source'],
    ] as const) {
      const link = await unixTransport.connect(hosts.a.socket);
      await link.send({ type: 'receive', version, guest });
      await assert.rejects(expect(link, 'prepared'), {
        code: 'KEDGE_MOVE_VERSION',
        message: new RegExp(`source speaks version ${version} .*target version ${MOVE_VERSION}`, 'u'),
        hint: new RegExp(`update the older agent, the ${older}`, 'u'),
      });
      link.close();
    }
  });

  test('a second agent at one socket is refused', async () => {
    await assert.rejects(
      unixTransport.listen(hosts.a.socket, (link) => link.close()),
      { code: 'KEDGE_AGENT_RUNNING' },
    );
    await assert.rejects(
      unixTransport.listen('/nonexistent/x.sock', (link) => link.close()),
      { code: 'KEDGE_SOCKET_PATH' },
    );
  });
});
