/** A download over `curl` that is taken at a steady pace, so that it lasts while the guest moves, and then as fast as it comes. */
import { spawn } from 'node:child_process';
import type { ChildProcessByStdio } from 'node:child_process';
import { createHash } from 'node:crypto';
import type { Readable } from 'node:stream';
import { patternHash } from '../test/support/stream.ts';
import type { Topology } from '../test/support/topology.ts';
import { waitFor } from '../test/support/wait.ts';
import type { LoadResult } from './chat.ts';

/** Bytes a second that are taken until `hurry`. */
const PACE = 1024 * 1024;

export class DownloadLoad {
  bytes = 0;
  readonly #total: number;
  readonly #hash = createHash('sha256');
  readonly #curl: ChildProcessByStdio<null, Readable, Readable>;
  readonly #ended: Promise<number | null>;
  readonly #kill: () => void;
  #said = '';
  #hurries = false;

  constructor(topology: Topology, url: string, total: number) {
    this.#total = total;
    const [command = '', ...args] = topology.command('peer', ['curl', '-sS', '--no-buffer', url]);
    this.#curl = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    this.#kill = () => this.#curl.kill('SIGKILL');
    process.once('exit', this.#kill);
    const start = performance.now();
    const { stdout, stderr } = this.#curl;
    stderr.setEncoding('utf8').on('data', (text: string) => (this.#said += text));
    stdout.on('data', (part: Buffer) => {
      this.#hash.update(part);
      this.bytes += part.length;
      const ahead = (this.bytes / PACE) * 1000 - (performance.now() - start);
      if (this.#hurries || ahead <= 1) return;
      // Backpressure reaches curl, and through its socket the guest.
      stdout.pause();
      setTimeout(() => stdout.resume(), ahead);
    });
    this.#ended = new Promise((resolve, reject) => {
      this.#curl.once('error', reject);
      this.#curl.once('close', (code) => resolve(code));
    });
  }

  /** Takes the rest as fast as it comes. */
  hurry(): void {
    this.#hurries = true;
    this.#curl.stdout.resume();
  }

  /** Waits until so many bytes have come. */
  async reached(bytes: number): Promise<void> {
    await waitFor(() => this.bytes >= Math.min(bytes, this.#total) || this.#curl.exitCode !== null, {
      timeout: 60_000,
      interval: 5,
      what: `${bytes} bytes of the download`,
    });
  }

  /** Waits for the end. `expected` is the hash of the stream of that seed, computed here. */
  async finish(seed: number): Promise<LoadResult> {
    const code = await this.#ended;
    process.off('exit', this.#kill);
    if (code !== 0) throw new Error(`curl ended with ${code}: ${this.#said}`);
    return { bytes: this.bytes, sha256: this.#hash.digest('hex'), expected: patternHash(seed, this.#total) };
  }
}
