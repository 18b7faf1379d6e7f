/**
 * Many moves, many connections, and guests that are in the middle of something when they are stopped: blocked in accept, recv or
 * poll, or computing. On each engine, and changing it at each move.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { compileGuest } from '../support/guests.ts';
import type { MovingGuest } from '../support/hosts.ts';
import { SLOW } from '../support/paced.ts';
import { nc, socat } from '../support/peers.ts';
import { BOTH, ROUTES, V8, WAMR, type Route } from '../support/routes.ts';
import { useScene } from '../support/scene.ts';
import { patternHash } from '../support/stream.ts';
import { ADDRESSES } from '../support/topology.ts';

const SIZE = 32_000_000;

/** Rounds of arithmetic of some seconds, and what they come to: computed once by the same C, compiled for x86-64. */
const COMPILED = { rounds: 800_000_000, result: 'f505f44521933635' };
const INTERPRETED = { rounds: 150_000_000, result: '41aa2de087a48563' };

/** A guest must stop at once; this is how long it may take on a machine that does much else, milliseconds. */
const STOP_MS = 3_000;

let turns: string;
const scene = useScene({
  ready: async ({ topology }) => {
    turns = await compileGuest(topology, 'turns');
  },
});

/** Half as long a wait, half as much a second for each: these run beside each other. */
const PACE = SLOW / 2;

describe('in a row and at once', { timeout: 300_000, concurrency: 2 }, () => {
  // An even number of moves on the route of both: what is left to transfer is left to V8.
  for (const route of [V8, BOTH]) {
    test(`S39: one connection is moved 20 times in a row, bytes flowing both ways, on ${route.name}`, async () => {
      const guest = await scene.hosts.run('stream', { publish: true, route });
      const connection = await scene.connect(guest);
      await connection.expect(31, SIZE);
      await connection.pace(PACE);
      await connection.say(`BOTH ${SIZE} 31\n`);
      await connection.send(32, SIZE, PACE);
      for (let move = 1; move <= 20; move++) {
        const { sent, received } = await connection.report();
        await guest.moveQuickly();
        await guest.isOnItsEngine();
        await connection.until(
          (now) => now.sent.bytes > sent.bytes + 20_000 && now.received.bytes > received.bytes + 20_000,
          { what: `bytes in both directions after move ${move}` },
        );
      }
      const { sent, received } = await connection.report();
      assert.ok(sent.bytes < SIZE && received.bytes < SIZE, 'in the middle of the transfer');
      const { splices, epoch, leg } = await guest.flow();
      assert.deepEqual({ splices, epoch, leg }, { splices: 20, epoch: 21, leg: 'a' });
      await connection.hurry();
      const report = await connection.hasReceived(31, SIZE, { ended: true });
      assert.equal(report.received.rest, `OK ${SIZE} ${patternHash(32, SIZE)}\n`);
      await connection.finish();
      await connection.until(({ closed }) => closed);
      await scene.noHarm();
    });
  }

  for (const route of [V8, BOTH]) {
    test(`50 connections of one guest move at once, on ${route.name}`, async () => {
      const guest = await scene.hosts.run('stream', { publish: true, route });
      const size = 600_000;
      const connections = await Promise.all(Array.from({ length: 50 }, () => scene.connect(guest)));
      await Promise.all(
        connections.map(async (connection, index) => {
          const seed = 1000 + 2 * index;
          await connection.pace(SLOW / 40);
          // Every third idles until the moves are over.
          if (index % 3 === 0) return;
          await connection.expect(seed, size);
          await connection.say(index % 3 === 1 ? `BOTH ${size} ${seed}\n` : `GET ${size} ${seed}\n`);
          if (index % 3 === 1) await connection.send(seed + 1, size, SLOW / 40);
        }),
      );
      const busy = connections.filter((_, index) => index % 3 !== 0);
      for (let move = 0; move < 2; move++) {
        const earlier = await Promise.all(busy.map(async (connection) => (await connection.report()).received.bytes));
        await Promise.all(
          busy.map((connection, i) => connection.until(({ received }) => received.bytes > (earlier[i] ?? 0))),
        );
        await guest.move();
        await guest.isOnItsEngine();
      }
      const moved = (await guest.flows()).filter(({ state }) => state === 'ESTABLISHED' || state === 'CLOSE-WAIT');
      assert.ok(
        moved.every(({ splices, leg }) => splices === 2 && leg === 'a'),
        JSON.stringify(moved),
      );
      assert.ok(moved.length >= 17, `${moved.length} connections are left`);
      await Promise.all(
        connections.map(async (connection, index) => {
          const seed = 1000 + 2 * index;
          await connection.hurry();
          if (index % 3 === 0) {
            await connection.expect(seed, size);
            await connection.say(`BOTH ${size} ${seed}\n`);
            await connection.send(seed + 1, size);
          }
          const { received } = await connection.hasReceived(seed, size, { ended: true, timeout: 60_000 });
          assert.equal(received.rest, index % 3 === 2 ? '' : `OK ${size} ${patternHash(seed + 1, size)}\n`);
          await connection.finish();
          await connection.until(({ closed }) => closed);
        }),
      );
      await scene.noHarm();
    });
  }
});

