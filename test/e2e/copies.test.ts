/** Copies of a guest: other guests from an image of it, beside the original, which keeps its connections. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Busy } from '../support/busy.ts';
import { Hosts, PATIENCE } from '../support/hosts.ts';
import { PeerDriver } from '../support/peer-driver.ts';
import { ADDRESSES } from '../support/topology.ts';

/** Where copies are reached that publish a port of their own. */
const PORT = 7900;

describe('a copy of a guest', { timeout: 200_000 }, () => {
  let hosts: Hosts;
  let peer: PeerDriver;
  before(async () => {
    hosts = await Hosts.up();
    peer = new PeerDriver(hosts.topology);
  });
  after(() => hosts[Symbol.asyncDispose]());

  test('serves at ports of its own beside the original, whose connections stay', async () => {
    const busy = await Busy.start(hosts, peer);
    const { guest } = busy;
    const { a, b } = hosts.agents;
    const image = join(a.stateDirectory, 'copy.kedge');
    await a.cli(['checkpoint', guest.name, '--leave-running', '-o', image], { timeout: PATIENCE });

    const refused = await b.tryCli(['restore', '-d', '--without-flows', image], { timeout: PATIENCE });
    assert.deepEqual([refused.code, refused.stdout], [1, '']);
    assert.match(refused.stderr, /^kedge: KEDGE_PORT_IN_USE: [^]*hint: .*--publish .*--no-publish/);

    const ports = `${PORT}:${guest.port}`;
    const restore = ['restore', '-d', '--without-flows', image];
    // The original's name is taken on its own host only.
    assert.equal(await b.cli([...restore, '-p', ports], { timeout: PATIENCE }), `${guest.name}\n`);
    assert.equal(await a.cli([...restore, '--no-publish'], { timeout: PATIENCE }), `${guest.name}-2\n`);
    const known = (await hosts.gateway.guests()).map(({ publish }) => publish.map(({ outsidePort }) => outsidePort));
    assert.deepEqual(known, [[guest.port], [PORT], []]);

    // The copy goes on where the original stood: it listens.
    const connection = await peer.connect({ address: ADDRESSES.outside, port: PORT });
    await connection.expect(7, 100_000);
    await connection.say('GET 100000 7\n');
    await connection.hasReceived(7, 100_000, { ended: true });
    await connection.finish();
    await connection.until(({ closed }) => closed);
    // One of its name is there.
    await assert.rejects(busy.guest.move(), /KEDGE_GUEST_EXISTS/);
    await b.cli(['stop', guest.name]);
    await a.cli(['stop', `${guest.name}-2`]);
    await busy.isAt('a', 1);
    await busy.guest.move();
    await busy.finish();
    assert.deepEqual(await hosts.harm(), {});
    await guest.stop();
  });
});
