/**
 * What is on the wire when guests move, by captures of both sides of the gateway that tshark reads: before the first move the same
 * segments on both sides, after it one constant SEQ delta, the one the gateway shows; no second handshake for the peer; no
 * acknowledgement of bytes nobody holds; all checksums right (test/support/checker.ts lists it all).
 *
 * Offload is off in this topology, so that what is captured is what a wire would carry.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { BothSidesCapture } from '../support/capture.ts';
import { assertClean, checkConversation, readBothSides } from '../support/checker.ts';
import type { CapturedRows } from '../support/checker/conversation.ts';
import { compileGuest } from '../support/guests.ts';
import { Hosts } from '../support/hosts.ts';
import { Paced } from '../support/paced.ts';
import { PeerDriver, type DrivenConnection } from '../support/peer-driver.ts';
import { Talk, nginx, proxyTo, socat, waitListening } from '../support/peers.ts';
import { patternHash } from '../support/stream.ts';
import { ADDRESSES } from '../support/topology.ts';
import { Watched } from '../support/watched.ts';

const SIZE = 8_000_000;
const PACE = 200_000;

let hosts: Hosts;
let peer: PeerDriver;
let turns: string;
let capture: BothSidesCapture;

/** What is to be checked, by the titles of the tests that drive it. */
const watched = new Map<string, Watched>();

async function whileMoving(
  connection: DrivenConnection,
  way: 'sent' | 'received',
  moves: readonly (() => Promise<unknown>)[],
): Promise<void> {
  for (const move of moves) {
    const { bytes } = (await connection.report())[way];
    await connection.until((now) => now[way].bytes > bytes + 30_000);
    await move();
  }
}

