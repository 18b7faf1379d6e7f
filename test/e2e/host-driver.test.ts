/**
 * A guest without Wasm moves between two hosts: sockets, gateway and peer are real, only the program is driven. The ground for
 * the tests of the splice; what is shown here is that a move works at all, as the checker sees it, and that a failed one is undone.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { BothSidesCapture } from '../support/capture.ts';
import { assertClean, checkConversation, readBothSides, tupleOf } from '../support/checker.ts';
import { Gateway } from '../support/gateway.ts';
import { HostDriver, moveGuest } from '../support/host-driver.ts';
import { HARM, difference, pick, readCounters } from '../support/nstat.ts';
import { PeerDriver } from '../support/peer-driver.ts';
import { ADDRESSES, Topology } from '../support/topology.ts';

describe('a driven guest', { timeout: 180_000 }, () => {
  let topology: Topology;
  let gateway: Gateway;
  let a: HostDriver;
  let b: HostDriver;
  let peer: PeerDriver;
  before(async () => {
    topology = await Topology.up({ offload: 'off' });
    gateway = await Gateway.start(topology);
    a = await HostDriver.start(gateway, 'a');
    b = await HostDriver.start(gateway, 'b');
    peer = new PeerDriver(topology);
  });
  after(async () => {
    await topology.down();
  });

  test('serves on a, on b, on a again, while bytes flow both ways', async () => {
    const counters = await readCounters(topology, 'peer');
    await a.register({ publish: [7000] });
    const listener = await a.listen(7000);
    await using capture = await BothSidesCapture.start(topology, { full: true });
    const theirs = await peer.connect({ address: ADDRESSES.outside, port: 7000 });
    const atA = await listener.accept();
    await Promise.all([theirs.expect(1), atA.expect(2)]);
    const size = 8_000_000;
    await atA.send(1, size);
    await theirs.send(2, size, 8_000_000);
    await theirs.until(({ received }) => received.bytes > 300_000);
    const there = await moveGuest(a, b);
    const atB = b.connection(atA.index);
    await atB.until(({ received }) => received.bytes > 2_000_000);
    const peerAddress = (await theirs.report()).local;
    const shownOnB = (await gateway.flow((await gateway.flowOf(peerAddress)).id)).delta;
    const back = await moveGuest(b, a);
    const shownOnA = (await gateway.flow((await gateway.flowOf(peerAddress)).id)).delta;
    await atA.finish();
    await theirs.finish();
    await theirs.hasReceived(1, size, { ended: true });
    await atA.hasReceived(2, size, { ended: true });
    await atA.until(({ closed }) => closed);

    const flow = {
      peer: (await theirs.report()).local,
      outside: `${ADDRESSES.outside}:7000`,
      guest: (await atA.report()).local,
    };
    const rows = await readBothSides(await capture.stop());
    const report = checkConversation(rows, tupleOf(flow), { firstMove: there.from, moves: 2 });
    assertClean(report);
    assert.deepEqual(
      report.deltas.map(({ leg, delta }) => [leg, delta]),
      [
        ['a', 0],
        ['b', shownOnB],
        ['a', shownOnA],
      ],
    );
    assert.deepEqual(pick(difference(counters, await readCounters(topology, 'peer')), HARM), {});
    assert.deepEqual(await gateway.tcpSockets(), []);
    assert.ok(back.to - there.from < 60_000);
    await a.call('unregister');
    await a.call('destroyGuest');
  });

  test('connects from b, and a move that fails at any step leaves it there, whole', async () => {
    await b.register({ name: 'client' });
    const listener = await peer.listen();
    await using capture = await BothSidesCapture.start(topology, { full: true });
    const ours = await b.connect(ADDRESSES.peer, listener.port);
    const theirs = await listener.accept();
    await Promise.all([theirs.expect(3), ours.expect(4)]);
    await ours.send(3, 20_000_000);
    await theirs.send(4, 2_000_000, 500_000);
    const firstMove = Date.now();
    const { local: guest, remote } = await ours.report();
    const { outside } = await gateway.flowOf(remote);
    for (const step of ['check', 'freeze', 'drain', 'save', 'load', 'attach', 'restore'] as const) {
      const failing = moveGuest(b, a, {
        after: (done) => {
          if (done === step) throw new Error(`no further than ${step}`);
        },
      });
      await assert.rejects(failing, new RegExp(`no further than ${step}`));
      const { received } = await ours.report();
      await ours.until((report) => report.received.bytes > received.bytes, {
        what: `bytes after a failure at ${step}`,
      });
    }
    await moveGuest(b, a, { seal: true });
    const moved = a.connection(ours.index);
    await moved.finish();
    await theirs.finish();
    await theirs.hasReceived(3, 20_000_000, { ended: true });
    await moved.hasReceived(4, 2_000_000, { ended: true });

    const rows = await readBothSides(await capture.stop());
    const report = checkConversation(rows, tupleOf({ peer: remote, outside, guest }), { firstMove });
    assertClean(report);
    // The second is the attempt that came as far as a handshake.
    assert.deepEqual(
      report.epochs.map(({ leg }) => leg),
      ['b', 'a', 'a'],
    );
  });
});
