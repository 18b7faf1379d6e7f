/** What one side's host calls did, in order, so that another side can be given the same without the host. */
import type { HostValue } from '../engine/engine.ts';

/** Bytes of guest memory at an address. */
export interface Piece {
  readonly at: number;
  readonly bytes: Uint8Array;
}

/** A host call as the guest makes it. */
export interface Call {
  readonly module: string;
  readonly name: string;
  /** Unsigned bit patterns, in order. */
  readonly args: readonly bigint[];
}

export interface CallRecord extends Call {
  /** All memory that the call looked at or wrote, as it was before. */
  readonly before: readonly Piece[];
  /** What it wrote. */
  readonly after: readonly Piece[];
  readonly end:
    | { readonly kind: 'returned'; readonly result: HostValue | undefined }
    /** It ended the guest. */
    | { readonly kind: 'exited'; readonly code: number };
}

/** Calls are numbered from 0; those that nobody goes back to are forgotten. */
export class CallLog {
  #first = 0;
  #records: CallRecord[] = [];

  /** The number that the next record gets. */
  get end(): number {
    return this.#first + this.#records.length;
  }

  push(record: CallRecord): void {
    this.#records.push(record);
  }

  /** Undefined for one that was not made yet. */
  at(number: number): CallRecord | undefined {
    return this.#records[number - this.#first];
  }

  /** Forgets all before a number. */
  forget(number: number): void {
    this.#records = this.#records.slice(number - this.#first);
    this.#first = number;
  }
}
