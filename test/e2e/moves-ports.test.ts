/**
 * A peer that leaves a connection behind at the guest and comes back from the same port, as a machine that was started again does: the
 * guest then holds two handles of one name, of which the one that is over must not be taken for the other in a move.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, test } from 'node:test';
import { compileGuest } from '../support/guests.ts';
import { BOTH, V8 } from '../support/routes.ts';
import { useScene } from '../support/scene.ts';
import { pattern } from '../support/stream.ts';
import { ADDRESSES } from '../support/topology.ts';
import { waitFor } from '../support/wait.ts';

const ANSWER = 20_000;
/** The first connection brings more than the second, so that its count would be too high for that one. */
const UNREAD = 20_000;

let turns: string;
const scene = useScene({
  ready: async ({ topology }) => {
    turns = await compileGuest(topology, 'turns');
  },
});

for (const route of [V8, BOTH]) {
  describe(route.name, () => {
    test('a peer that ends, resets and comes back from its port, while the guest reads nothing', async () => {
      const guest = await scene.hosts.run(turns, { publish: true, route });
      // Also on an interpreter the guest computes for a while.
      const to = { address: ADDRESSES.outside, port: guest.port, localPort: 41_001 };
      const first = await scene.peer.connect(to);
      await first.say('WORK 1500000000\n');
      await guest.hasSaid(/working/);
      await first.send(1, UNREAD);
      await first.finish();
      await waitFor(async () => (await guest.flow()).state === 'CLOSE-WAIT', { what: 'its end to arrive' });
      await first.destroy();
      await guest.untilNo(async () => (await guest.flows()).some(({ state }) => state === 'CLOSE-WAIT'));
      const second = await scene.peer.connect(to);
      await second.say(`SEND ${ANSWER} 7\n`);
      await guest.move();
      await guest.move();
      const expected = createHash('sha256')
        .update(pattern(7, 0, ANSWER))
        .digest('hex');
      await waitFor(async () => (await second.report()).received.bytes === ANSWER, { what: 'the answer' });
      assert.equal((await second.report()).received.sha256, expected);
      assert.equal((await second.report()).error, null);
      await second.destroy();
      await guest.stop();
    });
  });
}
