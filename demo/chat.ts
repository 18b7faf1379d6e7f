/** A conversation with the chat guest over `socat`, a line every few milliseconds, and what it must have been answered. */
import { createHash } from 'node:crypto';
import { setInterval as ticks } from 'node:timers/promises';
import type { Talk } from '../test/support/peers.ts';
import { socat } from '../test/support/peers.ts';
import type { Topology } from '../test/support/topology.ts';

/** Pause between two lines, milliseconds. A blackout that is not longer than it cannot be seen. */
const PAUSE = 5;

export type LoadResult = { readonly bytes: number; readonly sha256: string; readonly expected: string };

/** The peer's own port of the second, unmoved conversation, by which captures tell the two apart. */
export function referencePort(port: number): number {
  return port + 20_000;
}

export class ChatLoad {
  readonly #talk: Talk;
  readonly #topology: Topology;
  readonly #address: string;
  readonly #port: number;
  #lines = 0;
  #stopped = false;
  #talking: Promise<void> | undefined;

  constructor(topology: Topology, address: string, port: number) {
    this.#topology = topology;
    this.#address = address;
    this.#port = port;
    this.#talk = socat(topology, 'peer', address, port);
  }

  /** Introduces itself and goes on talking until `finish`. */
  async begin(): Promise<void> {
    this.#talk.say('my name is Ada');
    await this.#talk.hear(/Ada/);
    this.#talking = this.#chatter();
  }

  async #chatter(): Promise<void> {
    for await (const _ of ticks(PAUSE)) {
      if (this.#stopped) return;
      this.#lines++;
      this.#talk.say(`this is line ${this.#lines}`);
    }
  }

  /**
   * Says goodbye. `expected` is the hash of the same conversation held a second time, under another name, with nothing moving: the
   * bot's answers depend on nothing but what is said.
   */
  async finish(): Promise<LoadResult> {
    this.#stopped = true;
    await this.#talking;
    this.#talk.say('recall');
    this.#talk.say('bye');
    this.#talk.finish();
    await this.#talk.running.done();
    const again = socat(this.#topology, 'peer', this.#address, this.#port, `bind=:${referencePort(this.#port)}`);
    again.say('my name is Eve');
    for (let n = 1; n <= this.#lines; n++) again.say(`this is line ${n}`);
    again.say('recall');
    again.say('bye');
    again.finish();
    await again.running.done();
    const mine = this.#talk.transcript;
    const second = again.transcript.replaceAll('Eve', 'Ada');
    return { bytes: Buffer.byteLength(mine), sha256: hash(mine), expected: hash(second) };
  }
}

function hash(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
