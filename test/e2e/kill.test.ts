/**
 * Hosts that lose their agent: nothing of what a dying kernel says reaches the peer, the guest comes back to the same host on the same
 * 4-tuples at once, and it has one epoch.
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, beforeEach, describe, test } from 'node:test';
import { Busy } from '../support/busy.ts';
import { Capture, TAPS } from '../support/capture.ts';
import { FIN, RST, readTcp } from '../support/fields.ts';
import { Hosts, PATIENCE, type HostName } from '../support/hosts.ts';
import { PeerDriver } from '../support/peer-driver.ts';
import { patternHash } from '../support/stream.ts';
import { ADDRESSES, PROJECT } from '../support/topology.ts';
import { privateDirectory } from '../support/unprivileged.ts';
import { waitFor } from '../support/wait.ts';

describe('the agent of a host is killed', { timeout: 300_000 }, () => {
  let hosts: Hosts;
  let peer: PeerDriver;
  let images: string;
  let image: string;
  let count = 0;
  before(async () => {
    hosts = await Hosts.up();
    peer = new PeerDriver(hosts.topology);
    images = await privateDirectory(hosts.topology, 'images');
  });
  // A file that is there is not written over.
  beforeEach(() => {
    image = join(images, `guest-${(count += 1)}.kedge`);
  });
  after(() => hosts[Symbol.asyncDispose]());

  /**
   * No FIN and no RST has come to the peer, though all three of the guest's sockets on host A ended by RST: their kernel's own, or
   * one with which the gateway answered what a fenced socket still said.
   */
  async function nothingGotOut(atPeer: Capture, atA: Capture): Promise<void> {
    const [peerRows, aRows] = [await readTcp(await atPeer.stop()), await readTcp(await atA.stop())];
    const outside = peerRows.filter(({ src }) => src === ADDRESSES.outside);
    assert.ok(outside.length > 0);
    assert.deepEqual(
      outside.filter(({ flags }) => flags & (FIN | RST)),
      [],
    );
    const resets = aRows.filter(({ flags }) => flags & RST);
    const ports = resets.map(({ src, srcPort, dstPort }) => (src === ADDRESSES.peer ? srcPort : dstPort));
    assert.equal(new Set(ports).size, 3);
  }

  function captures(): Promise<[Capture, Capture]> {
    const { topology } = hosts;
    return Promise.all([
      Capture.start(topology, TAPS.peer, { filter: 'tcp' }),
      Capture.start(topology, TAPS.gwA, { filter: 'tcp' }),
    ]);
  }

  /** The guest's connections by the gateway: who they are with, and how often each was spliced. */
  async function connections(busy: Busy): Promise<Record<string, number>> {
    const flows = await busy.guest.flows();
    return Object.fromEntries(flows.map(({ peer: at, guest, splices }) => [`${guest} ${at}`, splices]));
  }

  async function restore(on: HostName): Promise<{ code: number | null; stderr: string }> {
    return await hosts.agents[on].tryCli(['restore', '--detach', image], { timeout: PATIENCE });
  }

  /** Comes back to host A from its image, once. */
  async function comesBack(busy: Busy, had: Record<string, number>): Promise<void> {
    assert.deepEqual(await restore('a'), { code: 0, stderr: '', signal: null, stdout: `${busy.guest.name}\n` });
    await busy.isAt('a', 2);
    const spliced = Object.fromEntries(Object.entries(had).map(([tuple, splices]) => [tuple, splices + 1]));
    assert.deepEqual(await connections(busy), spliced);
    // A guest has one life, here, elsewhere, and after it has moved on.
    for (const host of ['a', 'b'] as const) {
      const again = await restore(host);
      assert.equal(again.code, 1);
      assert.match(again.stderr, host === 'a' ? /^kedge: KEDGE_GUEST_EXISTS: / : /^kedge: KEDGE_EPOCH_CLAIMED: /);
    }
    await busy.guest.move();
    const late = await restore('a');
    assert.match(late.stderr, /^kedge: KEDGE_EPOCH_CLAIMED: [^]*hint: .*--without-flows/);
    await busy.isAt('b', 3);
    await busy.finish();
    assert.deepEqual(await hosts.harm(), {});
    await busy.guest.stop();
  }

  test('S7, S48: right after a checkpoint', async () => {
    const busy = await Busy.start(hosts, peer);
    const had = await connections(busy);
    const [atPeer, atA] = await captures();
    await hosts.agents.a.cli(['checkpoint', busy.guest.name, '-o', image], { timeout: PATIENCE });
    await hosts.agents.a.kill();
    await hosts.restartAgent('a');
    await nothingGotOut(atPeer, atA);
    await comesBack(busy, had);
  });

  test('S7, S48: between the seal and the end of its sockets', async () => {
    await hosts.restartAgent('a', { env: { KEDGE_FAULT: 'checkpoint.destroy:kill' } });
    const busy = await Busy.start(hosts, peer);
    const had = await connections(busy);
    const [atPeer, atA] = await captures();
    const { code, stderr } = await hosts.agents.a.tryCli(['checkpoint', busy.guest.name, '-o', image]);
    assert.match(stderr, /^kedge: KEDGE_LINK_BROKEN: [^]*hint: .*kedge restore/);
    assert.equal(code, 1);
    assert.equal((await hosts.agents.a.running.ended).signal, 'SIGKILL');
    await waitFor(
      async () => {
        const { stdout } = await hosts.topology.tryRun('a', ['ss', '-H', '-tan', 'src', '100.64.0.0/10']);
        return stdout === '';
      },
      { what: 'the kernel to end the sockets' },
    );
    await nothingGotOut(atPeer, atA);
    await hosts.restartAgent('a');
    await comesBack(busy, had);
  });

  test('S7, S48: right after the commit of a move; the guest comes back at once', async () => {
    await hosts.restartAgent('a', { env: { KEDGE_FAULT: 'source.destroy:kill' } });
    const busy = await Busy.start(hosts, peer);
    const had = await connections(busy);
    const [atPeer, atA] = await captures();
    const { a, b } = hosts.agents;
    const { code, stderr } = await a.tryCli(['migrate', busy.guest.name, '--to', b.socket], { timeout: PATIENCE });
    assert.match(stderr, /^kedge: KEDGE_LINK_BROKEN: /);
    assert.equal(code, 1);
    assert.equal((await a.running.ended).signal, 'SIGKILL');
    await busy.isAt('b', 2);
    busy.guest.place = 'b';
    await hosts.restartAgent('a');
    await busy.guest.move();
    await busy.isAt('a', 3);
    const spliced = Object.fromEntries(Object.entries(had).map(([tuple, splices]) => [tuple, splices + 2]));
    assert.deepEqual(await connections(busy), spliced);
    await nothingGotOut(atPeer, atA);
    await busy.finish();
    assert.deepEqual(await hosts.harm(), {});
    await busy.guest.stop();
  });

  test('the target’s, right after its commit: the source does not bring the guest to life again', async () => {
    await hosts.restartAgent('b', { env: { KEDGE_FAULT: 'target.release:kill' } });
    const busy = await Busy.start(hosts, peer);
    const { a, b } = hosts.agents;
    const { code, stdout } = await a.tryCli(['migrate', busy.guest.name, '--to', b.socket], { timeout: PATIENCE });
    assert.match(stdout, / epoch 2, /);
    assert.equal(code, 0);
    assert.deepEqual(await busy.livesAt(), []);
    await signedOff('b', busy.guest.name);
  });

  test('with running guests: the next agent signs them off, and all they had is free again', async () => {
    const guest = await hosts.run('stream', { publish: true });
    const connection = await peer.connect({ address: ADDRESSES.outside, port: guest.port });
    await connection.expect(1, 1000);
    await connection.say('GET 1000 1\n');
    await connection.hasReceived(1, 1000, { ended: true });
    await hosts.agents.a.kill();
    await signedOff('a', guest.name);
    const module = join(PROJECT, 'build', 'examples', 'stream.wasm');
    const port = String(guest.port);
    await hosts.agents.a.cli(['run', '-d', '--name', guest.name, '-p', port, module, port], { timeout: PATIENCE });
    await guest.hasSaid(/listening/);
    const next = await peer.connect({ address: ADDRESSES.outside, port: guest.port });
    await next.say('PUT 0 1\n');
    await next.hasReceivedText(`OK 0 ${patternHash(1, 0)}\n`);
  });

  test('between freeze and seal: gateway guests rm frees all that the guest had', async () => {
    await hosts.restartAgent('a', { env: { KEDGE_FAULT: 'checkpoint.seal:kill' } });
    const { gateway } = hosts;
    const done = `OK 0 ${patternHash(1, 0)}\n`;
    const guest = await hosts.run('stream', { name: 'left', publish: true });
    const connection = await peer.connect({ address: ADDRESSES.outside, port: guest.port });
    await connection.say('PUT 0 1\n');
    await connection.hasReceivedText(done);
    assert.equal((await gateway.tryCli('guests', 'rm', guest.name)).stderr.split(':')[1], ' KEDGE_GUEST_RUNNING');
    const { stderr } = await hosts.agents.a.tryCli(['checkpoint', guest.name, '-o', image], { timeout: PATIENCE });
    assert.match(stderr, /^kedge: KEDGE_LINK_BROKEN: /);
    assert.equal((await hosts.agents.a.running.ended).signal, 'SIGKILL');
    await guest.untilFlow(({ frozen }) => frozen);
    // The next agent says what there is to do.
    const agent = await hosts.restartAgent('a');
    await waitFor(() => agent.running.stderr.includes(`gateway guests rm ${guest.name}`), {
      what: 'a word about it',
    });

    assert.equal(await gateway.cli('guests', 'rm', guest.name), `${guest.name}\n`);
    await waitFor(async () => (await connection.report()).error === 'ECONNRESET', { what: 'the peer to be told' });
    const { guests, flows } = await gateway.status();
    assert.deepEqual([guests, flows], [0, 0]);
    assert.match((await restore('b')).stderr, /KEDGE_GUEST_UNKNOWN[^]*hint: .*--without-flows/);
    const again = await hosts.run('stream', { name: guest.name, publish: guest.port });
    const next = await peer.connect({ address: ADDRESSES.outside, port: guest.port });
    await next.say('PUT 0 1\n');
    await next.hasReceivedText(done);
    // By force also one that runs; its agent finds that out when it is asked.
    assert.equal(await gateway.cli('guests', 'rm', '--force', guest.name), `${guest.name}\n`);
    await waitFor(async () => (await next.report()).error === 'ECONNRESET', { what: 'the peer to be told' });
    await again.stop();
  });

  /** The agent that follows finds what was left and tells the gateway. */
  async function signedOff(host: HostName, name: string): Promise<void> {
    const agent = await hosts.restartAgent(host);
    await waitFor(() => agent.running.stderr.includes(`guest ${name} ended with the agent before this one`), {
      what: 'a word about it',
    });
    const { guests, flows } = await hosts.gateway.status();
    assert.deepEqual([guests, flows], [0, 0]);
  }
});
