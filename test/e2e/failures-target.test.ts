/** Moves that fail because of the target: the guest stays where it was, and its connections do not notice. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { STAGES } from '../../src/migrate/stages.ts';
import { Busy } from '../support/busy.ts';
import { Hosts, PATIENCE } from '../support/hosts.ts';
import { PeerDriver } from '../support/peer-driver.ts';
import type { Finished } from '../support/process.ts';
import { ADDRESSES } from '../support/topology.ts';

const POOL_ROUTE = ['local', ADDRESSES.pool, 'dev', 'lo'];

/** Stages of a target before the gateway has switched. */
const REVOCABLE = STAGES[1].target.filter((stage) => stage !== 'release');

describe('a move whose target fails', { timeout: 300_000 }, () => {
  let hosts: Hosts;
  let busy: Busy;
  before(async () => {
    hosts = await Hosts.up();
    busy = await Busy.start(hosts, new PeerDriver(hosts.topology));
  });
  after(() => hosts[Symbol.asyncDispose]());

  function migrate(): Promise<Finished> {
    const { a, b } = hosts.agents;
    return a.tryCli(['migrate', busy.guest.name, '--to', b.socket], { timeout: PATIENCE });
  }

  for (const stage of REVOCABLE) {
    test(`fails at ${stage}: the guest goes on where it was`, async () => {
      await hosts.restartAgent('b', { env: { KEDGE_FAULT: `target.${stage}:fail` } });
      const { code, stderr } = await migrate();
      assert.match(stderr, new RegExp(`^kedge: KEDGE_FAULT_INJECTED: .*target stage ${stage}: `));
      assert.equal(code, 1);
      await busy.isAt('a', 1);
    });
  }

  for (const stage of REVOCABLE) {
    test(`dies at ${stage}: the guest goes on where it was`, async () => {
      const { running } = await hosts.restartAgent('b', { env: { KEDGE_FAULT: `target.${stage}:kill` } });
      const { code, stderr } = await migrate();
      assert.equal((await running.ended).signal, 'SIGKILL');
      assert.match(stderr, /^kedge: KEDGE_LINK_BROKEN: source stage (prepare|send): /);
      assert.equal(code, 1);
      await busy.isAt('a', 1);
    });
  }

  test('cannot bind the guest address: the guest goes on where it was, and the user is told why', async () => {
    await hosts.restartAgent('b');
    await hosts.topology.run('b', ['ip', 'route', 'del', ...POOL_ROUTE]);
    try {
      const { code, stderr } = await migrate();
      assert.match(stderr, /^kedge: KEDGE_RESTORE_BIND: .*cannot bind 100\.64\.[0-9.:]+: EADDRNOTAVAIL/);
      assert.match(stderr, /hint: .*ip route add local POOL dev lo/);
      assert.equal(code, 1);
    } finally {
      await hosts.topology.run('b', ['ip', 'route', 'add', ...POOL_ROUTE]);
    }
    await busy.isAt('a', 1);
  });

  test('is not there, is no agent, or has a guest of that name: nothing is stopped', async () => {
    const { a, b } = hosts.agents;
    const { name } = busy.guest;
    const to = async (socket: string): Promise<string> =>
      (await a.tryCli(['migrate', name, '--to', socket], { timeout: PATIENCE })).stderr;
    assert.match(await to(hosts.topology.path('nobody.sock')), /^kedge: KEDGE_AGENT_UNREACHABLE: /);
    assert.match(await to(hosts.gateway.socket), /^kedge: KEDGE_(LINK_BROKEN|AGENT_PROTOCOL): /);
    assert.match(await to(a.socket), /^kedge: KEDGE_GUEST_EXISTS: /);
    await hosts.run('compute', { name, on: 'b', args: ['4000000000', '1000000'] });
    assert.match(await to(b.socket), /^kedge: KEDGE_GUEST_EXISTS: /);
    await b.cli(['stop', name]);
    await busy.isAt('a', 1);
  });

  test('works at last: the guest moves, there and back, and every byte has come', async () => {
    await busy.guest.move();
    await busy.isAt('b', 2);
    await busy.guest.move();
    await busy.isAt('a', 3);
    await busy.finish();
    assert.deepEqual(await hosts.harm(), {});
  });

  test('release fails: the guest is the target’s already, and runs there', async () => {
    const guest = await hosts.run('stream', { publish: true });
    await hosts.restartAgent('b', { env: { KEDGE_FAULT: 'target.release:fail' } });
    await guest.move();
    const { state } = (await hosts.clients.b.list()).find(({ name }) => name === guest.name) ?? {};
    assert.equal(state, 'running');
    await guest.stop();
  });
});
