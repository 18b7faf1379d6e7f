/** A packet under test in a buffer of its own. */
import assert from 'node:assert/strict';
import { Packet } from '../../../src/rewrite/packet.ts';

/** Bytes before and behind a packet, which nothing may touch. */
const MARGIN = 7;
const FILL = 0xa5;

/** A buffer that holds the packet, not aligned, with guard bytes around it. */
export class Held {
  readonly buffer: Uint8Array;
  readonly off = MARGIN;
  readonly length: number;
  readonly packet = new Packet();

  constructor(bytes: readonly number[]) {
    this.length = bytes.length;
    this.buffer = new Uint8Array(bytes.length + 2 * MARGIN).fill(FILL);
    this.buffer.set(bytes, MARGIN);
    this.packet.attach(this.buffer);
  }

  parse(): number {
    return this.packet.parse(this.off, this.length);
  }

  bytes(): number[] {
    return [...this.buffer.subarray(MARGIN, MARGIN + this.length)];
  }

  guardsIntact(): boolean {
    return (
      this.buffer.subarray(0, MARGIN).every((byte) => byte === FILL) &&
      this.buffer.subarray(MARGIN + this.length).every((byte) => byte === FILL)
    );
  }
}

/** The packet held and parsed; fails when it is not accepted. */
export function accepted(bytes: readonly number[]): Held {
  const held = new Held(bytes);
  const reason = held.parse();
  if (reason !== 0) throw new Error(`refused with reason ${reason}`);
  return held;
}

/** The packet is now exactly this, and nothing around it was touched. */
export function sameBytes(held: Held, expected: readonly number[]): void {
  assert.deepEqual(held.bytes(), expected);
  assert.equal(held.guardsIntact(), true);
}

/** The fields that were set can be read, from the cursor and by a fresh parse alike. */
export function fieldsAgree(held: Held): void {
  const fresh = new Held(held.bytes());
  assert.equal(fresh.parse(), 0);
  for (const [name, value] of Object.entries(held.packet))
    if (name !== 'view') assert.deepEqual(Reflect.get(fresh.packet, name), value, name);
}
