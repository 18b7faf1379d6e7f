/** Moves and checkpoints that fail because of the source, the gateway or the disk: the guest goes on where it was. */
import assert from 'node:assert/strict';
import { mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { STAGES } from '../../src/migrate/stages.ts';
import { Busy } from '../support/busy.ts';
import { SYN } from '../support/fields.ts';
import { Hosts, PATIENCE } from '../support/hosts.ts';
import { Injector, tcp } from '../support/packets.ts';
import { PeerDriver } from '../support/peer-driver.ts';
import type { Finished } from '../support/process.ts';
import { ADDRESSES, PROJECT } from '../support/topology.ts';
import { privateDirectory, unprivileged } from '../support/unprivileged.ts';

/** Stages after which nothing can be taken back. */
const BEYOND = 'destroy';
const MOVE = STAGES[1].source.filter((stage) => stage !== BEYOND);
const CHECKPOINT = STAGES[1].checkpoint.filter((stage) => stage !== BEYOND);

describe('a move or a checkpoint that fails at the source', { timeout: 300_000 }, () => {
  let hosts: Hosts;
  let busy: Busy;
  let images: string;
  before(async () => {
    hosts = await Hosts.up();
    const faults = [...MOVE.map((stage) => `source.${stage}`), ...CHECKPOINT.map((stage) => `checkpoint.${stage}`)];
    await hosts.restartAgent('a', { env: { KEDGE_FAULT: faults.map((fault) => `${fault}:fail`).join(',') } });
    busy = await Busy.start(hosts, new PeerDriver(hosts.topology));
    images = await privateDirectory(hosts.topology, 'images');
  });
  after(() => hosts[Symbol.asyncDispose]());

  function migrate(): Promise<Finished> {
    const { a, b } = hosts.agents;
    return a.tryCli(['migrate', busy.guest.name, '--to', b.socket], { timeout: PATIENCE });
  }

  function checkpoint(file: string): Promise<Finished> {
    return hosts.agents.a.tryCli(['checkpoint', busy.guest.name, '-o', file], { timeout: PATIENCE });
  }

  for (const stage of MOVE) {
    test(`a move fails at ${stage}`, async () => {
      const { code, stderr } = await migrate();
      assert.match(stderr, new RegExp(`^kedge: KEDGE_FAULT_INJECTED: source stage ${stage}: `));
      assert.equal(code, 1);
      await busy.isAt('a', 1);
    });
  }

  for (const stage of CHECKPOINT) {
    test(`a checkpoint fails at ${stage}: no file is left that could be taken for the guest`, async () => {
      const { code, stderr } = await checkpoint(join(images, 'failed.kedge'));
      assert.match(stderr, new RegExp(`^kedge: KEDGE_FAULT_INJECTED: checkpoint stage ${stage}: `));
      assert.equal(code, 1);
      assert.deepEqual(await readdir(images), []);
      await busy.isAt('a', 1);
    });
  }

  test('the disk is full while the image is written', async () => {
    const small = join(images, 'small');
    await mkdir(small);
    // Mounted for this command alone; what is left on it is listed before it goes.
    const script = `mount -t tmpfs -o size=16k,mode=777 none "${small}" && "$@"; code=$?; ls -A "${small}"; exit $code`;
    const kedge = [...(await unprivileged()), join(PROJECT, 'bin', 'kedge')];
    const args = ['checkpoint', busy.guest.name, '-o', join(small, 'image.kedge')];
    const command = ['unshare', '--mount', 'bash', '-c', script, 'bash', ...kedge, ...args];
    const env = { KEDGE_AGENT: hosts.agents.a.socket };
    const { code, stdout, stderr } = await hosts.topology.tryRun('a', command, { env, timeout: PATIENCE });
    assert.match(stderr, /^kedge: KEDGE_IMAGE_WRITE: .*ENOSPC.*\n {2}hint: the disk is full/);
    assert.deepEqual([code, stdout], [1, '']);
    await busy.isAt('a', 1);
  });

  test('the image cannot be written: no such directory, no right to', async () => {
    const nowhere = await checkpoint(join(images, 'nowhere', 'image.kedge'));
    assert.match(nowhere.stderr, /^kedge: KEDGE_IMAGE_WRITE: .*ENOENT/);
    const there = await checkpoint(images);
    assert.match(there.stderr, /^kedge: KEDGE_IMAGE_WRITE: .*EISDIR/);
    assert.deepEqual([nowhere.code, there.code], [1, 1]);
    await busy.isAt('a', 1);
  });

  test('the gateway refuses the freeze: somebody else has frozen the guest', async () => {
    const { gateway } = hosts;
    const { body } = await gateway.get('/v1/guests');
    const { guests } = body as { guests: { id: string; name: string }[] };
    const id = guests.find(({ name }) => name === busy.guest.name)?.id ?? '';
    assert.equal((await gateway.post(`/v1/guests/${id}/freeze`, { epoch: 1 })).status, 200);
    const { code, stderr } = await migrate();
    assert.match(stderr, /^kedge: KEDGE_GUEST_NOT_RUNNING: source stage freeze: /);
    assert.equal(code, 1);
    await busy.isAt('a', 1);
  });

  test('S25: the gateway refuses a guest with a connection that cannot move, and names it', async () => {
    const { topology, gateway, agents } = hosts;
    const guest = await hosts.run('stream', { publish: true });
    const { body } = await gateway.get('/v1/guests');
    const { guests } = body as { guests: { address: string; name: string }[] };
    const address = guests.find(({ name }) => name === guest.name)?.address ?? '';
    const md5 = [19, 18, ...Array.from({ length: 16 }, () => 7), 1, 1];
    const send = async (place: 'peer' | 'a', to: string, ends: { from: string; to: string }): Promise<void> => {
      const injector = await Injector.of(topology, place, 'eth0', to);
      await injector.send([tcp(ends, { flags: SYN, options: md5 })]);
    };
    // Anybody can send such a SYN: it keeps no guest where it is.
    const stranger = `${ADDRESSES.peer}:998`;
    await send('peer', ADDRESSES.outside, { from: stranger, to: `${ADDRESSES.outside}:${guest.port}` });
    await gateway.flowOf(stranger);
    await guest.move();
    await guest.move();
    // One of the guest's own does. Nobody has that address, so nobody answers.
    const asked = '10.77.1.77:999';
    await send('a', ADDRESSES.gwA, { from: `${address}:5555`, to: asked });
    await gateway.flowOf(asked);
    const { code, stderr } = await agents.a.tryCli(['migrate', guest.name, '--to', agents.b.socket]);
    assert.match(stderr, /^kedge: KEDGE_FLOW_UNMOVABLE: source stage check: .*10\.77\.1\.77:999 .*TCP-MD5/);
    assert.equal(code, 1);
    const alive = (await hosts.clients.a.list()).find(({ name }) => name === guest.name);
    assert.equal(alive?.state, 'running');
    await guest.stop();
    await busy.isAt('a', 1);
  });

  test('works at last: every byte has come, and the peer saw nothing', async () => {
    await busy.guest.move();
    await busy.isAt('b', 2);
    await busy.finish();
    assert.deepEqual(await hosts.harm(), {});
  });
});
