/**
 * Books of one connection, the same for a peer and for a host: what was sent and what came, hashed and compared with the pattern
 * that should have come.
 */
import { createHash } from 'node:crypto';
import { patternBytes, patternMismatch } from '../pattern.ts';

export interface DirectionReport {
  readonly bytes: number;
  readonly sha256: string;
}

export interface ReceiveReport extends DirectionReport {
  /** Offset of the first byte that is not as it should be; -1: none. Only after {@link ReceiveAccount.expect}. */
  readonly wrongAt: number;
  /** The other side has sent its FIN. */
  readonly ended: boolean;
}

export interface SendReport extends DirectionReport {
  /** Bytes that were asked for and not yet taken by the socket. */
  readonly waiting: number;
  /** Our FIN was sent, after all bytes. */
  readonly finished: boolean;
}

export class ReceiveAccount {
  #bytes = 0;
  #hash = createHash('sha256');
  #seed: number | undefined;
  #wrongAt = -1;
  ended = false;

  get bytes(): number {
    return this.#bytes;
  }

  /** Everything from the first byte on must be the stream of this seed. */
  expect(seed: number): void {
    if (this.#bytes > 0) throw new Error('bytes have come before it was said what to expect');
    this.#seed = seed;
  }

  take(bytes: Uint8Array): void {
    if (this.#seed !== undefined && this.#wrongAt < 0) {
      const wrong = patternMismatch(this.#seed, this.#bytes, bytes);
      if (wrong >= 0) this.#wrongAt = this.#bytes + wrong;
    }
    this.#hash.update(bytes);
    this.#bytes += bytes.length;
  }

  report(): ReceiveReport {
    return { bytes: this.#bytes, sha256: this.#hash.copy().digest('hex'), wrongAt: this.#wrongAt, ended: this.ended };
  }
}

export class SendAccount {
  #bytes = 0;
  #hash = createHash('sha256');
  #seed = 0;
  #goal = 0;
  #finish = false;
  finished = false;

  /** More bytes to send, of the stream of `seed` at the offset reached. A connection sends one stream. */
  ask(seed: number, bytes: number): void {
    if (this.#bytes > 0 && seed !== this.#seed) throw new Error('a connection sends the stream of one seed');
    if (this.#finish) throw new Error('nothing can be sent after the end');
    this.#seed = seed;
    this.#goal += bytes;
  }

  askFinish(): void {
    this.#finish = true;
  }

  get waiting(): number {
    return this.#goal - this.#bytes;
  }

  /** All was sent and the FIN is due. */
  get finishDue(): boolean {
    return this.#finish && !this.finished && this.waiting === 0;
  }

  /** The next bytes to send, at most `limit`; {@link sent} says how many of them went. */
  next(limit: number): Buffer {
    return patternBytes(this.#seed, this.#bytes, Math.min(limit, this.waiting));
  }

  sent(bytes: Uint8Array): void {
    this.#hash.update(bytes);
    this.#bytes += bytes.length;
  }

  report(): SendReport {
    return {
      bytes: this.#bytes,
      sha256: this.#hash.copy().digest('hex'),
      waiting: this.waiting,
      finished: this.finished,
    };
  }
}
