/**
 * A guest with connections that are busy in both directions for as long as a test needs them, and the proof at the end that
 * nothing happened to them: for tests of what is left when a move fails.
 */
import assert from 'node:assert/strict';
import type { GuestInfo } from '../../src/migrate/protocol.ts';
import type { HostName, Hosts, MovingGuest } from './hosts.ts';
import { Paced } from './paced.ts';
import type { DrivenConnection, PeerDriver } from './peer-driver.ts';
import { socat, type Talk } from './peers.ts';
import { patternHash } from './stream.ts';
import { ADDRESSES } from './topology.ts';
import { waitFor } from './wait.ts';

/** Bytes a second of the transfers: they outlast any test. What is left of them at the end is taken as fast as it comes. */
const RATE = 40_000;

/** States of a guest that is an agent's own. */
const LIVE = new Set(['running', 'moving', 'lingering']);

/** States of a flow that both sides have closed. */
const ENDED = new Set(['TIME-WAIT', 'CLOSED']);

export interface BusyOptions {
  /** Bytes of each stream, in each direction. */
  readonly size?: number;
  readonly on?: HostName;
}

export class Busy {
  readonly hosts: Hosts;
  readonly guest: MovingGuest;
  readonly #size: number;
  readonly #seed: number;
  readonly #download: Paced;
  readonly #both: DrivenConnection;
  readonly #echo: Talk;
  #words = 0;

  private constructor(
    guest: MovingGuest,
    size: number,
    seed: number,
    download: Paced,
    both: DrivenConnection,
    echo: Talk,
  ) {
    this.hosts = guest.hosts;
    this.guest = guest;
    this.#size = size;
    this.#seed = seed;
    this.#download = download;
    this.#both = both;
    this.#echo = echo;
  }

  static #seeds = 100;

  /** Starts a guest, a download from it by curl, a connection that carries bytes both ways, and one that echoes. */
  static async start(hosts: Hosts, peer: PeerDriver, options: BusyOptions = {}): Promise<Busy> {
    const { size = 12_000_000, on = 'a' } = options;
    await hosts.smallBuffersAtPeer();
    const guest = await hosts.run('stream', { publish: true, on });
    const seed = (Busy.#seeds += 10);
    const url = `http://${ADDRESSES.outside}:${guest.port}/stream/${size}/${seed}`;
    const curl = ['curl', '--silent', '--show-error', '--no-buffer', url];
    const download = new Paced(hosts.topology, 'peer', curl, undefined, RATE);
    const both = await peer.connect({ address: ADDRESSES.outside, port: guest.port });
    await both.expect(seed + 1, size);
    await both.pace(RATE);
    await both.say(`BOTH ${size} ${seed + 1}\n`);
    await both.send(seed + 2, size, RATE);
    const echo = socat(hosts.topology, 'peer', ADDRESSES.outside, guest.port);
    echo.say('ECHO');
    const busy = new Busy(guest, size, seed, download, both, echo);
    await both.until(({ sent, received }) => sent.bytes > 0 && received.bytes > 0);
    await download.further(1);
    await busy.answers();
    return busy;
  }

  /** The guest answers over the connection it has: bytes of transfers could still come from somebody's buffers. */
  async answers(): Promise<void> {
    const word = `word ${(this.#words += 1)}`;
    this.#echo.say(word);
    await this.#echo.hear(new RegExp(`^${word}$`), 60_000);
    assert.ok(this.#download.running.running, this.#download.running.describe());
    assert.equal((await this.#both.report()).error, null);
  }

  /** The agents that have the guest alive. */
  async livesAt(): Promise<(GuestInfo & { host: HostName })[]> {
    const hosts = (['a', 'b'] as const).filter((host) => this.hosts.agents[host].running.running);
    const lists = await Promise.all(
      hosts.map(async (host) => (await this.hosts.clients[host].list()).map((guest) => ({ ...guest, host }))),
    );
    return lists.flat().filter(({ name, state }) => name === this.guest.name && LIVE.has(state));
  }

  /** There is one live guest, at `host` in this epoch; the gateway agrees, and every connection goes on. */
  async isAt(host: HostName, epoch: number): Promise<void> {
    const alive = await this.livesAt();
    assert.deepEqual(
      alive.map((one) => [one.host, one.state, one.epoch]),
      [[host, 'running', epoch]],
    );
    const { body } = await this.hosts.gateway.get('/v1/guests');
    const known = (body as { guests: { name: string; state: string; epoch: number; leg: string }[] }).guests;
    const entry = known.find(({ name }) => name === this.guest.name);
    assert.deepEqual([entry?.state, entry?.leg, entry?.epoch], ['running', host, epoch]);
    const frozen = (await this.guest.flows()).filter((flow) => flow.frozen);
    assert.deepEqual(frozen, []);
    await this.answers();
  }

  /** Lets the transfers end and compares what came with what was sent. Then the gateway has nothing left to carry for the guest. */
  async finish(): Promise<void> {
    await this.#both.hurry();
    const file = await this.#download.result(120_000);
    assert.deepEqual(file, { bytes: this.#size, sha256: patternHash(this.#seed, this.#size) });
    const report = await this.#both.hasReceived(this.#seed + 1, this.#size, { ended: true, timeout: 120_000 });
    assert.equal(report.received.rest, `OK ${this.#size} ${patternHash(this.#seed + 2, this.#size)}\n`);
    await this.#both.finish();
    await this.#both.until(({ closed }) => closed);
    this.#echo.finish();
    await this.#echo.running.done();
    // The guest has its own time to close them; a flow that is still open when its guest ends stays until its peer has closed it.
    await waitFor(async () => (await this.guest.flows()).every(({ state }) => ENDED.has(state)), {
      what: 'the connections to end',
    });
  }
}
