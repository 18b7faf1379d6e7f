/**
 * UDP around moves: a guest that answers several peers, and sends over sockets of its own; there, back, and through an image. What
 * its kernel had received moves with it, in order; what comes while it stands still is dropped and counted.
 */
import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import { readFile } from 'node:fs/promises';
import { DatagramPeer, type DatagramSocket } from '../support/datagram-peer.ts';
import { compileGuest } from '../support/guests.ts';
import { MovingGuest } from '../support/hosts.ts';
import { V8 } from '../support/routes.ts';
import { useScene } from '../support/scene.ts';
import { ADDRESSES } from '../support/topology.ts';
import { waitFor } from '../support/wait.ts';

const PORT = 5000;
const SERVICE = `${ADDRESSES.outside}:${PORT}`;
const ALARM = `${ADDRESSES.outside}:${PORT + 1}`;
const SET = 'ttl 33, broadcast 1, rcvbuf 200000, sndbuf 100000, rcvtimeo 77000 ms';

const scene = useScene();

describe('a guest of datagrams', { timeout: 180_000 }, () => {
  let guest: MovingGuest;
  let peer: DatagramPeer;
  let one: DatagramSocket;
  let other: DatagramSocket;
  const from = ({ port }: DatagramSocket): string => `${ADDRESSES.peer}:${port}`;
  /** What the guest answers when a datagram came to its socket that serves. */
  const answer = (who: DatagramSocket, text: string): string => `0 ${from(who)} ${text.length} ${text}`;
  const drops = async (reason: string): Promise<number> => (await scene.hosts.gateway.status()).drops[reason] ?? 0;
  const came = async (who: DatagramSocket): Promise<number> => {
    const flows = await scene.hosts.gateway.flows();
    return flows.filter((flow) => flow.peer === from(who)).reduce((sum, flow) => sum + flow.packetsIn, 0);
  };

  before(async () => {
    const { hosts } = scene;
    const module = await readFile(await compileGuest(hosts.topology, 'datagrams'));
    const name = 'datagrams';
    const publish = [PORT, PORT + 1].map((port) => ({ proto: 'udp' as const, outsidePort: port, guestPort: port }));
    const spec = { name, engine: V8.engines[0], publish, dirs: [], env: {}, moduleName: name, args: [String(PORT)] };
    await hosts.clients.a.run(spec, module);
    guest = new MovingGuest(hosts, name, PORT, 'a', V8);
    await guest.hasSaid(/ready/);
    peer = new DatagramPeer(hosts.topology);
    [one, other] = await Promise.all([peer.open(), peer.open()]);
  });

  test('S41: answers each peer from the port that it was asked at, there, back and from an image', async () => {
    assert.equal(await one.ask(SERVICE, 'SET'), SET);
    for (const go of [() => guest.move(), () => guest.move(), () => guest.frozenDuring(() => Promise.resolve())]) {
      for (const [who, text] of [
        [one, 'hello'],
        [other, ''],
        [other, 'x'.repeat(1300)],
      ] as const) {
        await who.send(SERVICE, text);
        assert.deepEqual(await who.next(1), [{ from: SERVICE, text: answer(who, text) }]);
      }
      await go();
      assert.equal(await one.ask(SERVICE, 'OPTIONS'), SET);
    }
    const flows = (await guest.flows()).map(({ proto, splices, frozen, leg }) => ({ proto, splices, frozen, leg }));
    const expected = { proto: 'udp', splices: 3, frozen: false, leg: 'b' };
    assert.deepEqual(flows, [expected, expected]);
  });

  test('S41: a socket with a peer keeps it, its port and its outside port', async () => {
    const server = await peer.open();
    const [socket = ''] = (await one.ask(SERVICE, `CONNECT ${ADDRESSES.peer} ${server.port} first`)).split(' ');
    const [first] = await server.next(1);
    assert.ok(first !== undefined && first.text === 'first');
    for (let move = 0; move < 2; move++) {
      await guest.move();
      await server.send(first.from, 'back');
      assert.deepEqual(await server.next(1), [{ from: first.from, text: `${socket} ${from(server)} 4 back` }]);
      await one.ask(SERVICE, `SAY ${socket} again`);
      assert.deepEqual(await server.next(1), [{ from: first.from, text: 'again' }]);
    }
    // Nobody else is heard there.
    const closed = await drops('closed-port');
    await other.send(first.from, 'me too');
    await waitFor(async () => (await drops('closed-port')) === closed + 1, { what: 'a dropped datagram' });
  });

  test('S41: what its kernel had received comes first, in order, once', async () => {
    const texts = Array.from({ length: 60 }, (_, n) => (n % 20 === 7 ? '' : `datagram ${n}`));
    await one.send(SERVICE, 'SLEEP');
    await guest.hasSaid(/asleep/);
    const had = await came(other);
    for (let part = 0; part < 3; part++) {
      for (const text of texts.slice(20 * part, 20 * (part + 1))) await other.send(SERVICE, text);
      await waitFor(async () => (await came(other)) === had + 20 * (part + 1), { what: 'datagrams at the guest' });
      if (part < 2) await guest.move();
    }
    await one.send(ALARM, 'wake');
    assert.deepEqual(
      (await other.next(60)).map(({ text }) => text),
      texts.map((text) => answer(other, text)),
    );
    assert.equal((await one.next(1))[0]?.text, 'awake');
  });

  test('S41: what comes while it is in an image is counted, and no later than that', async () => {
    const counted = await drops('frozen-datagram');
    await guest.frozenDuring(async () => {
      for (let n = 0; n < 5; n++) await one.send(SERVICE, `frozen ${n}`);
      await waitFor(async () => (await drops('frozen-datagram')) === counted + 5, { what: 'five dropped datagrams' });
    });
    assert.equal(await one.ask(SERVICE, 'after'), answer(one, 'after'));
  });

  test('S27: fragments are dropped and counted, in both directions; what is too large for UDP is refused', async () => {
    const counted = await drops('fragment');
    const server = await peer.open();
    const send = (bytes: number): Promise<string> => one.ask(SERVICE, `SEND ${bytes} ${ADDRESSES.peer} ${server.port}`);
    assert.equal(await send(1473), '1473');
    assert.equal(await send(65_508), 'failed: Message too large');
    await one.send(SERVICE, 'x'.repeat(1473));
    await waitFor(async () => (await drops('fragment')) === counted + 4, { what: 'four fragments' });
    assert.equal(await send(1472), '1472');
    assert.deepEqual(
      (await server.next(1)).map(({ text }) => text.length),
      [1472],
    );
    assert.equal(await one.ask(SERVICE, 'hello'), answer(one, 'hello'));
  });
});
