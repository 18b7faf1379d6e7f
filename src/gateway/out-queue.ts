/**
 * What the pump writes next: descriptors of packets in one buffer, in the order in which they were decided.
 *
 * A translated packet is named where it was read; a segment of the gateway's own is written into the transmit region. A full
 * queue is flushed at once, so that neither the number of packets nor their size is bounded by the region.
 */

/** Device numbers: the outside TUN is 0, leg `n` is `n + 1`. */
export const OUTSIDE = 0;

export function deviceOfLeg(leg: number): number {
  return leg + 1;
}

/** Writes `count` descriptor triples [device, offset, length] of the buffer. */
export type Flush = (buffer: Uint8Array, descriptors: Int32Array, count: number) => void;

export class OutQueue {
  readonly buffer: Uint8Array;
  readonly descriptors: Int32Array;
  count = 0;
  readonly #flush: Flush;
  readonly #from: number;
  #at: number;

  /** `from` is where the transmit region of `buffer` begins; below it lie the packets that were read. */
  constructor(buffer: Uint8Array, from: number, maxPackets: number, flush: Flush) {
    this.buffer = buffer;
    this.descriptors = new Int32Array(maxPackets * 3);
    this.#from = from;
    this.#at = from;
    this.#flush = flush;
  }

  /** Queues a packet that stands in the buffer. `offset` is that of its virtio header, `length` includes it. */
  push(device: number, offset: number, length: number): void {
    const i = this.count * 3;
    this.descriptors[i] = device;
    this.descriptors[i + 1] = offset;
    this.descriptors[i + 2] = length;
    this.count++;
    if (this.count * 3 === this.descriptors.length) this.flush();
  }

  /** A place of `bytes` in the transmit region. The next call may reuse it once what was pushed is flushed. */
  reserve(bytes: number): number {
    if (this.#at + bytes > this.buffer.length) this.flush();
    const at = this.#at;
    this.#at += (bytes + 63) & ~63;
    return at;
  }

  flush(): void {
    if (this.count > 0) this.#flush(this.buffer, this.descriptors, this.count);
    this.count = 0;
    this.#at = this.#from;
  }
}
