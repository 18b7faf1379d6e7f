/** A guest changes its engine with its host, in the middle of a connection. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Hosts } from '../support/hosts.ts';
import { SLOW } from '../support/paced.ts';
import { PeerDriver } from '../support/peer-driver.ts';
import { patternHash } from '../support/stream.ts';
import { ADDRESSES } from '../support/topology.ts';

const SIZE = 8_000_000;
const PACE = SLOW / 4;

describe('V8 and WAMR', { timeout: 300_000 }, () => {
  let hosts: Hosts;
  let peer: PeerDriver;
  before(async () => {
    hosts = await Hosts.up();
    await hosts.smallBuffersAtPeer();
    peer = new PeerDriver(hosts.topology);
  });
  after(async () => {
    await hosts[Symbol.asyncDispose]();
  });

  async function engineOf(name: string): Promise<string | undefined> {
    const guests = await Promise.all(Object.values(hosts.clients).map((client) => client.list()));
    return guests.flat().find((guest) => guest.name === name && guest.state === 'running')?.engine;
  }

  test('one connection goes on over V8, WAMR, V8, WAMR, bytes flowing both ways', async () => {
    const guest = await hosts.run('stream', { publish: true });
    const connection = await peer.connect({ address: ADDRESSES.outside, port: guest.port });
    await connection.expect(61, SIZE);
    await connection.pace(PACE);
    await connection.say(`BOTH ${SIZE} 61\n`);
    await connection.send(62, SIZE, PACE);
    for (const engine of ['wamr', 'v8', 'wamr']) {
      const { sent, received } = await connection.report();
      await guest.move(engine);
      assert.equal(await engineOf(guest.name), engine);
      await connection.until(
        (now) => now.sent.bytes > sent.bytes + 20_000 && now.received.bytes > received.bytes + 20_000,
        { what: `bytes in both directions on ${engine}` },
      );
    }
    assert.equal((await guest.flow()).splices, 3);
    await connection.hurry();
    const { received } = await connection.hasReceived(61, SIZE, { ended: true, timeout: 120_000 });
    assert.equal(received.rest, `OK ${SIZE} ${patternHash(62, SIZE)}\n`);
    await connection.finish();
    await connection.until(({ closed }) => closed);
    assert.deepEqual(await hosts.harm(), {});
  });
});
