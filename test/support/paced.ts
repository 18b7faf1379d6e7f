/** A program whose standard output is taken at a pace, so that a transfer lasts as long as a test needs it to. */
import { createHash } from 'node:crypto';
import type { Bytes } from './peers.ts';
import type { Running } from './process.ts';
import type { Place, Topology } from './topology.ts';
import { waitFor, type WaitOptions } from './wait.ts';

/** Bytes a second while guests move. */
export const SLOW = 500_000;

export class Paced {
  readonly running: Running;
  bytes = 0;
  readonly #hash = createHash('sha256');
  readonly #start = performance.now();
  #pace: number;
  #resting: NodeJS.Timeout | undefined;

  /**
   * `input` goes to the program's standard input, whose end comes with {@link result}; without, it is at its end at once. `pace` in
   * bytes a second.
   */
  constructor(topology: Topology, place: Place, command: readonly string[], input?: string, pace = SLOW) {
    this.#pace = pace;
    this.running = topology.spawn(place, command, { takeBytes: (part) => this.#take(part) });
    const { stdin } = this.running.child;
    if (input === undefined) stdin.end();
    else stdin.write(input);
  }

  #take(part: Buffer): void {
    this.#hash.update(part);
    this.bytes += part.length;
    const ahead = (this.bytes / this.#pace) * 1000 - (performance.now() - this.#start);
    if (ahead <= 1) return;
    // The pause reaches the program, and through its socket the guest.
    const { stdout } = this.running.child;
    stdout.pause();
    this.#resting = setTimeout(() => stdout.resume(), ahead);
  }

  /** Waits until so many bytes more have come. */
  async further(bytes: number, options: WaitOptions = {}): Promise<void> {
    const goal = this.bytes + bytes;
    await waitFor(() => this.bytes >= goal || !this.running.running, {
      what: `${goal} bytes of ${this.running.label}`,
      timeout: 30_000,
      explain: () => `${this.bytes} bytes, ${this.running.describe()}`,
      ...options,
    });
  }

  /** Takes the rest as fast as it comes. */
  hurry(): void {
    this.#pace = Infinity;
    clearTimeout(this.#resting);
    this.running.child.stdout.resume();
  }

  /** Waits for the program's end, with exit code 0. */
  async result(timeout = 60_000): Promise<Bytes> {
    this.hurry();
    this.running.child.stdin.end();
    await this.running.done(timeout);
    return { bytes: this.bytes, sha256: this.#hash.digest('hex') };
  }
}
