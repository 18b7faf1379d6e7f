/**
 * Moves while the peer's side loses 1 % of all packets, in both directions; on V8, and changing the engine at each move. All at once,
 * each with a guest of its own.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { MovingGuest } from '../support/hosts.ts';
import { HARM, pick } from '../support/nstat.ts';
import { Paced } from '../support/paced.ts';
import { waitListening } from '../support/peers.ts';
import { BOTH, V8 } from '../support/routes.ts';
import { useScene } from '../support/scene.ts';
import { patternHash } from '../support/stream.ts';
import { ADDRESSES } from '../support/topology.ts';

const MOVES = 4;
const SIZE = 20_000_000;
const PACE = 400_000;

const scene = useScene({ ready: ({ topology }) => topology.lossAtPeer('1%') });

async function moveWhile(guest: MovingGuest, stretch: () => Promise<void>): Promise<void> {
  for (let move = 0; move < MOVES; move++) {
    await stretch();
    await guest.moveQuickly();
    await guest.isOnItsEngine();
  }
  await stretch();
  assert.equal((await guest.flow()).splices, MOVES);
}

describe('with 1 % loss on the side of the peer', { timeout: 300_000, concurrency: true }, () => {
  for (const route of [V8, BOTH]) {
    test(`a guest that serves both ways keeps its connection, on ${route.name}`, async () => {
      const guest = await scene.hosts.run('stream', { publish: true, route });
      const connection = await scene.connect(guest);
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
    });

    test(`curl downloads from it to the end, on ${route.name}`, async () => {
      const guest = await scene.hosts.run('stream', { publish: true, route });
      const url = `http://${ADDRESSES.outside}:${guest.port}/stream/${SIZE}/83`;
      const curl = new Paced(scene.hosts.topology, 'peer', ['curl', '-sS', '--no-buffer', '--retry', '0', url]);
      await moveWhile(guest, () => curl.further(200_000));
      assert.deepEqual(await curl.result(), { bytes: SIZE, sha256: patternHash(83, SIZE) });
    });

    test(`a guest that has connected uploads to socat, on ${route.name}`, async () => {
      const { topology } = scene.hosts;
      const port = scene.port();
      const socat = new Paced(topology, 'peer', ['socat', '-u', `TCP4-LISTEN:${port}`, 'STDOUT']);
      await waitListening(topology, 'peer', port, socat.running);
      const args = ['send', ADDRESSES.peer, String(port), String(SIZE), '84'];
      const guest = await scene.hosts.run('fetch', { args, route });
      await moveWhile(guest, () => socat.further(200_000));
      assert.deepEqual(await socat.result(), { bytes: SIZE, sha256: patternHash(84, SIZE) });
      assert.equal(await guest.exitCode(), 0);
    });
  }
});

describe('after all that', () => {
  test('packets were lost, and the peer counted no harm', async () => {
    const counted = await scene.hosts.counted();
    assert.deepEqual(pick(counted, HARM), {});
    assert.ok((counted['TcpRetransSegs'] ?? 0) + (counted['TcpExtTCPOFOQueue'] ?? 0) > 0, 'something was lost');
  });
});
