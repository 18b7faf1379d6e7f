/**
 * What a peer finds after a connection around a move: its ports are free again, what it reset is gone at the guest too, and a packet that
 * somebody forged keeps no guest where it is. Sockets, gateway and peer are real, the program is driven.
 */
import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, test } from 'node:test';
import { ACK, FIN } from '../support/fields.ts';
import { Gateway } from '../support/gateway.ts';
import { HostDriver, moveGuest, type DrivenListener, type MoveOptions } from '../support/host-driver.ts';
import { Injector, tcp } from '../support/packets.ts';
import { PeerDriver, type DrivenConnection } from '../support/peer-driver.ts';
import { ADDRESSES, Topology } from '../support/topology.ts';
import { waitFor } from '../support/wait.ts';

const PORT = 7000;
const SIZE = 3000;

describe('a peer of a guest that moves', { timeout: 180_000 }, () => {
  let topology: Topology;
  let gateway: Gateway;
  let a: HostDriver;
  let b: HostDriver;
  let peer: PeerDriver;
  let listener: DrivenListener;
  before(async () => {
    topology = await Topology.up();
    gateway = await Gateway.start(topology);
    [a, b] = await Promise.all([HostDriver.start(gateway, 'a'), HostDriver.start(gateway, 'b')]);
    peer = new PeerDriver(topology);
  });
  beforeEach(async () => {
    await a.register({ publish: [PORT] });
    listener = await a.listen(PORT);
  });
  after(async () => {
    await topology.down();
  });

  const dial = (localPort: number): Promise<DrivenConnection> =>
    peer.connect({ address: ADDRESSES.outside, port: PORT, localPort });

  /** A connection from a port of the peer, on which bytes went to the guest. */
  async function talk(localPort: number): Promise<{ theirs: DrivenConnection; ours: DrivenConnection }> {
    const theirs = await dial(localPort);
    const ours = await listener.accept();
    await ours.expect(1);
    await theirs.send(1, SIZE);
    await ours.hasReceived(1, SIZE);
    return { theirs, ours };
  }

  async function moveToB(options?: MoveOptions): Promise<void> {
    await moveGuest(a, b, options);
  }

  async function endGuest(): Promise<void> {
    await b.call('unregister');
    await b.call('destroyGuest');
  }

  test('S36: that ended after the guest, while it was frozen or later, connects from the same port at once', async () => {
    const frozen = await talk(40_200);
    const later = await talk(40_201);
    for (const { ours } of [frozen, later]) await a.close(ours);
    await waitFor(async () => (await gateway.flows()).every(({ state }) => state === 'FIN-WAIT-2'), {
      what: 'both FINs of the guest acknowledged',
    });
    await moveToB({
      after: async (step) => {
        if (step === 'freeze') await frozen.theirs.finish();
      },
    });
    await later.theirs.finish();
    for (const [port, { theirs }] of [
      [40_200, frozen],
      [40_201, later],
    ] as const) {
      await theirs.until(({ closed }) => closed);
      await (await dial(port)).destroy();
    }
    await waitFor(async () => (await gateway.flows()).length === 0, { what: 'no flow', timeout: 20_000 });
    await endGuest();
  });

  test('S32: that resets between the new socket and the commit is heard', async () => {
    const { theirs, ours } = await talk(40_202);
    await moveToB({
      after: async (step) => {
        if (step !== 'restore') return;
        await theirs.destroy();
        await waitFor(async () => (await gateway.flows()).every(({ state }) => state === 'CLOSED'), {
          what: 'the RST',
        });
      },
    });
    await b.connection(ours.index).until(({ error }) => error === 'ECONNRESET');
    await endGuest();
  });

  test('S33: for whom somebody has forged a FIN goes on, and so does the guest', async () => {
    const { theirs, ours } = await talk(40_203);
    const { local: from } = await theirs.report();
    const { body } = await gateway.get(`/v1/flows/${(await gateway.flowOf(from)).id}`);
    const { sequence } = body as { sequence: { peerIsn: number; peerNxt: number; guestIsn: number; sndUna: number } };
    const injector = await Injector.of(topology, 'peer', 'eth0', ADDRESSES.outside);
    const fields = {
      flags: FIN | ACK,
      seq: sequence.peerIsn + 1 + sequence.peerNxt + 1000,
      ack: sequence.guestIsn + 1 + sequence.sndUna,
    };
    await injector.send([tcp({ from, to: `${ADDRESSES.outside}:${PORT}` }, fields)]);
    await theirs.send(1, SIZE);
    await ours.hasReceived(1, 2 * SIZE);
    assert.equal((await gateway.flowOf(from)).state, 'ESTABLISHED');
    await moveToB();
    const moved = b.connection(ours.index);
    await theirs.send(1, SIZE);
    await theirs.finish();
    await moved.hasReceived(1, 3 * SIZE, { ended: true });
    await endGuest();
  });
});
