import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync, readdirSync, readlinkSync } from 'node:fs';
import { connect } from 'node:net';
import { describe, test } from 'node:test';
import { accounted, closeLeft, createAccount } from '../../../src/guest/descriptors.ts';
import { encodeImage } from '../../../src/image/writer.ts';
import { failed, native } from '../../../src/native.ts';
import type { SocketFd } from '../../../src/native.ts';
import { partsAgain } from '../../support/parts.ts';
import { waitFor } from '../../support/wait.ts';
import { example, Hosts, spec } from '../migrate/agents.ts';

/** TCP sockets of this process that listen for a guest. */
function openSockets(): number {
  const inodes = new Set(
    readFileSync('/proc/self/net/tcp', 'utf8')
      .split('\n')
      .slice(1)
      .map((line) => line.trim().split(/\s+/))
      .filter((fields) => fields[3] === '0A')
      .map((fields) => `socket:[${fields[9]}]`),
  );
  return readdirSync('/proc/self/fd').filter((fd) => {
    try {
      return inodes.has(readlinkSync(`/proc/self/fd/${fd}`));
    } catch {
      return false;
    }
  }).length;
}

function opened(fd: number): SocketFd {
  assert.ok(fd >= 0);
  return fd as SocketFd;
}

test('what was opened and not closed is closed once', () => {
  const account = createAccount();
  const worker = accounted(native, account);
  const kept = [opened(worker.sockOpen(true)), opened(worker.sockOpen(false))];
  worker.fdClose(opened(worker.sockOpen(true)));
  assert.equal(closeLeft(native, account), 2);
  for (const fd of kept) assert.ok(failed(native.sockLocal(fd, new Uint32Array(2)) as never));
  assert.equal(closeLeft(native, account), 0);
});

describe('a worker that dies', () => {
  test('leaves no socket open', async () => {
    await using hosts = await Hosts.start();
    const { client } = hosts.a;
    const { address } = await client.run(spec({ name: 'chat' }), example('chat'));
    const reachable = async (at: string): Promise<boolean> => {
      const socket = connect(7001, at);
      const outcome = await Promise.race([
        once(socket, 'connect').then(() => true),
        once(socket, 'error').then(() => false),
      ]).catch(() => false);
      socket.destroy();
      return outcome;
    };
    await waitFor(() => reachable(address), { what: 'the guest to listen' });
    const parts: Uint8Array[] = [];
    await client.checkpoint('chat', false, async (chunks) => {
      for await (const chunk of chunks) parts.push(chunk);
    });
    const image = await partsAgain(Buffer.concat(parts));
    // Frames that lead nowhere: the listener is restored, then the thread dies when the guest is to go on.
    const { frames } = image;
    const forged = { ...image, frames: { ...frames, bytes: frames.bytes.slice(0, -8) } };
    const before = openSockets();
    // Whether the restore sees it depends on how quickly the thread dies.
    await hosts.b.client.restore(Buffer.concat(await encodeImage(forged)), { withoutFlows: true }).then(
      async ({ id }) => assert.match(JSON.stringify(await hosts.b.client.wait(id)), /crashed/),
      () => undefined,
    );
    await waitFor(() => openSockets() <= before, { what: 'its listener to be closed' });
  });
});
