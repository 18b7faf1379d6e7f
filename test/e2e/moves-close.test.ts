/**
 * The ends of connections around a move: what the guest has written and closed just before, and peers that end their half, or all
 * of it, before, during and after. "During" is between `kedge checkpoint` and `kedge restore`, so that it is during for sure.
 * On V8, and changing the engine at each move.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, test } from 'node:test';
import { compileGuest } from '../support/guests.ts';
import type { MovingGuest } from '../support/hosts.ts';
import { Paced } from '../support/paced.ts';
import { Talk, socat, waitListening } from '../support/peers.ts';
import { BOTH, V8, type Route } from '../support/routes.ts';
import { useScene } from '../support/scene.ts';
import { pattern } from '../support/stream.ts';
import { ADDRESSES } from '../support/topology.ts';

/** More than fits into the window of a peer that does not read, less than the send buffer of a kernel takes at once. */
const RESPONSE = 24_000;

let turns: string;
const scene = useScene({
  ready: async ({ topology }) => {
    turns = await compileGuest(topology, 'turns');
  },
});

/** Both ends have said their last word. */
async function noFlowOpen(guest: MovingGuest): Promise<void> {
  await guest.untilNo(async () =>
    (await guest.flows()).some(({ state }) => state !== 'TIME-WAIT' && state !== 'CLOSED'),
  );
}

for (const route of [V8, BOTH]) describe(route.name, () => ends(route));

