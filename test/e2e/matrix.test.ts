/**
 * The matrix: a guest in Wasm serves, or connects, while bytes flow out of it, into it, both ways, or not at all, and moves from
 * host to host and back in the middle; on each engine, and changing it at each move. Each cell with a guest and a peer of its own;
 * the peer's kernel must count no harm.
 *
 * Paces of a megabyte or two a second make a transfer last while the guest moves; the rest then goes at full speed.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, test } from 'node:test';
import type { MovingGuest } from '../support/hosts.ts';
import { Paced, SLOW } from '../support/paced.ts';
import type { DrivenConnection } from '../support/peer-driver.ts';
import { Talk, nc, nginx, proxyTo, waitListening } from '../support/peers.ts';
import { ROUTES, V8, type Route } from '../support/routes.ts';
import { useScene } from '../support/scene.ts';
import { pattern, patternHash } from '../support/stream.ts';
import { ADDRESSES } from '../support/topology.ts';

/**
 * Several times what both kernels hold between guest and peer. A guest that is interpreted to the end gets less, at a slower pace.
 */
const SIZE = 24_000_000;
/** Bytes that must flow between two moves. */
const STRETCH = 100_000;

const scene = useScene();

interface Cell {
  readonly route: Route;
  /** Bytes to transfer in each direction, and bytes a second at first. */
  readonly size: number;
  readonly pace: number;
}

/** A → B → A, with a stretch of the transfer before, between and after. */
async function thereAndBack(guest: MovingGuest, stretch: () => Promise<void>): Promise<void> {
  for (let move = 0; move < 2; move++) {
    await stretch();
    // `kedge migrate`, which is slow to start, on the first route; of the others it moves the guests that idle.
    await (guest.route === V8 ? guest.move() : guest.moveQuickly());
    await guest.isOnItsEngine();
  }
  await stretch();
  assert.equal(guest.place, 'a');
}

/** As {@link thereAndBack}, measured by what a driven peer has sent or received. */
async function whileDriven(
  guest: MovingGuest,
  connection: DrivenConnection,
  way: 'sent' | 'received',
  size: number,
): Promise<void> {
  await thereAndBack(guest, async () => {
    const { bytes } = (await connection.report())[way];
    const report = await connection.until((now) => now[way].bytes >= bytes + STRETCH);
    assert.ok(report[way].bytes < size, 'in the middle of the transfer');
  });
}

async function oneFlowSplicedTwice(guest: MovingGuest): Promise<void> {
  const flows = (await guest.flows()).filter(({ state }) => state === 'ESTABLISHED');
  assert.deepEqual(
    flows.map(({ splices, leg, epoch, frozen }) => ({ splices, leg, epoch, frozen })),
    [{ splices: 2, leg: 'a', epoch: 3, frozen: false }],
  );
}

async function ends(connection: DrivenConnection): Promise<void> {
  await connection.finish();
  await connection.until(({ closed }) => closed);
}

type Rows = Readonly<Record<string, (cell: Cell) => Promise<void>>>;

const SERVES: Rows = {
  'data out: curl downloads from stream': async ({ route, size, pace }) => {
    const guest = await scene.hosts.run('stream', { publish: true, route });
    const url = `http://${ADDRESSES.outside}:${guest.port}/stream/${size}/11`;
    const curl = new Paced(
      scene.hosts.topology,
      'peer',
      ['curl', '-sS', '--no-buffer', '--retry', '0', url],
      undefined,
      pace,
    );
    await thereAndBack(guest, () => curl.further(STRETCH));
    assert.ok(curl.bytes < size, 'in the middle of the transfer');
    await oneFlowSplicedTwice(guest);
    assert.deepEqual(await curl.result(), { bytes: size, sha256: patternHash(11, size) });
  },

  'data in: a peer uploads to stream': async ({ route, size, pace }) => {
    const guest = await scene.hosts.run('stream', { publish: true, route });
    const connection = await scene.connect(guest);
    await connection.say(`PUT ${size} 12\n`);
    await connection.send(12, size, pace);
    await whileDriven(guest, connection, 'sent', size);
    await oneFlowSplicedTwice(guest);
    await connection.hurry();
    await connection.hasReceivedText(`OK ${size} ${patternHash(12, size)}\n`);
    await ends(connection);
  },

  'data in and out at once: a peer and stream': async ({ route, size, pace }) => {
    const guest = await scene.hosts.run('stream', { publish: true, route });
    const connection = await scene.connect(guest);
    await connection.expect(13, size);
    await connection.pace(pace);
    await connection.say(`BOTH ${size} 13\n`);
    await connection.send(14, size, pace);
    await whileDriven(guest, connection, 'received', size);
    await oneFlowSplicedTwice(guest);
    await connection.hurry();
    const report = await connection.hasReceived(13, size, { ended: true });
    assert.equal(report.received.rest, `OK ${size} ${patternHash(14, size)}\n`);
    await ends(connection);
  },

  'idle: nc keeps a chat open and says a line between moves': async ({ route }) => {
    const guest = await scene.hosts.run('chat', { publish: true, route });
    const talk = nc(scene.hosts.topology, 'peer', ADDRESSES.outside, guest.port);
    talk.say('my name is Grace');
    await talk.hear(/Grace/);
    await guest.move();
    talk.say('hello from here');
    await talk.hear(/./);
    await guest.move();
    await guest.isOnItsEngine();
    await oneFlowSplicedTwice(guest);
    talk.say('recall');
    await talk.hear(/hello from here/);
    talk.say('bye');
    talk.finish();
    await talk.running.done();
  },
};

