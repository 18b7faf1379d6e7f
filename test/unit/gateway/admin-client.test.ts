/** The client of the admin API where no gateway answers, or something else does. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import type { Server, Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { GatewayClient } from '../../../src/gateway/admin/client.ts';
import { GUEST_ID } from './admin-fake.ts';

describe('a client without a gateway', () => {
  let directory: string;
  before(() => {
    directory = mkdtempSync(join(tmpdir(), 'kedge-client-'));
  });
  after(() => rmSync(directory, { recursive: true }));

  /** Answers every connection in its own way. */
  async function stand(name: string, answer: (socket: Socket) => void): Promise<[string, Server]> {
    const path = join(directory, name);
    const server = createServer((socket) => {
      socket.on('error', () => undefined);
      answer(socket);
    });
    server.listen(path);
    await once(server, 'listening');
    return [path, server];
  }

  test('nothing there', async () => {
    const path = join(directory, 'none');
    await assert.rejects(new GatewayClient(path).health(), {
      code: 'KEDGE_GATEWAY_UNREACHABLE',
      message: `cannot reach a gateway at ${path}: ENOENT`,
      hint: /gateway run --config/,
    });
  });

  test('no socket there', async () => {
    const path = join(directory, 'file');
    writeFileSync(path, '');
    await assert.rejects(new GatewayClient(path).health(), {
      code: 'KEDGE_GATEWAY_UNREACHABLE',
      message: /ECONNREFUSED/,
    });
  });

  test('an answer that never comes', async (t) => {
    const [path, server] = await stand('mute', () => undefined);
    t.after(() => server.close());
    const call = new GatewayClient(path, { timeoutMs: 50 }).commit(GUEST_ID, { epoch: 1 });
    await assert.rejects(call, { code: 'KEDGE_GATEWAY_TIMEOUT', message: /commit within 50 ms/ });
    server.close();
  });

  for (const [title, answer, code, verbCode = code] of [
    ['a connection that ends', '', 'KEDGE_GATEWAY_UNREACHABLE'],
    ['no HTTP', 'SSH-2.0-x\r\n', 'KEDGE_GATEWAY_PROTOCOL', 'KEDGE_GATEWAY_UNREACHABLE'],
    ['no JSON', 'HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi', 'KEDGE_GATEWAY_PROTOCOL'],
    ['JSON that is no object', 'HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n1', 'KEDGE_GATEWAY_PROTOCOL'],
    [
      'an error that is none of ours',
      'HTTP/1.1 502 X\r\ncontent-length: 15\r\n\r\n{"code":"NOPE"}',
      'KEDGE_GATEWAY_PROTOCOL',
    ],
    [
      'half an answer',
      'HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{"ok"',
      'KEDGE_GATEWAY_UNREACHABLE',
      'KEDGE_GATEWAY_PROTOCOL',
    ],
  ] as const) {
    test(title, async (t) => {
      const [path, server] = await stand(title.replaceAll(' ', '-'), (socket) => {
        socket.once('data', () => socket.end(answer));
      });
      t.after(() => server.close());
      await assert.rejects(new GatewayClient(path).health(), { code });
      // The verbs of a move go another way.
      await assert.rejects(new GatewayClient(path).abort(GUEST_ID, { epoch: 1 }), { code: verbCode });
    });
  }

  test('lines that are no answers', async (t) => {
    const upgraded = `HTTP/1.1 101 Switching Protocols\r\n\r\n`;
    for (const [name, lines] of [
      ['no-json', 'hello\n'],
      ['another-number', '{"n":7,"result":{}}\n'],
    ] as const) {
      const [path, server] = await stand(name, (socket) => {
        socket.once('data', () => socket.write(upgraded + lines));
      });
      t.after(() => server.close());
      await assert.rejects(new GatewayClient(path).abort(GUEST_ID, { epoch: 1 }), { code: 'KEDGE_GATEWAY_PROTOCOL' });
    }
  });
});
