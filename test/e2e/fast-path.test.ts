/**
 * The fast path as an operator sees it: what the kernel carries hardly passes the pump, nothing is lost when a guest moves out of
 * it under load, and what happens where it cannot be had.
 */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { after, before, describe, test } from 'node:test';
import { gatewayConfig } from '../support/gateway.ts';
import type { Flow, Gateway } from '../support/gateway.ts';
import { Hosts } from '../support/hosts.ts';
import type { MovingGuest } from '../support/hosts.ts';
import { PeerDriver } from '../support/peer-driver.ts';
import type { DrivenConnection } from '../support/peer-driver.ts';
import { patternHash } from '../support/stream.ts';
import { ADDRESSES, PROJECT, Topology } from '../support/topology.ts';
import { waitFor } from '../support/wait.ts';

const COMMAND = `${PROJECT}/bin/gateway`;
/** Bytes of a long stream, and the pace at which it lasts long enough to be looked at, bytes per second. */
const SIZE = 24_000_000;
const PACE = 4_000_000;
/** As a process that may do all but load BPF programs. */
const WITHOUT_BPF = ['setpriv', '--bounding-set=-bpf,-sys_admin', '--inh-caps=-bpf,-sys_admin'];

type Link = { readonly ifname: string; readonly stats64: { readonly tx: { readonly packets: number } } };
type ListedFlow = Flow & { readonly fast: boolean };

async function listed(gateway: Gateway, id: number): Promise<ListedFlow> {
  return JSON.parse(await gateway.cli('flows', 'show', String(id), '-o', 'json')) as ListedFlow;
}

/** Packets that the gateway's process has read from its TUN devices. */
async function pumped(topology: Topology): Promise<number> {
  const links = JSON.parse(await topology.run('gw', ['ip', '-s', '-j', 'link'])) as Link[];
  return links.filter(({ ifname }) => ifname.startsWith('kg-')).reduce((sum, link) => sum + link.stats64.tx.packets, 0);
}

async function connect(hosts: Hosts, peer: PeerDriver, guest: MovingGuest): Promise<DrivenConnection> {
  await hosts.smallBuffersAtPeer();
  return await peer.connect({ address: ADDRESSES.outside, port: guest.port });
}

/** Both directions of a stream, over two moves; nothing is lost and nobody notices. */
async function movesUnderLoad(hosts: Hosts, peer: PeerDriver, carried: boolean): Promise<void> {
  const guest = await hosts.run('stream', { publish: true });
  const connection = await connect(hosts, peer, guest);
  await connection.expect(41, SIZE);
  await connection.pace(PACE);
  await connection.say(`BOTH ${SIZE} 41\n`);
  await connection.send(42, SIZE, PACE);
  for (let move = 1; move <= 2; move++) {
    const { received } = await connection.report();
    await connection.until((now) => now.received.bytes > received.bytes + 500_000);
    const { id } = await guest.flow();
    if (carried)
      await waitFor(async () => (await listed(hosts.gateway, id)).fast, { what: `fast before move ${move}` });
    else assert.equal((await listed(hosts.gateway, id)).fast, false);
    await guest.move();
  }
  assert.equal((await guest.flow()).splices, 2);
  await connection.hurry();
  const { received } = await connection.hasReceived(41, SIZE, { ended: true, timeout: 60_000 });
  assert.equal(received.rest, `OK ${SIZE} ${patternHash(42, SIZE)}\n`);
  await connection.finish();
  await connection.until(({ closed }) => closed);
  assert.deepEqual(await hosts.harm(), {});
}

for (const [fastPath, carried] of [
  ['require', true],
  ['off', false],
] as const)
  describe(`fast_path = "${fastPath}"`, { timeout: 300_000 }, () => {
    let hosts: Hosts;
    let peer: PeerDriver;
    before(async () => {
      hosts = await Hosts.up({ gateway: { fastPath } });
      peer = new PeerDriver(hosts.topology);
    });
    after(async () => {
      await hosts[Symbol.asyncDispose]();
    });

    test('a guest moves twice under load in both directions', async () => {
      await movesUnderLoad(hosts, peer, carried);
    });

    test(`a long spliced stream ${carried ? 'hardly passes' : 'passes'} the pump`, async () => {
      const guest = await hosts.run('stream', { publish: true });
      const connection = await connect(hosts, peer, guest);
      await connection.expect(51, SIZE);
      await connection.pace(PACE);
      await connection.say(`GET ${SIZE} 51\n`);
      await connection.until(({ received }) => received.bytes > 100_000);
      await guest.move();
      const { id } = await guest.flow();
      if (carried) await waitFor(async () => (await listed(hosts.gateway, id)).fast, { what: 'fast after the move' });
      const [packets, flow] = [await pumped(hosts.topology), await listed(hosts.gateway, id)];
      const { received } = await connection.report();
      await connection.until((now) => now.received.bytes > received.bytes + 4_000_000);
      const bytes = (await listed(hosts.gateway, id)).bytesOut - flow.bytesOut;
      const through = (await pumped(hosts.topology)) - packets;
      assert.ok(bytes > 4_000_000, `${bytes} bytes are listed`);
      if (carried) assert.ok(through < 100, `${through} packets came to the pump`);
      else assert.ok(through > 100, `${through} packets came to the pump`);
      await connection.hurry();
      await connection.hasReceived(51, SIZE, { ended: true, timeout: 60_000 });
    });
  });

describe('without CAP_BPF', { timeout: 60_000 }, () => {
  let topology: Topology;
  before(async () => {
    topology = await Topology.up();
  });
  after(async () => {
    await topology.down();
  });

  async function configured(fastPath: 'auto' | 'require'): Promise<{ file: string; socket: string }> {
    const [file, socket] = [topology.path(`${fastPath}.toml`), topology.path(`${fastPath}.sock`)];
    await writeFile(file, gatewayConfig(socket, { fastPath }));
    return { file, socket };
  }

  test('"require" does not start, says what to do, and leaves nothing behind', async () => {
    const { file } = await configured('require');
    const { code, stdout, stderr } = await topology.tryRun('gw', [...WITHOUT_BPF, COMMAND, 'run', '--config', file]);
    assert.deepEqual([code, stdout], [1, '']);
    assert.match(stderr, /^gateway: KEDGE_FAST_PATH_UNAVAILABLE: no fast path: /m);
    assert.match(stderr, /needs Linux 6\.6 or newer, CAP_BPF and CAP_NET_ADMIN/);
    assert.doesNotMatch(await topology.run('gw', ['ip', '-br', 'link']), /kg-/);
  });

  test('"auto" runs on, and says why the pump carries everything', async () => {
    const { file, socket } = await configured('auto');
    const running = topology.spawn('gw', [...WITHOUT_BPF, COMMAND, 'run', '--config', file]);
    await waitFor(() => running.stdout.startsWith('gateway ready'), {
      what: 'the gateway to be ready',
      explain: () => running.describe(),
    });
    const command = [COMMAND, 'status', '-o', 'json'];
    const status = await topology.run('gw', command, { env: { KEDGE_GATEWAY: socket } });
    const { fastPath } = JSON.parse(status) as { fastPath: { state: string; reason?: string } };
    assert.equal(fastPath.state, 'unavailable');
    assert.match(fastPath.reason ?? '', /CAP_BPF/);
    assert.equal((await running.stop(5000)).code, 0, running.describe());
  });
});
