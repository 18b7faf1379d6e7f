/**
 * Guests in images on disk, and what their peers do meanwhile: keep an idle connection alive for a minute with probes each second,
 * send on and on with a TCP_USER_TIMEOUT, try to connect. All at once, each with a guest of its own; on V8, and going on on WAMR.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Download, socat } from '../support/peers.ts';
import { BOTH, V8, type Route } from '../support/routes.ts';
import { useScene } from '../support/scene.ts';
import { patternHash } from '../support/stream.ts';
import { ADDRESSES } from '../support/topology.ts';
import { elapsed, waitFor } from '../support/wait.ts';

const scene = useScene();

describe('while the guest is in an image on disk', { timeout: 300_000, concurrency: true }, () => {
  for (const route of [V8, BOTH]) describe(`on ${route.name}`, { concurrency: true }, () => frozen(route));
});

function frozen(route: Route): void {
  test('S29: a peer with a keepalive of 1 s lives through 60 s', async () => {
    const guest = await scene.hosts.run('chat', { publish: true, route });
    // Dead after 4 s without an answer.
    const keepalive = 'keepalive,keepidle=1,keepintvl=1,keepcnt=3';
    const talk = socat(scene.hosts.topology, 'peer', ADDRESSES.outside, guest.port, keepalive);
    talk.say('my name is Ada');
    await talk.hear(/Ada/);
    talk.say('remember the tide');
    await talk.hear(/./);
    const probesBefore = await keepaliveProbes();
    await guest.frozenDuring(async () => {
      await elapsed(60_000);
      assert.ok(talk.running.running, talk.running.describe());
    });
    // Of two peers, one for each route, at about the same time.
    assert.ok((await keepaliveProbes()) - probesBefore >= 80, 'a probe each second');
    talk.say('recall');
    await talk.hear(/remember the tide/);
    talk.say('bye');
    talk.finish();
    await talk.running.done();
  });

  test('S30, S31: a peer with a TCP_USER_TIMEOUT of 3 s sends 100 KiB/s for 10 s', async () => {
    const guest = await scene.hosts.run('stream', { publish: true, route });
    const size = 3 * 1024 * 1024;
    // IPPROTO_TCP, TCP_USER_TIMEOUT, milliseconds.
    const socatOptions = 'setsockopt-int=6:18:3000';
    const connection = await scene.peer.connect({ address: ADDRESSES.outside, port: guest.port, socat: socatOptions });
    await connection.say(`PUT ${size} 71\n`);
    await connection.send(71, size, 100 * 1024);
    await guest.untilFlow(({ bytesIn }) => bytesIn > 50 * 1024);
    await guest.frozenDuring(async () => {
      const { sent } = await connection.report();
      await elapsed(10_000);
      const now = await connection.until((report) => report.sent.bytes - sent.bytes >= 900 * 1024);
      assert.equal(now.error, null);
      const { custodyBytes } = await guest.flow();
      assert.ok(custodyBytes >= 800 * 1024, `${custodyBytes} bytes in custody`);
    });
    await connection.hurry();
    await connection.hasReceivedText(`OK ${size} ${patternHash(71, size)}\n`);
    await connection.finish();
    await connection.until(({ closed }) => closed);
  });

  test('S31: a peer that sends more than custody takes is stopped, and goes on after it', async () => {
    const guest = await scene.hosts.run('stream', { publish: true, route });
    const size = 24 * 1024 * 1024;
    const connection = await scene.connect(guest);
    await connection.say(`PUT ${size} 72\n`);
    await connection.send(72, size, 400 * 1024);
    await guest.untilFlow(({ bytesIn }) => bytesIn > 100 * 1024);
    await guest.frozenDuring(async () => {
      await connection.hurry();
      // Custody is full, its window is closed, and the peer's own buffer takes no more.
      let last = -1;
      await waitFor(
        async () => {
          const { custodyBytes } = await guest.flow();
          const full = custodyBytes > 3 * 1024 * 1024 && custodyBytes === last;
          last = custodyBytes;
          return full;
        },
        { interval: 500, timeout: 60_000, what: 'custody to be full' },
      );
    });
    await connection.hasReceivedText(`OK ${size} ${patternHash(72, size)}\n`, { timeout: 60_000 });
    await connection.finish();
    await connection.until(({ closed }) => closed);
  });

  test('S15: new connections to its listener wait, and are served after', async () => {
    const guest = await scene.hosts.run('stream', { publish: true, route });
    const size = 200_000;
    const url = (seed: number): string => `http://${ADDRESSES.outside}:${guest.port}/stream/${size}/${seed}`;
    const downloads = await guest.frozenDuring(async () => {
      const started = [73, 74, 75].map((seed) => new Download(scene.hosts.topology, 'peer', url(seed)));
      await waitFor(async () => (await waiting(guest.port)) === 3, { what: 'three SYNs to be on their way' });
      // Longer than a first SYN waits before it is sent again.
      await elapsed(1_500);
      assert.ok(started.every(({ curl }) => curl.running));
      return started;
    });
    for (const [index, download] of downloads.entries())
      assert.deepEqual(await download.result(), { bytes: size, sha256: patternHash(73 + index, size) });
  });
}

describe('after all that', () => {
  test('the peer counted no harm', async () => {
    await scene.noHarm();
  });
});

/** Keepalive probes the peer has sent since it is up. */
async function keepaliveProbes(): Promise<number> {
  return (await scene.hosts.peerCounters())['TcpExtTCPKeepAlive'] ?? 0;
}

/** Connects of the peer to a port that are not answered yet. */
async function waiting(port: number): Promise<number> {
  const lines = await scene.hosts.topology.run('peer', ['ss', '-H', '-tn', 'state', 'syn-sent', `dport = :${port}`]);
  return lines.split('\n').filter((line) => line !== '').length;
}
