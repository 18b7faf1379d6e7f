/** The socket file of the admin API: who may have it, and what is left of one. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { groupId, listenPrivately, prepareSocket, probeSocket } from '../../../src/gateway/admin/socket.ts';

describe('the socket file', () => {
  let directory: string;
  before(() => {
    directory = mkdtempSync(join(tmpdir(), 'kedge-socket-'));
  });
  after(() => rmSync(directory, { recursive: true }));

  test('free, in use, stale, something else', async () => {
    const path = join(directory, 'deeper', 'gw.sock');
    assert.equal(await probeSocket(path), 'free');
    prepareSocket(path);
    assert.equal(await probeSocket(path), 'free');

    const server = createServer();
    await listenPrivately(path, 0o660, undefined, async () => {
      server.listen(path);
      await once(server, 'listening');
      assert.equal(statSync(path).mode & 0o777, 0);
    });
    assert.equal(statSync(path).mode & 0o777, 0o660);
    await assert.rejects(probeSocket(path), { code: 'KEDGE_GATEWAY_RUNNING' });

    // What a killed process leaves: a socket nobody listens at. Closing would remove it.
    const stale = join(directory, 'stale.sock');
    await listenOnce(stale);
    assert.equal(await probeSocket(stale), 'stale');
    prepareSocket(stale);
    assert.equal(existsSync(stale), false);

    const file = join(directory, 'file');
    writeFileSync(file, 'mine');
    await assert.rejects(probeSocket(file), { code: 'KEDGE_SOCKET_PATH', message: /is no socket/ });
    assert.equal(statSync(file).size, 4);
    server.close();
  });

  test('a folder nobody may write to', () => {
    const under = join(directory, 'file2');
    writeFileSync(under, '');
    chmodSync(under, 0o400);
    assert.throws(() => prepareSocket(join(under, 'x', 'gw.sock')), { code: 'KEDGE_SOCKET_PATH' });
  });

  test('groups by name and number', () => {
    assert.equal(groupId('123'), 123);
    assert.equal(groupId('root'), 0);
    for (const none of ['4294967295', '99999999999'])
      assert.throws(() => groupId(none), { code: 'KEDGE_CONFIG_VALUE' });
    assert.throws(() => groupId('no-such-group'), { code: 'KEDGE_CONFIG_VALUE', message: /socket_group/ });
  });
});

/** Leaves the socket of a process that is gone. */
async function listenOnce(path: string): Promise<void> {
  const script = `require('net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 'SIGKILL'))`;
  await once(spawn(process.execPath, ['-e', script]), 'exit');
}
