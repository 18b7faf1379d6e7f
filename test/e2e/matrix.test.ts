/**
 * The matrix: a guest in Wasm serves, or connects, while bytes flow out of it, into it, both ways, or not at all, and moves from
 * host to host and back in the middle. Each cell with a guest and a peer of its own; the peer's kernel must count no harm.
 *
 * Paces of a megabyte or two a second make a transfer last while the guest moves; the rest then goes at full speed.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { Hosts, type MovingGuest } from '../support/hosts.ts';
import { Paced, SLOW } from '../support/paced.ts';
import { PeerDriver, type DrivenConnection } from '../support/peer-driver.ts';
import { Talk, nc, nginx, proxyTo, waitListening } from '../support/peers.ts';
import { pattern, patternHash } from '../support/stream.ts';
import { ADDRESSES } from '../support/topology.ts';

const SIZE = 24_000_000;
/** Bytes that must flow between two moves. */
const STRETCH = 200_000;

let hosts: Hosts;
let peer: PeerDriver;

/** A → B → A, with a stretch of the transfer before, between and after. */
async function thereAndBack(guest: MovingGuest, stretch: () => Promise<void>): Promise<void> {
  await stretch();
  await guest.move();
  await stretch();
  await guest.move();
  await stretch();
  assert.equal(guest.place, 'a');
}

/** As {@link thereAndBack}, measured by what a driven peer has sent or received. */
async function whileDriven(guest: MovingGuest, connection: DrivenConnection, way: 'sent' | 'received'): Promise<void> {
  await thereAndBack(guest, async () => {
    const { bytes } = (await connection.report())[way];
    const report = await connection.until((now) => now[way].bytes >= bytes + STRETCH);
    assert.ok(report[way].bytes < SIZE, 'in the middle of the transfer');
  });
}

async function oneFlowSplicedTwice(guest: MovingGuest): Promise<void> {
  const flows = (await guest.flows()).filter(({ state }) => state === 'ESTABLISHED');
  assert.deepEqual(
    flows.map(({ splices, leg, epoch, frozen }) => ({ splices, leg, epoch, frozen })),
    [{ splices: 2, leg: 'a', epoch: 3, frozen: false }],
  );
}

before(async () => {
  hosts = await Hosts.up();
  await hosts.smallBuffersAtPeer();
  peer = new PeerDriver(hosts.topology);
});
after(async () => {
  await hosts[Symbol.asyncDispose]();
});

async function noHarm(): Promise<void> {
  assert.deepEqual(await hosts.harm(), {});
}

describe('a guest that serves moves A → B → A', { timeout: 300_000, concurrency: 2 }, () => {
  test('data out: curl downloads from stream', async () => {
    const guest = await hosts.run('stream', { publish: true });
    const url = `http://${ADDRESSES.outside}:${guest.port}/stream/${SIZE}/11`;
    const curl = new Paced(hosts.topology, 'peer', ['curl', '-sS', '--no-buffer', '--retry', '0', url]);
    await thereAndBack(guest, () => curl.further(STRETCH));
    assert.ok(curl.bytes < SIZE, 'in the middle of the transfer');
    await oneFlowSplicedTwice(guest);
    assert.deepEqual(await curl.result(), { bytes: SIZE, sha256: patternHash(11, SIZE) });
    await noHarm();
  });

  test('data in: a peer uploads to stream', async () => {
    const guest = await hosts.run('stream', { publish: true });
    const connection = await peer.connect({ address: ADDRESSES.outside, port: guest.port });
    await connection.say(`PUT ${SIZE} 12\n`);
    await connection.send(12, SIZE, SLOW);
    await whileDriven(guest, connection, 'sent');
    await oneFlowSplicedTwice(guest);
    await connection.hurry();
    const answer = `OK ${SIZE} ${patternHash(12, SIZE)}\n`;
    await connection.hasReceivedText(answer);
    await connection.finish();
    await connection.until(({ closed }) => closed);
    await noHarm();
  });

  test('data in and out at once: a peer and stream', async () => {
    const guest = await hosts.run('stream', { publish: true });
    const connection = await peer.connect({ address: ADDRESSES.outside, port: guest.port });
    await connection.expect(13, SIZE);
    await connection.pace(SLOW);
    await connection.say(`BOTH ${SIZE} 13\n`);
    await connection.send(14, SIZE, SLOW);
    await whileDriven(guest, connection, 'received');
    await oneFlowSplicedTwice(guest);
    await connection.hurry();
    const report = await connection.hasReceived(13, SIZE, { ended: true });
    assert.equal(report.received.rest, `OK ${SIZE} ${patternHash(14, SIZE)}\n`);
    await connection.finish();
    await connection.until(({ closed }) => closed);
    await noHarm();
  });

  test('idle: nc keeps a chat open and says a line between moves', async () => {
    const guest = await hosts.run('chat', { publish: true });
    const talk = nc(hosts.topology, 'peer', ADDRESSES.outside, guest.port);
    talk.say('my name is Grace');
    await talk.hear(/Grace/);
    await guest.move();
    talk.say('hello from here');
    await talk.hear(/./);
    await guest.move();
    await oneFlowSplicedTwice(guest);
    talk.say('recall');
    await talk.hear(/hello from here/);
    talk.say('bye');
    talk.finish();
    await talk.running.done();
    await noHarm();
  });
});

