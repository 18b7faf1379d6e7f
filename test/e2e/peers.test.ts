/**
 * The scriptable peer, with the kernel's own NAT in the gateway's place: what it says about a connection is true.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { patternHash } from '../support/pattern.ts';
import { PeerDriver } from '../support/peer-driver.ts';
import { ADDRESSES, Topology } from '../support/topology.ts';
import { unprivileged } from '../support/unprivileged.ts';
import { waitFor } from '../support/wait.ts';

describe('peer driver', { timeout: 120_000 }, () => {
  let topology: Topology;
  /** In the place of a guest: what Kedge's guests do, without Kedge. */
  let guest: PeerDriver;
  let peer: PeerDriver;
  before(async () => {
    topology = await Topology.up();
    await topology.script('kernel-nat');
    guest = new PeerDriver(topology, 'a');
    peer = new PeerDriver(topology);
  });
  after(async () => {
    await topology.down();
  });

  test('streams both ways, checked, half-closed one after the other', async () => {
    const { port, accept } = await guest.listen({ port: 7000 });
    const theirs = await peer.connect({ address: ADDRESSES.outside, port });
    const ours = await accept();
    await Promise.all([theirs.expect(1), ours.expect(2)]);
    await ours.send(1, 3_000_000);
    await theirs.send(2, 2_000_000);
    await ours.finish();
    await theirs.hasReceived(1, 3_000_000, { ended: true });
    await theirs.send(2, 500_000);
    await theirs.finish();
    const report = await ours.hasReceived(2, 2_500_000, { ended: true });
    assert.deepEqual(
      { ...report.sent, error: report.error },
      { bytes: 3_000_000, sha256: patternHash(1, 3_000_000), waiting: 0, finished: true, error: null },
    );
    assert.match(report.remote, new RegExp(`^${ADDRESSES.peer}:`));
    await ours.until(({ closed }) => closed);
  });

  test('text before and after a stream is kept apart from it', async () => {
    const { port, accept } = await guest.listen();
    const theirs = await peer.connect({ address: ADDRESSES.outside, port });
    const ours = await accept();
    await theirs.expect(1, 10_000);
    await ours.expect(0, 0);
    await theirs.say('GET 10000 1\n');
    await ours.until(({ received }) => received.rest === 'GET 10000 1\n');
    await ours.send(1, 10_000);
    await ours.until(({ sent }) => sent.waiting === 0);
    await ours.say('OK\n');
    await ours.finish();
    const { received } = await theirs.hasReceived(1, 10_000, { ended: true });
    assert.equal(received.rest, 'OK\n');
  });

  test('what was not expected is seen', async () => {
    const { port, accept } = await guest.listen();
    const theirs = await peer.connect({ address: ADDRESSES.outside, port });
    const ours = await accept();
    await theirs.expect(8);
    await ours.send(9, 1000);
    await assert.rejects(theirs.hasReceived(8, 1000), /not the 1000 bytes of stream 8: .*"wrongAt":0/);
    await assert.rejects(ours.send(7, 1), /stream of one seed/);
  });

  test('a rate is kept, a paused reader stops the sender, and an echo gives all back', async () => {
    const { port, accept } = await guest.listen();
    const theirs = await peer.connect({ address: ADDRESSES.outside, port, localPort: 41000 });
    const ours = await accept();
    assert.equal((await ours.report()).remote, `${ADDRESSES.peer}:41000`);
    await ours.echo();
    await theirs.send(3, 40_000, 100_000);
    const start = performance.now();
    await theirs.hasReceived(3, 40_000);
    const seconds = (performance.now() - start) / 1000;
    assert.ok(seconds > 0.3, `40 000 bytes at 100 000 a second took ${seconds} s`);
    await theirs.pause();
    await theirs.send(3, 64_000_000);
    // It stands still when it is the same in two looks that are some way apart.
    let last = 0;
    await waitFor(
      async () => {
        const { waiting } = (await theirs.report()).sent;
        const still = waiting > 0 && waiting === last;
        last = waiting;
        return still;
      },
      { interval: 300, what: 'a sender that stands still' },
    );
    await theirs.resume();
    await theirs.hasReceived(3, 64_040_000, { timeout: 60_000 });
  });

  test('a reset is seen by the other side as what it is', async () => {
    const { port, accept } = await guest.listen();
    const theirs = await peer.connect({ address: ADDRESSES.outside, port });
    const ours = await accept();
    await theirs.destroy();
    await assert.rejects(
      ours.until(() => false, { timeout: 5_000 }),
      /connection failed: .*"error":"ECONNRESET"/,
    );
  });

  test('connections over socat: streams, keepalive, and a TCP_USER_TIMEOUT that is in force', async () => {
    const { port, accept } = await guest.listen();
    const options = { address: ADDRESSES.outside, port, keepAlive: 1000, socat: 'setsockopt-int=6:18:3000' };
    const theirs = await peer.connect(options);
    const ours = await accept();
    assert.equal((await ours.report()).remote, (await theirs.report()).local);
    await ours.send(4, 1_000_000);
    await theirs.send(5, 1_000_000);
    await Promise.all([theirs.hasReceived(4, 1_000_000), ours.hasReceived(5, 1_000_000)]);
    const timers = await topology.run('peer', ['ss', '-H', '-tno', 'state', 'established', `dport = :${port}`]);
    assert.match(timers, /keepalive/);
    await topology.lossAtPeer('99.99%');
    try {
      await theirs.send(5, 1_000_000, 100_000);
      const start = performance.now();
      await assert.rejects(
        theirs.until(() => false, { timeout: 15_000 }),
        /connection failed: .*timed out/,
      );
      assert.ok(performance.now() - start < 10_000);
    } finally {
      await topology.noLossAtPeer();
    }
  });

  test('many connections of one peer', async () => {
    const { port, accept } = await guest.listen();
    const pairs = await Promise.all(
      Array.from({ length: 50 }, async () => {
        return await peer.connect({ address: ADDRESSES.outside, port });
      }),
    );
    const accepted = await Promise.all(pairs.map(() => accept()));
    await Promise.all(accepted.map((connection) => connection.send(6, 10_000)));
    await Promise.all(pairs.map((connection) => connection.hasReceived(6, 10_000)));
  });

  test('what fails over there is an error here', async () => {
    await assert.rejects(peer.connect({ address: ADDRESSES.outside, port: 1 }), { code: 'ECONNREFUSED' });
    await assert.rejects(peer.connect({ address: ADDRESSES.outside, port: 1, socat: '' }), /Connection refused/);
    await assert.rejects(peer.call('fly'), /no method fly/);
    const other = new PeerDriver(topology);
    await other.call('report', { connection: 0 }).catch(() => undefined);
    const call = other.call('accept', {
      listener: (await other.call<{ listener: number }>('listen', { port: 0 })).listener,
    });
    other.running.signal('SIGKILL');
    await assert.rejects(call, /the driver has ended/);
  });

  test('unprivileged programs have no capability and no way to one', async () => {
    const as = await unprivileged();
    const text = await topology.run('a', [...as, 'grep', '-E', '^(Cap|NoNewPrivs|Gid|Groups)', '/proc/self/status']);
    assert.match(text, /CapEff:\s0+$/m);
    assert.match(text, /CapBnd:\s0+$/m);
    assert.match(text, /NoNewPrivs:\s1/);
  });
});
