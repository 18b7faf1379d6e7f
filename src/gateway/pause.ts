/**
 * Makes a flow of which something always waits stand still for a moment, so that the kernel can carry it from there on.
 *
 * Theory of operation. A sender that fills its window goes on as acknowledgements come. Where the pump keeps those back, what is on the way
 * arrives, and then nothing is, within the time that the queues take to run empty. When nothing has come for so long that no end has anything
 * left to answer, the flow becomes the kernel's, and then they are sent: all that they make a sender send goes there. Data, and what is more
 * than an acknowledgement, passes at once, behind those that were kept in its direction.
 *
 * Limits. An end may speak for its own reasons (a delayed acknowledgement, a window) just as the flow becomes the kernel's. What was kept in
 * its direction is old then, and dropped; in the microseconds in which that is found out, it may come late all the same. One flow at a
 * time, for some milliseconds, with some dozens of acknowledgements. A sender that is far away does not hear of it in time; its flow stays
 * with the pump.
 */
import type { Packet } from '../rewrite/packet.ts';
import { TCP_ACK } from '../rewrite/tcp.ts';
import { OUTSIDE, type OutQueue } from './out-queue.ts';

/** The longest acknowledgement: virtio header, IPv4 header without options, the longest TCP header. */
const ROOM = 10 + 20 + 60;
/** Acknowledgements of each direction. */
const MOST = 64;
const WAYS = 2;
const TO_PEER = 0;
const TO_GUEST = 1;
/** Milliseconds in which an end has answered what came to it, unless it waits for its own reasons. */
const QUIET = 3;
const NONE = -1;

export class Pause {
  /** Slot of the flow that stands still; negative for none. */
  flow = NONE;
  #until = 0;
  #seen = 0;
  #seenAt = 0;
  readonly #kept = new Uint8Array(WAYS * MOST * ROOM);
  readonly #lengths = new Int32Array(WAYS * MOST);
  readonly #devices = new Int32Array(WAYS * MOST);
  readonly #counts = new Int32Array(WAYS);

  /** Times are milliseconds of the arena's clock. */
  begin(flow: number, now: number, until: number): void {
    this.flow = flow;
    this.#until = until;
    this.#seenAt = now;
  }

  /** Whether nothing came for a while. `seen` is how many packets of the flow have come. */
  isQuiet(seen: number, now: number): boolean {
    if (seen !== this.#seen) {
      this.#seen = seen;
      this.#seenAt = now;
    }
    return now - this.#seenAt >= QUIET;
  }

  isOver(now: number): boolean {
    return now >= this.#until;
  }

  /**
   * Whether a segment of the flow, which is to leave by `device`, is kept back. If not, those of its direction that were are queued, and it
   * may follow.
   */
  keep(p: Packet, device: number, out: OutQueue): boolean {
    const way = device === OUTSIDE ? TO_PEER : TO_GUEST;
    const length = p.end - p.off;
    const count = this.#counts[way]!;
    if (p.payloadLen !== 0 || p.flags !== TCP_ACK || length > ROOM || count === MOST) {
      this.#send(way, out);
      return false;
    }
    const at = way * MOST + count;
    for (let i = 0; i < length; i++) this.#kept[at * ROOM + i] = out.buffer[p.off + i]!;
    this.#lengths[at] = length;
    this.#devices[at] = device;
    this.#counts[way] = count + 1;
    return true;
  }

  /** Lets the flow go on: what was kept is queued. */
  end(out: OutQueue): void {
    for (let way = 0; way < WAYS; way++) this.#send(way, out);
    this.flow = NONE;
  }

  /** Newer segments have passed to the peer, or to the guest: the number of those that no one gets. */
  supersede(toPeer: boolean, toGuest: boolean): number {
    const lost = (toPeer ? this.#counts[TO_PEER]! : 0) + (toGuest ? this.#counts[TO_GUEST]! : 0);
    if (toPeer) this.#counts[TO_PEER] = 0;
    if (toGuest) this.#counts[TO_GUEST] = 0;
    return lost;
  }

  /** Lets go of a flow that is over, or in which the gateway speaks now; the same number. */
  forget(): number {
    this.flow = NONE;
    return this.supersede(true, true);
  }

  #send(way: number, out: OutQueue): void {
    const end = way * MOST + this.#counts[way]!;
    for (let at = way * MOST; at < end; at++) {
      const length = this.#lengths[at]!;
      const place = out.reserve(ROOM);
      for (let i = 0; i < length; i++) out.buffer[place + i] = this.#kept[at * ROOM + i]!;
      out.push(this.#devices[at]!, place, length);
    }
    this.#counts[way] = 0;
  }
}
