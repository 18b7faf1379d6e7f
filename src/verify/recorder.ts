/**
 * Stands between the host's functions and the one guest that calls them really, and notes what they do.
 *
 * Theory of operation. All that host functions know of the guest's memory they have from the context they were made with: this
 * one. It learns of each access before it comes (`touch`) and keeps the bytes as they were; after the call, what differs was
 * written. So the record has everything that the call took from the guest and gave to it.
 */
import { GuestExit, type HostCallContext, type HostValue, type MemoryWatch } from '../engine/engine.ts';
import { KedgeError } from '../errors.ts';
import type { Call, CallRecord, Piece } from './call-log.ts';

export class Recorder implements HostCallContext, MemoryWatch {
  readonly resumed = false;
  readonly watch: MemoryWatch = this;
  pending: undefined;
  #memory: () => Uint8Array = () => new Uint8Array(0);
  /** Of the call that runs. */
  #before: Piece[] = [];

  /** Says whose calls these are; before the first. */
  bind(memory: () => Uint8Array): void {
    this.#memory = memory;
  }

  memory(): Uint8Array {
    return this.#memory();
  }

  /** Nobody interrupts a call: a guest is stopped by its count alone. */
  stopRequested(): boolean {
    return false;
  }

  suspend(): void {
    throw new KedgeError('KEDGE_INTERNAL', 'a host call wants to be issued again while it is recorded');
  }

  touch(at: number, length: number): void {
    const known = this.#before.some((piece) => piece.at <= at && at + length <= piece.at + piece.bytes.length);
    if (known || length === 0) return;
    const bytes = this.#memory().slice(at, at + length);
    // What was touched before may have been written since.
    for (const piece of this.#before) {
      const from = Math.max(at, piece.at);
      const to = Math.min(at + length, piece.at + piece.bytes.length);
      if (from < to) bytes.set(piece.bytes.subarray(from - piece.at, to - piece.at), from - at);
    }
    this.#before.push({ at, bytes });
  }

  /** Makes a call of the host and tells what it did. What a host function throws beside `GuestExit` passes. */
  record(call: Call, make: () => HostValue | undefined): CallRecord {
    this.#before = [];
    let end: CallRecord['end'];
    try {
      end = { kind: 'returned', result: make() };
    } catch (error) {
      if (!(error instanceof GuestExit)) throw error;
      end = { kind: 'exited', code: error.exitCode };
    }
    const before = this.#before;
    const memory = this.#memory();
    const after = before.flatMap(({ at, bytes }) => changed(at, bytes, memory.subarray(at, at + bytes.length)));
    this.#before = [];
    return { ...call, before, after, end };
  }
}

/** The part from the first to the last byte that was written. */
function changed(at: number, before: Uint8Array, now: Uint8Array): readonly Piece[] {
  let first = 0;
  let end = before.length;
  while (first < end && before[first] === now[first]) first += 1;
  while (end > first && before[end - 1] === now[end - 1]) end -= 1;
  return first === end ? [] : [{ at: at + first, bytes: now.slice(first, end) }];
}
