/**
 * Books of one connection, the same for a peer and for a host: what was sent and what came, hashed and compared with the pattern
 * that should have come. Books of a host move with its guest: `state` and `resume`.
 */
import { createHash, type Hash } from 'node:crypto';
import { patternBytes, patternHasher, patternMismatch } from '../pattern.ts';

export interface DirectionReport {
  readonly bytes: number;
  readonly sha256: string;
}

export interface ReceiveReport extends DirectionReport {
  /** Offset of the first byte that is not as it should be; -1: none. Only after {@link ReceiveAccount.expect}. */
  readonly wrongAt: number;
  /** The other side has sent its FIN. */
  readonly ended: boolean;
  /** What came after the stream, where that has an end. */
  readonly rest: string;
}

export interface SendReport extends DirectionReport {
  /** Bytes that were asked for and not yet taken by the socket. */
  readonly waiting: number;
  /** Our FIN was sent, after all bytes. */
  readonly finished: boolean;
}

export interface ReceiveState {
  readonly bytes: number;
  readonly seed: number | null;
  /** Bytes of the stream; null: it has no end. */
  readonly size: number | null;
  readonly rest: string;
  readonly wrongAt: number;
  readonly ended: boolean;
}

export interface SendState {
  readonly bytes: number;
  readonly seed: number;
  readonly goal: number;
  readonly finish: boolean;
  readonly finished: boolean;
}

/** Characters kept of what comes after the stream. */
const MOST_REST = 4096;

/** What a hash says when bytes were seen elsewhere that are not known to be those of the pattern. */
const UNKNOWN = 'unknown';

export class ReceiveAccount {
  #bytes = 0;
  /** Undefined after a move: made anew from the pattern when it is asked for. */
  #hash: Hash | undefined = createHash('sha256');
  #seed: number | undefined;
  #size = Infinity;
  #rest = '';
  #wrongAt = -1;
  ended = false;

  static resume({ bytes, seed, size, rest, wrongAt, ended }: ReceiveState): ReceiveAccount {
    const account = new ReceiveAccount();
    account.#bytes = bytes;
    account.#hash = bytes === 0 ? account.#hash : undefined;
    account.#seed = seed ?? undefined;
    account.#size = size ?? Infinity;
    account.#rest = rest;
    account.#wrongAt = wrongAt;
    account.ended = ended;
    return account;
  }

  state(): ReceiveState {
    const { seed, size } = { seed: this.#seed ?? null, size: Number.isFinite(this.#size) ? this.#size : null };
    return { bytes: this.#bytes, seed, size, rest: this.#rest, wrongAt: this.#wrongAt, ended: this.ended };
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Everything from the first byte on must be the stream of this seed; after `size` bytes of it, text may follow. */
  expect(seed: number, size = Infinity): void {
    if (this.#bytes > 0) throw new Error('bytes have come before it was said what to expect');
    this.#seed = seed;
    this.#size = size;
  }

  take(all: Uint8Array): void {
    const bytes = all.subarray(0, this.#size - this.#bytes);
    if (bytes.length < all.length) {
      this.#rest = (this.#rest + Buffer.from(all.subarray(bytes.length)).toString('latin1')).slice(0, MOST_REST);
    }
    if (this.#seed !== undefined && this.#wrongAt < 0) {
      const wrong = patternMismatch(this.#seed, this.#bytes, bytes);
      if (wrong >= 0) this.#wrongAt = this.#bytes + wrong;
    }
    this.#hash?.update(bytes);
    this.#bytes += bytes.length;
  }

  report(): ReceiveReport {
    if (this.#seed !== undefined && this.#wrongAt < 0) this.#hash ??= patternHasher(this.#seed, this.#bytes);
    const sha256 = this.#hash?.copy().digest('hex') ?? UNKNOWN;
    return { bytes: this.#bytes, sha256, wrongAt: this.#wrongAt, ended: this.ended, rest: this.#rest };
  }
}

export class SendAccount {
  #bytes = 0;
  #hash: Hash | undefined = createHash('sha256');
  #seed = 0;
  #goal = 0;
  #finish = false;
  finished = false;

  static resume({ bytes, seed, goal, finish, finished }: SendState): SendAccount {
    const account = new SendAccount();
    account.#bytes = bytes;
    account.#hash = undefined;
    account.#seed = seed;
    account.#goal = goal;
    account.#finish = finish;
    account.finished = finished;
    return account;
  }

  state(): SendState {
    return { bytes: this.#bytes, seed: this.#seed, goal: this.#goal, finish: this.#finish, finished: this.finished };
  }

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
    return Math.max(0, this.#goal - this.#bytes);
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
    this.#hash?.update(bytes);
    this.#bytes += bytes.length;
  }

  report(): SendReport {
    // What is echoed is not the pattern's, and an echo does not move.
    this.#hash ??= patternHasher(this.#seed, this.#bytes);
    const sha256 = this.#hash.copy().digest('hex');
    return { bytes: this.#bytes, sha256, waiting: this.waiting, finished: this.finished };
  }
}
