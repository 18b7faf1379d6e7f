/** Moves while the peer's side loses 1 % of all packets, in both directions. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Hosts, type MovingGuest } from '../support/hosts.ts';
import { HARM, pick } from '../support/nstat.ts';
import { Paced } from '../support/paced.ts';
import { PeerDriver } from '../support/peer-driver.ts';
import { patternHash } from '../support/stream.ts';
import { ADDRESSES } from '../support/topology.ts';

const MOVES = 4;
const SIZE = 20_000_000;
const PACE = 400_000;

describe('with 1 % loss on the side of the peer', { timeout: 300_000 }, () => {
  let hosts: Hosts;
  let peer: PeerDriver;
  before(async () => {
    hosts = await Hosts.up();
    await hosts.smallBuffersAtPeer();
    peer = new PeerDriver(hosts.topology);
    await hosts.topology.lossAtPeer('1%');
  });
  after(async () => {
    await hosts[Symbol.asyncDispose]();
  });

  async function moveWhile(guest: MovingGuest, stretch: () => Promise<void>): Promise<void> {
    for (let move = 0; move < MOVES; move++) {
      await stretch();
      await guest.moveQuickly();
    }
    await stretch();
    assert.equal((await guest.flow()).splices, MOVES);
  }

  async function noHarm(): Promise<void> {
    const counted = await hosts.counted();
    assert.deepEqual(pick(counted, HARM), {});
    assert.ok((counted['TcpRetransSegs'] ?? 0) + (counted['TcpExtTCPOFOQueue'] ?? 0) > 0, 'something was lost');
  }

  test('a guest that serves both ways keeps its connection', async () => {
    const guest = await hosts.run('stream', { publish: true });
    const connection = await peer.connect({ address: ADDRESSES.outside, port: guest.port });
    await connection.expect(81, SIZE);
    await connection.pace(PACE);
    await connection.say(`BOTH ${SIZE} 81\n`);
    await connection.send(82, SIZE, PACE);
    await moveWhile(guest, async () => {
      const { sent, received } = await connection.report();
      await connection.until(
        (now) => now.sent.bytes > sent.bytes + 100_000 && now.received.bytes > received.bytes + 100_000,
      );
    });
    await connection.hurry();
    const report = await connection.hasReceived(81, SIZE, { ended: true, timeout: 60_000 });
    assert.equal(report.received.rest, `OK ${SIZE} ${patternHash(82, SIZE)}\n`);
    await connection.finish();
    await connection.until(({ closed }) => closed);
    await noHarm();
  });

  test('curl downloads from it to the end', async () => {
    const guest = await hosts.run('stream', { publish: true });
    const url = `http://${ADDRESSES.outside}:${guest.port}/stream/${SIZE}/83`;
    const curl = new Paced(hosts.topology, 'peer', ['curl', '-sS', '--no-buffer', '--retry', '0', url]);
    await moveWhile(guest, () => curl.further(200_000));
    assert.deepEqual(await curl.result(), { bytes: SIZE, sha256: patternHash(83, SIZE) });
    await noHarm();
  });
});
