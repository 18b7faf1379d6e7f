import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { run } from '../support/process.ts';
import type { Opened } from './support/tun-open.ts';
import type { Report } from './support/tun-scenario.ts';

const SUPPORT = join(import.meta.dirname, 'support');
const NAMESPACE = ['unshare', '--net'];

async function open(names: string[], prefix: string[] = []): Promise<(Opened | null)[]> {
  const command = [...NAMESPACE, ...prefix, process.execPath, join(SUPPORT, 'tun-open.ts'), ...names];
  return JSON.parse(await run(command)) as (Opened | null)[];
}

test('UDP and TCP of the kernel cross two devices in a worker’s pump, TCP in super-packets', async () => {
  const command = [...NAMESPACE, process.execPath, join(SUPPORT, 'tun-scenario.ts')];
  const { udp, tcpEqual, tcpRemote, seen } = JSON.parse(await run(command, { timeout: 60_000 })) as Report;
  assert.deepEqual(udp, ['ahoy from 10.7.1.2', 'ahoy from 10.7.2.2']);
  assert.deepEqual(tcpEqual, [true, true]);
  assert.deepEqual(tcpRemote, ['10.7.1.2', '10.7.2.2']);
  assert.equal(seen.refused, 0, seen.lastErrno);
  assert.ok(
    seen.packets.every((count) => count > 100),
    `both devices: ${seen.packets.join(', ')}`,
  );
  assert.ok(seen.segmented > 100, `super-packets: ${seen.segmented}`);
  assert.ok(seen.unfinished >= seen.segmented, 'their checksums are unfinished');
  assert.ok(seen.longest > 30_000, `the longest: ${seen.longest}`);
  assert.ok(seen.largestBatch > 1, `the largest batch: ${seen.largestBatch}`);
});

test('a name in use, of another kind, too long: an error with what to do', async () => {
  const [first, again, loopback, long, empty] = await open(['t0', 't0', 'lo', 'a-name-of-16-byt', '']);
  assert.equal(first, null);
  assert.equal(again?.code, 'KEDGE_TUN_BUSY');
  assert.match(again.hint ?? '', /another process|another name/);
  assert.equal(loopback?.code, 'KEDGE_TUN_BUSY');
  assert.equal(long?.code, 'KEDGE_TUN_FAILED');
  assert.match(`${long.message} ${long.hint ?? ''}`, /a-name-of-16-byt.* too long .*15 bytes/);
  assert.equal(empty?.code, 'KEDGE_TUN_FAILED');
});

test('without CAP_NET_ADMIN the hint names it', async () => {
  const [error] = await open(['t0'], ['setpriv', '--bounding-set=-net_admin', '--inh-caps=-net_admin']);
  assert.equal(error?.code, 'KEDGE_TUN_PERMISSION');
  assert.match(error.hint ?? '', /CAP_NET_ADMIN/);
});

test('without /dev/net/tun the hint says how to get it', async () => {
  const hidden = ['unshare', '--mount', 'sh', '-c', 'mount -t tmpfs none /dev/net && exec "$@"', 'sh'];
  const [error] = await open(['t0'], hidden);
  assert.equal(error?.code, 'KEDGE_TUN_MISSING');
  assert.match(error.hint ?? '', /modprobe tun/);
});

test('a device made for a user needs no privilege to open', async () => {
  // Root makes it, then a process with no capability at all opens it.
  const script =
    'ip tuntap add dev t0 mode tun vnet_hdr user 0 && exec setpriv --bounding-set=-all --inh-caps=-all "$@"';
  assert.deepEqual(await open(['t0'], ['sh', '-c', script, 'sh']), [null]);
});