/** A → B → A; each stop was quick. */
async function thereAndBack(guest: MovingGuest): Promise<void> {
  for (let move = 0; move < 2; move++) {
    const stop = (await guest.moveQuickly()).stages.find(({ name }) => name === 'source.stop');
    assert.ok(stop !== undefined && stop.ms < STOP_MS, JSON.stringify(stop));
    await guest.isOnItsEngine();
  }
}

const STOPPED: Readonly<Record<string, (route: Route) => Promise<void>>> = {
  'in accept goes on to accept': async (route) => {
    const guest = await scene.hosts.run(turns, { publish: true, route });
    await thereAndBack(guest);
    const talk = nc(scene.hosts.topology, 'peer', ADDRESSES.outside, guest.port);
    talk.say('WORK 0');
    assert.equal((await talk.hear(/./)).input, '0139408dcbbf7a44');
    talk.finish();
    await talk.running.done();
    await guest.hasSaid(/accepted[^]*closed/);
  },

  'in recv goes on to receive': async (route) => {
    const guest = await scene.hosts.run(turns, { publish: true, route });
    const talk = socat(scene.hosts.topology, 'peer', ADDRESSES.outside, guest.port);
    await guest.hasSaid(/accepted/);
    await thereAndBack(guest);
    talk.say('WORK 0');
    assert.equal((await talk.hear(/./)).input, '0139408dcbbf7a44');
    assert.equal((await guest.flow()).splices, 2);
    talk.finish();
    await talk.running.done();
  },

  'in poll goes on to poll, over its listener and its connections': async (route) => {
    const guest = await scene.hosts.run('stream', { publish: true, route });
    const old = socat(scene.hosts.topology, 'peer', ADDRESSES.outside, guest.port);
    old.say('ECHO');
    old.say('before');
    await old.hear(/^before$/);
    await thereAndBack(guest);
    const fresh = nc(scene.hosts.topology, 'peer', ADDRESSES.outside, guest.port);
    fresh.say('ECHO');
    fresh.say('a new connection');
    await fresh.hear(/^a new connection$/);
    old.say('after');
    await old.hear(/^after$/);
    for (const talk of [old, fresh]) {
      talk.finish();
      await talk.running.done();
    }
  },

  'while it computes goes on to compute, and its answer comes over the same connection': async (route) => {
    const { rounds, result } = route === WAMR ? INTERPRETED : COMPILED;
    const guest = await scene.hosts.run(turns, { publish: true, route });
    const talk = socat(scene.hosts.topology, 'peer', ADDRESSES.outside, guest.port);
    talk.say(`WORK ${rounds}`);
    await guest.hasSaid(/working/);
    await thereAndBack(guest);
    assert.equal((await talk.hear(/./, 120_000)).input, result);
    // Where it is now it has said no more than that: the rest was said, or would have been, on the way.
    await guest.hasSaid(/worked/);
    assert.equal(await guest.logs(), 'worked\n');
    assert.equal((await guest.flow()).splices, 2);
    talk.finish();
    await talk.running.done();
  },
};

describe('a guest that is stopped', { timeout: 300_000, concurrency: 2 }, () => {
  for (const route of ROUTES) {
    for (const [title, row] of Object.entries(STOPPED)) {
      test(`${title}, on ${route.name}`, async () => {
        await row(route);
        await scene.noHarm();
      });
    }
  }
});