/** Each opens a connection, moves its guest and brings the connection to its end. */
const RUNS: Readonly<Record<string, () => Promise<Watched>>> = {
  'a download of curl': async () => {
    const guest = await hosts.run('stream', { publish: true });
    // More than the buffers of both kernels hold.
    const size = 16_000_000;
    const url = `http://${ADDRESSES.outside}:${guest.port}/stream/${size}/91`;
    const curl = new Paced(hosts.topology, 'peer', ['curl', '-sS', '--no-buffer', '--retry', '0', url]);
    await curl.further(100_000);
    const watch = await Watched.of(guest);
    await watch.move();
    await curl.further(100_000);
    await watch.move();
    assert.deepEqual(await curl.result(), { bytes: size, sha256: patternHash(91, size) });
    return watch;
  },

  'bytes both ways, to a guest that serves': async () => {
    const guest = await hosts.run('stream', { publish: true });
    const connection = await peer.connect({ address: ADDRESSES.outside, port: guest.port });
    await connection.expect(92, SIZE);
    await connection.pace(PACE);
    await connection.say(`BOTH ${SIZE} 92\n`);
    await connection.send(93, SIZE, PACE);
    const watch = await Watched.of(guest);
    await whileMoving(connection, 'received', [() => watch.move(), () => watch.move(), () => watch.move()]);
    assert.deepEqual(await hosts.gateway.tcpSockets(), [], 'the gateway has no TCP socket');
    await connection.hurry();
    const { received } = await connection.hasReceived(92, SIZE, { ended: true });
    assert.equal(received.rest, `OK ${SIZE} ${patternHash(93, SIZE)}\n`);
    await connection.finish();
    return watch;
  },

  'bytes both ways, from a guest that connects': async () => {
    const { port, accept } = await peer.listen({ rate: PACE });
    const guest = await hosts.run('fetch', { args: ['both', ADDRESSES.peer, String(port), String(SIZE), '94'] });
    const connection = await accept();
    const request = `BOTH ${SIZE} 94\n`;
    await connection.send(94, SIZE, PACE);
    const watch = await Watched.of(guest);
    await whileMoving(connection, 'received', [() => watch.move(), () => watch.move()]);
    await connection.hurry();
    await connection.until(({ received, sent }) => received.bytes === request.length + SIZE && sent.waiting === 0);
    await connection.say(`OK ${SIZE} ${patternHash(95, SIZE)}\n`);
    assert.equal(await guest.exitCode(), 0);
    await connection.finish();
    return watch;
  },

  'a download from nginx': async () => {
    const { port, accept } = await peer.listen();
    await nginx(hosts.topology, { port: 8091, files: {}, directives: proxyTo(port) });
    const guest = await hosts.run('fetch', { args: ['http', ADDRESSES.peer, '8091', '/data'] });
    const upstream = await accept();
    await upstream.say(`HTTP/1.1 200 OK\r\nContent-Length: ${SIZE}\r\n\r\n`);
    await upstream.send(96, SIZE, PACE);
    const watch = await Watched.of(guest);
    await guest.untilFlow(({ bytesIn }) => bytesIn > 50_000);
    await watch.move();
    await watch.move();
    await upstream.hurry();
    assert.equal(await guest.exitCode(), 0);
    await upstream.finish();
    await guest.hasSaid(new RegExp(`^bytes ${SIZE} sha256 ${patternHash(96, SIZE)}$`, 'm'));
    return watch;
  },

  'a connection that idles': async () => {
    const talk = new Talk(hosts.topology.spawn('peer', ['nc', '-l', '-N', '-p', '8092']));
    await waitListening(hosts.topology, 'peer', 8092, talk.running);
    const guest = await hosts.run('fetch', { args: ['idle', ADDRESSES.peer, '8092'] });
    await talk.hear(/^idle$/);
    const watch = await Watched.of(guest);
    for (const line of ['idle 1', 'idle 2', 'idle 3']) {
      await watch.move();
      talk.say('well?');
      await talk.hear(new RegExp(`^${line}$`));
    }
    talk.finish();
    await talk.running.done();
    assert.equal(await guest.exitCode(), 0);
    return watch;
  },

  'custody of what a peer sends to an image on disk, with its end': async () => {
    const guest = await hosts.run('stream', { publish: true });
    const size = 2_500_000;
    const connection = await peer.connect({ address: ADDRESSES.outside, port: guest.port });
    await connection.expect(97);
    await connection.say('ECHO\n');
    await connection.send(97, 100_000);
    await connection.hasReceived(97, 100_000);
    const watch = await Watched.of(guest);
    await watch.frozenDuring(async () => {
      await connection.send(97, size - 200_000);
      await guest.untilFlow(({ custodyBytes }) => custodyBytes === size - 200_000);
    });
    // Again, before custody can have gone to the guest in all cases (S39).
    await watch.frozenDuring(async () => {
      await connection.send(97, 100_000);
      await connection.finish();
      await guest.untilFlow(({ state }) => state === 'CLOSE-WAIT');
    });
    await connection.hasReceived(97, size, { ended: true });
    await connection.until(({ closed }) => closed);
    return watch;
  },

  'a response that was written and closed before the move': async () => {
    const guest = await hosts.run(turns, { publish: true });
    const size = 24_000;
    const command = ['nc', '-N', '-I', '4096', ADDRESSES.outside, String(guest.port)];
    const nc = new Paced(hosts.topology, 'peer', command, `WORK 200000000\nSEND ${size} 98\n`);
    await guest.hasSaid(/working/);
    nc.running.signal('SIGSTOP');
    await guest.hasSaid(/closed/);
    const watch = await Watched.of(guest);
    await watch.move();
    await watch.move();
    nc.running.signal('SIGCONT');
    // 17 bytes are the answer to WORK.
    assert.equal((await nc.result()).bytes, 17 + size);
    return watch;
  },

  'keepalives of a peer while frozen': async () => {
    const guest = await hosts.run('chat', { publish: true });
    const options = 'keepalive,keepidle=1,keepintvl=1,keepcnt=2';
    const talk = socat(hosts.topology, 'peer', ADDRESSES.outside, guest.port, options);
    talk.say('my name is Ada');
    await talk.hear(/Ada/);
    const watch = await Watched.of(guest);
    const probes = async (): Promise<number> => (await hosts.peerCounters())['TcpExtTCPKeepAlive'] ?? 0;
    await watch.frozenDuring(async () => {
      const earlier = await probes();
      await guest.untilNo(async () => (await probes()) < earlier + 4);
    });
    talk.say('bye');
    await talk.hear(/./);
    talk.finish();
    await talk.running.done();
    return watch;
  },
};

before(async () => {
  hosts = await Hosts.up({ offload: 'off' });
  await hosts.smallBuffersAtPeer();
  peer = new PeerDriver(hosts.topology);
  turns = await compileGuest(hosts.topology, 'turns');
  capture = await BothSidesCapture.start(hosts.topology, { full: true });
});
after(async () => {
  await hosts[Symbol.asyncDispose]();
});

describe('captured on both sides of the gateway', { timeout: 300_000, concurrency: 3 }, () => {
  for (const [title, run] of Object.entries(RUNS)) {
    test(title, async () => {
      watched.set(title, await run());
    });
  }
});

describe('the checker finds nothing wrong with', { timeout: 300_000 }, () => {
  let rows: CapturedRows;
  before(async () => {
    rows = await readBothSides(await capture.stop());
  });

  for (const title of Object.keys(RUNS)) {
    test(title, () => {
      const watch = watched.get(title);
      assert.ok(watch !== undefined, 'it ran');
      const { tuple, firstMove, guest, shown } = watch;
      const report = checkConversation(rows, tuple, { firstMove, moves: guest.moves.length });
      assertClean(report);
      assert.deepEqual(
        report.deltas.map(({ leg, delta }) => ({ leg, delta })),
        shown,
      );
      assert.ok(new Set(report.epochs.map(({ isn }) => isn)).size === guest.moves.length + 1, 'an ISN for each epoch');
    });
  }

  test('the counters of the peer', async () => {
    assert.deepEqual(await hosts.harm(), {});
  });
});