describe('a guest that connects moves A → B → A', { timeout: 300_000, concurrency: 2 }, () => {
  test('data in: fetch downloads from nginx', async () => {
    // What nginx passes on comes at a pace, too.
    const { port, accept } = await peer.listen();
    await nginx(hosts.topology, { port: 8081, files: {}, directives: proxyTo(port) });
    const guest = await hosts.run('fetch', { args: ['http', ADDRESSES.peer, '8081', '/data'] });
    const upstream = await accept();
    await upstream.say(`HTTP/1.1 200 OK\r\nContent-Length: ${SIZE}\r\n\r\n`);
    await upstream.send(21, SIZE, SLOW);
    await thereAndBack(guest, async () => {
      const { bytesIn } = await guest.flow();
      await guest.untilFlow((flow) => flow.bytesIn >= bytesIn + STRETCH);
    });
    await oneFlowSplicedTwice(guest);
    await upstream.hurry();
    assert.equal(await guest.exitCode(), 0);
    await guest.hasSaid(new RegExp(`^bytes ${SIZE} sha256 ${patternHash(21, SIZE)}$`, 'm'));
    await upstream.finish();
    await upstream.until(({ closed }) => closed);
    await noHarm();
  });

  test('data out: fetch uploads to socat', async () => {
    const socat = new Paced(hosts.topology, 'peer', ['socat', '-u', 'TCP4-LISTEN:8082', 'STDOUT']);
    await waitListening(hosts.topology, 'peer', 8082, socat.running);
    const guest = await hosts.run('fetch', { args: ['send', ADDRESSES.peer, '8082', String(SIZE), '22'] });
    await thereAndBack(guest, () => socat.further(STRETCH));
    assert.ok(socat.bytes < SIZE, 'in the middle of the transfer');
    await oneFlowSplicedTwice(guest);
    assert.deepEqual(await socat.result(), { bytes: SIZE, sha256: patternHash(22, SIZE) });
    assert.equal(await guest.exitCode(), 0);
    await noHarm();
  });

  test('data in and out at once: fetch and a peer', async () => {
    const { port, accept } = await peer.listen();
    const guest = await hosts.run('fetch', { args: ['both', ADDRESSES.peer, String(port), String(SIZE), '23'] });
    const connection = await accept();
    const request = `BOTH ${SIZE} 23\n`;
    await connection.pace(SLOW);
    await connection.send(23, SIZE, SLOW);
    await whileDriven(guest, connection, 'received');
    await oneFlowSplicedTwice(guest);
    await connection.hurry();
    const { received } = await connection.until((now) => now.received.bytes === request.length + SIZE);
    const sent = Buffer.concat([Buffer.from(request), pattern(24, 0, SIZE)]);
    assert.equal(received.sha256, sha256(sent));
    await connection.until((now) => now.sent.waiting === 0);
    await connection.say(`OK ${SIZE} ${patternHash(24, SIZE)}\n`);
    assert.equal(await guest.exitCode(), 0);
    await guest.hasSaid(new RegExp(`^bytes ${SIZE} sha256 ${patternHash(23, SIZE)}$`, 'm'));
    await connection.finish();
    await connection.until(({ closed }) => closed);
    await noHarm();
  });

  test('idle: nc is connected to and says a line between moves', async () => {
    const talk = new Talk(hosts.topology.spawn('peer', ['nc', '-l', '-N', '-p', '8084']));
    await waitListening(hosts.topology, 'peer', 8084, talk.running);
    const guest = await hosts.run('fetch', { args: ['idle', ADDRESSES.peer, '8084'] });
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
    talk.finish();
    await talk.running.done();
    assert.equal(await guest.exitCode(), 0);
    assert.equal(talk.transcript, 'idle\nidle 1\nidle 2\nidle 3\n');
    await noHarm();
  });
});

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