const CONNECTS: Rows = {
  'data in: fetch downloads from nginx': async ({ route, size, pace }) => {
    // What nginx passes on comes at a pace, too.
    const { port, accept } = await scene.peer.listen();
    const front = scene.port();
    await nginx(scene.hosts.topology, { port: front, files: {}, directives: proxyTo(port) });
    const guest = await scene.hosts.run('fetch', { args: ['http', ADDRESSES.peer, String(front), '/data'], route });
    const upstream = await accept();
    await upstream.say(`HTTP/1.1 200 OK\r\nContent-Length: ${size}\r\n\r\n`);
    await upstream.send(21, size, pace);
    await thereAndBack(guest, async () => {
      const { bytesIn } = await guest.flow();
      await guest.untilFlow((flow) => flow.bytesIn >= bytesIn + STRETCH);
    });
    await oneFlowSplicedTwice(guest);
    await upstream.hurry();
    assert.equal(await guest.exitCode(), 0);
    await guest.hasSaid(new RegExp(`^bytes ${size} sha256 ${patternHash(21, size)}$`, 'm'));
    await ends(upstream);
  },

  'data out: fetch uploads to socat': async ({ route, size, pace }) => {
    const port = scene.port();
    const socat = new Paced(
      scene.hosts.topology,
      'peer',
      ['socat', '-u', `TCP4-LISTEN:${port}`, 'STDOUT'],
      undefined,
      pace,
    );
    await waitListening(scene.hosts.topology, 'peer', port, socat.running);
    const args = ['send', ADDRESSES.peer, String(port), String(size), '22'];
    const guest = await scene.hosts.run('fetch', { args, route });
    await thereAndBack(guest, () => socat.further(STRETCH));
    assert.ok(socat.bytes < size, 'in the middle of the transfer');
    await oneFlowSplicedTwice(guest);
    assert.deepEqual(await socat.result(), { bytes: size, sha256: patternHash(22, size) });
    assert.equal(await guest.exitCode(), 0);
  },

  'data in and out at once: fetch and a peer': async ({ route, size, pace }) => {
    // Before it can be told so, it would have read much.
    const { port, accept } = await scene.peer.listen({ rate: pace });
    const args = ['both', ADDRESSES.peer, String(port), String(size), '23'];
    const guest = await scene.hosts.run('fetch', { args, route });
    const connection = await accept();
    const request = `BOTH ${size} 23\n`;
    await connection.send(23, size, pace);
    await whileDriven(guest, connection, 'received', size);
    await oneFlowSplicedTwice(guest);
    await connection.hurry();
    const { received } = await connection.until((now) => now.received.bytes === request.length + size);
    const sent = Buffer.concat([Buffer.from(request), pattern(24, 0, size)]);
    assert.equal(received.sha256, sha256(sent));
    await connection.until((now) => now.sent.waiting === 0);
    await connection.say(`OK ${size} ${patternHash(24, size)}\n`);
    assert.equal(await guest.exitCode(), 0);
    await guest.hasSaid(new RegExp(`^bytes ${size} sha256 ${patternHash(23, size)}$`, 'm'));
    await ends(connection);
  },

  'idle: nc is connected to and says a line between moves': async ({ route }) => {
    const port = scene.port();
    const talk = new Talk(scene.hosts.topology.spawn('peer', ['nc', '-l', '-N', '-p', String(port)]));
    await waitListening(scene.hosts.topology, 'peer', port, talk.running);
    const guest = await scene.hosts.run('fetch', { args: ['idle', ADDRESSES.peer, String(port)], route });
    await talk.hear(/^idle$/);
    talk.say('one');
    await talk.hear(/^idle 1$/);
    await guest.move();
    talk.say('two');
    await talk.hear(/^idle 2$/);
    await guest.move();
    talk.say('three');
    await talk.hear(/^idle 3$/);
    await oneFlowSplicedTwice(guest);
    await guest.isOnItsEngine();
    talk.finish();
    await talk.running.done();
    assert.equal(await guest.exitCode(), 0);
    assert.equal(talk.transcript, 'idle\nidle 1\nidle 2\nidle 3\n');
  },
};

for (const [what, rows] of [
  ['a guest that serves', SERVES],
  ['a guest that connects', CONNECTS],
] as const) {
  describe(`${what} moves A → B → A`, { timeout: 300_000, concurrency: 3 }, () => {
    for (const route of ROUTES) {
      for (const [title, row] of Object.entries(rows)) {
        test(`${title}, on ${route.name}`, async () => {
          await row({ route, size: SIZE / route.slower, pace: SLOW / route.slower });
          await scene.noHarm();
        });
      }
    }
  });
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