function ends(route: Route): void {
  describe('a response written just before the move', { timeout: 300_000 }, () => {
    /**
     * An nc with a small window that is stopped while the guest computes, so that most of what the guest writes after that stays in
     * its own kernel.
     */
    async function stoppedPeer(guest: MovingGuest, request: 'SEND' | 'QUIT'): Promise<Paced> {
      const command = ['nc', '-N', '-I', '4096', ADDRESSES.outside, String(guest.port)];
      const nc = new Paced(scene.hosts.topology, 'peer', command, `WORK 200000000\n${request} ${RESPONSE} 41\n`);
      await guest.hasSaid(/working/);
      nc.running.signal('SIGSTOP');
      return nc;
    }

    async function moveAndRead(guest: MovingGuest, nc: Paced): Promise<void> {
      const unacknowledged = async (): Promise<boolean> => (await guest.flow()).sequence.sndUna < RESPONSE - 5000;
      assert.ok(await unacknowledged(), 'the response was not all delivered before the move');
      await guest.move();
      await guest.move();
      assert.ok(await unacknowledged(), 'nor after it');
      nc.running.signal('SIGCONT');
      const answer = Buffer.from('3a9d44aa408bad62\n');
      const bytes = Buffer.concat([answer, pattern(41, 0, RESPONSE)]);
      assert.deepEqual(await nc.result(), { bytes: bytes.length, sha256: sha256(bytes) });
    }

    test('S49: and closed by the guest reaches the peer, with its end', async () => {
      const guest = await scene.hosts.run(turns, { publish: true, route });
      const nc = await stoppedPeer(guest, 'SEND');
      await guest.hasSaid(/closed/);
      await moveAndRead(guest, nc);
      await noFlowOpen(guest);
      // And it serves the next one.
      const talk = socat(scene.hosts.topology, 'peer', ADDRESSES.outside, guest.port);
      talk.say('WORK 0');
      await talk.hear(/./);
      talk.finish();
      await talk.running.done();
      await scene.noHarm();
    });

    test('S49: by a guest that has exited since reaches the peer, with its end', async () => {
      const guest = await scene.hosts.run(turns, { publish: true, route });
      const nc = await stoppedPeer(guest, 'QUIT');
      assert.equal(await guest.exitCode(), 0);
      await moveAndRead(guest, nc);
      await scene.noHarm();
    });
  });

  describe('a guest that has exited, with all it wrote acknowledged', { timeout: 300_000 }, () => {
    test('S36: its peer takes its time, and its FIN is acknowledged', async () => {
      const guest = await scene.hosts.run(turns, { publish: true, route });
      const connection = await scene.connect(guest);
      await connection.expect(43, 20_000);
      await connection.pause();
      await connection.say('QUIT 20000 43\n');
      assert.equal(await guest.exitCode(), 0);
      await guest.untilFlow(({ state }) => state === 'FIN-WAIT-2');
      await guest.move();
      // Nothing keeps it there; its port may be another's at once.
      await guest.untilNo(async () => (await scene.hosts.gateway.guests()).some(({ name }) => name === guest.name));
      const next = await scene.hosts.run('stream', { publish: guest.port, route });
      await connection.resume();
      await connection.hasReceived(43, 20_000, { ended: true });
      await connection.finish();
      await connection.until(({ closed }) => closed);
      // The peer has sent its FIN; the gateway may not have seen it yet.
      await guest.untilFlow(({ state }) => state === 'TIME-WAIT');
      const talk = socat(scene.hosts.topology, 'peer', ADDRESSES.outside, next.port);
      talk.say('ECHO');
      talk.say('served');
      await talk.hear(/^served$/);
      talk.finish();
      await talk.running.done();
      await scene.noHarm();
    });
  });

  describe('a peer that half-closes', { timeout: 300_000 }, () => {
    const SIZE = 300_000;

    test('S36: before the move, with its bytes not yet echoed', async () => {
      const guest = await scene.hosts.run('stream', { publish: true, route });
      const connection = await scene.connect(guest);
      await connection.expect(51);
      await connection.pause();
      await connection.say('ECHO\n');
      await connection.send(51, SIZE);
      await connection.finish();
      await connection.until(({ sent }) => sent.finished);
      await guest.move();
      await guest.move();
      await connection.resume();
      await connection.hasReceived(51, SIZE, { ended: true });
      await connection.until(({ closed }) => closed);
      await noFlowOpen(guest);
      await scene.noHarm();
    });

    test('S32, S36: while the guest is frozen, after bytes of that time', async () => {
      const guest = await scene.hosts.run('stream', { publish: true, route });
      const connection = await scene.connect(guest);
      await connection.expect(52);
      await connection.say('ECHO\n');
      await connection.send(52, SIZE);
      await connection.hasReceived(52, SIZE);
      await guest.frozenDuring(async () => {
        await connection.send(52, SIZE);
        await connection.finish();
        // Acknowledged, bytes and FIN: the peer has nothing left to send.
        await guest.untilFlow(({ state, custodyBytes }) => state === 'CLOSE-WAIT' && custodyBytes === SIZE);
      });
      await connection.hasReceived(52, 2 * SIZE, { ended: true });
      await connection.until(({ closed }) => closed);
      await noFlowOpen(guest);
      await scene.noHarm();
    });

    test('S36: after the move', async () => {
      const guest = await scene.hosts.run('stream', { publish: true, route });
      const connection = await scene.connect(guest);
      await connection.expect(53);
      await connection.say('ECHO\n');
      await connection.send(53, SIZE);
      await connection.hasReceived(53, SIZE);
      await guest.move();
      await connection.send(53, SIZE);
      await connection.finish();
      await connection.hasReceived(53, 2 * SIZE, { ended: true });
      await connection.until(({ closed }) => closed);
      await guest.move();
      await noFlowOpen(guest);
      await scene.noHarm();
    });

    test('S36: before a move in which the guest still writes, and does so after it', async () => {
      const guest = await scene.hosts.run('stream', { publish: true, route });
      const size = 10_000_000;
      const connection = await scene.connect(guest);
      await connection.expect(54, size);
      await connection.pace(300_000);
      await connection.say(`GET ${size} 54\n`);
      await connection.finish();
      for (let move = 0; move < 2; move++) {
        const { received } = await connection.report();
        await connection.until((now) => now.received.bytes > received.bytes + 100_000);
        await guest.move();
      }
      await connection.hurry();
      await connection.hasReceived(54, size, { ended: true });
      await connection.until(({ closed }) => closed);
      await noFlowOpen(guest);
      await scene.noHarm();
    });
  });

  describe('a peer that closes while the guest is frozen', { timeout: 300_000 }, () => {
    test('S32: has been heard to the last byte', async () => {
      const port = scene.port();
      const server = new Talk(scene.hosts.topology.spawn('peer', ['socat', '-u', 'STDIN', `TCP4-LISTEN:${port}`]));
      await waitListening(scene.hosts.topology, 'peer', port, server.running);
      const guest = await scene.hosts.run('fetch', { args: ['raw', ADDRESSES.peer, String(port)], route });
      await guest.hasSaid(/connected/);
      const lines = Array.from({ length: 20_000 }, (_, i) => `line ${i}`);
      server.say('the first');
      await guest.frozenDuring(async () => {
        server.say(lines.join('\n'));
        server.finish();
        // Gone, with a socket that is closed for both directions.
        await server.running.done();
      });
      const said = ['the first', ...lines, ''].join('\n');
      assert.equal(await guest.exitCode(), 0);
      await guest.hasSaid(new RegExp(`^bytes ${said.length} sha256 ${sha256(said)}$`, 'm'));
      await scene.noHarm();
    });

    test('S32: by RST is told when all that came before is read, also what came while it was frozen', async () => {
      const { port, accept } = await scene.peer.listen();
      const guest = await scene.hosts.run('fetch', { args: ['raw', ADDRESSES.peer, String(port)], route });
      const connection = await accept();
      await connection.send(61, 100_000);
      await guest.untilFlow(({ bytesIn }) => bytesIn > 100_000);
      await guest.frozenDuring(async () => {
        await connection.send(61, 50_000);
        await guest.untilFlow(({ custodyBytes }) => custodyBytes === 50_000);
        await connection.destroy();
        await guest.untilNo(async () => (await guest.flows()).some(({ state }) => state === 'ESTABLISHED'));
      });
      assert.equal(await guest.exitCode(), 1);
      await guest.hasSaid(/failed: receive after 150000 bytes: Connection reset by peer/);
      // The peer's own RST is all there was.
      assert.equal((await scene.hosts.harm())['TcpOutRsts'], 1);
    });
  });
}

function sha256(content: string | Uint8Array): string {
  return createHash('sha256').update(content).digest('hex');
}
