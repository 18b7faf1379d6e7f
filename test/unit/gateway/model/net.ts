/** Time and wires of a simulation: events in order, and links that lose, repeat, delay and so reorder what goes over them. */
import type { Random } from './random.ts';

type Event = { readonly at: number; readonly order: number; readonly run: () => void };

export class Clock {
  now: number;
  /** A binary heap by time, then by order of arrival. */
  readonly #heap: Event[] = [];
  #order = 0;

  constructor(now: number) {
    this.now = now;
  }

  after(ms: number, run: () => void): void {
    const heap = this.#heap;
    const event = { at: this.now + Math.max(0, ms), order: this.#order++, run };
    let i = heap.push(event) - 1;
    while (i > 0) {
      const parent = (i - 1) >> 1;
      if (!before(event, heap[parent]!)) break;
      heap[i] = heap[parent]!;
      i = parent;
    }
    heap[i] = event;
  }

  /** Runs what comes next. False when nothing does. */
  step(): boolean {
    const heap = this.#heap;
    const [first] = heap;
    const last = heap.pop();
    if (first === undefined || last === undefined) return false;
    if (heap.length > 0) {
      let i = 0;
      for (;;) {
        let child = 2 * i + 1;
        if (child >= heap.length) break;
        if (child + 1 < heap.length && before(heap[child + 1]!, heap[child]!)) child++;
        if (!before(heap[child]!, last)) break;
        heap[i] = heap[child]!;
        i = child;
      }
      heap[i] = last;
    }
    this.now = Math.max(this.now, first.at);
    first.run();
    return true;
  }
}

function before(a: Event, b: Event): boolean {
  return a.at < b.at || (a.at === b.at && a.order < b.order);
}

export type LinkFaults = {
  readonly loss: number;
  readonly repeat: number;
  readonly delay: number;
  readonly jitter: number;
};

/** One direction of a wire. */
export class Link<T> {
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #faults: LinkFaults;
  readonly #deliver: (what: T) => void;

  constructor(clock: Clock, random: Random, faults: LinkFaults, deliver: (what: T) => void) {
    this.#clock = clock;
    this.#random = random;
    this.#faults = faults;
    this.#deliver = deliver;
  }

  send(what: T): void {
    const { loss, repeat, delay, jitter } = this.#faults;
    if (this.#random.chance(loss)) return;
    const copies = this.#random.chance(repeat) ? 2 : 1;
    for (let i = 0; i < copies; i++) this.#clock.after(delay + this.#random.next() * jitter, () => this.#deliver(what));
  }
}
