/**
 * The flow table: slots of the arena, found by either 4-tuple.
 *
 * Two open-addressed indexes with linear probing hold slot + 1. A removal moves later entries of the same run back, so
 * that there are no tombstones and a lookup never walks further than the run. The indexes have at least twice as many
 * buckets as there are slots. Nothing here allocates.
 */
import type { Arena, FlowColumns } from './arena.ts';
import { GAUGE } from './arena.ts';
import { NO_FIN } from './flow.ts';

/** Mixes three words into one; the constants are odd and large, which is all linear probing needs. */
function mix(a: number, b: number, c: number): number {
  let h = Math.imul(a, 0x9e3779b1) ^ Math.imul(b, 0x85ebca6b) ^ Math.imul(c, 0xc2b2ae35);
  h ^= h >>> 15;
  h = Math.imul(h, 0x27d4eb2f);
  return (h ^ (h >>> 13)) >>> 0;
}

export class FlowTable {
  readonly columns: FlowColumns;
  readonly #arena: Arena;
  readonly #mask: number;
  /** The columns with one value a flow: what a slot is cleared of. */
  readonly #scalars: readonly { [slot: number]: number }[];

  constructor(arena: Arena) {
    this.#arena = arena;
    this.columns = arena.flows;
    this.#scalars = Object.values(arena.flows).filter(
      (column) => column !== arena.flows.ranges && column !== arena.flows.chunks,
    );
    this.#mask = arena.byOutside.length - 1;
  }

  /** Slots in use are all below this. */
  get highWater(): number {
    return this.#arena.gauges[GAUGE.highWater] ?? 0;
  }

  #hashOutside(proto: number, outsidePort: number, peerAddress: number, peerPort: number): number {
    return mix(peerAddress, (outsidePort << 16) | peerPort, proto) & this.#mask;
  }

  #hashGuest(proto: number, guestAddress: number, guestPort: number, peerAddress: number, peerPort: number): number {
    return mix(peerAddress, (guestPort << 16) | peerPort, guestAddress ^ proto) & this.#mask;
  }

  /** Slot of the flow a packet of the peer belongs to, or -1. */
  findOutside(proto: number, outsidePort: number, peerAddress: number, peerPort: number): number {
    const index = this.#arena.byOutside;
    const f = this.columns;
    for (let b = this.#hashOutside(proto, outsidePort, peerAddress, peerPort); ; b = (b + 1) & this.#mask) {
      const slot = index[b]! - 1;
      if (slot < 0) return -1;
      if (
        f.peerPort[slot] === peerPort &&
        f.peerAddress[slot] === peerAddress &&
        f.outsidePort[slot] === outsidePort &&
        f.proto[slot] === proto
      )
        return slot;
    }
  }

  /** Slot of the flow a guest's packet belongs to, or -1. */
  findGuest(proto: number, guestAddress: number, guestPort: number, peerAddress: number, peerPort: number): number {
    const index = this.#arena.byGuest;
    const f = this.columns;
    for (let b = this.#hashGuest(proto, guestAddress, guestPort, peerAddress, peerPort); ; b = (b + 1) & this.#mask) {
      const slot = index[b]! - 1;
      if (slot < 0) return -1;
      if (
        f.peerPort[slot] === peerPort &&
        f.peerAddress[slot] === peerAddress &&
        f.guestPort[slot] === guestPort &&
        f.guestAddress[slot] === guestAddress &&
        f.proto[slot] === proto
      )
        return slot;
    }
  }

  /** Makes a flow with everything else zero. Returns its slot, or -1 when the table is full. */
  create(
    proto: number,
    guest: number,
    guestAddress: number,
    guestPort: number,
    outsidePort: number,
    peerAddress: number,
    peerPort: number,
    now: number,
  ): number {
    const gauges = this.#arena.gauges;
    const slot = gauges[GAUGE.freeHead]!;
    if (slot >= this.#arena.limits.maxFlows) return -1;
    const f = this.columns;
    gauges[GAUGE.freeHead] = f.nextFree[slot]!;
    f.proto[slot] = proto;
    f.guest[slot] = guest;
    f.guestAddress[slot] = guestAddress;
    f.guestPort[slot] = guestPort;
    f.outsidePort[slot] = outsidePort;
    f.peerAddress[slot] = peerAddress;
    f.peerPort[slot] = peerPort;
    f.createdAt[slot] = now;
    f.lastSeen[slot] = now;
    f.outFin[slot] = NO_FIN;
    f.inFin[slot] = NO_FIN;
    f.cut[slot] = -1;
    f.sndUna[slot] = -1;
    this.#insert(this.#arena.byOutside, this.#hashOutside(proto, outsidePort, peerAddress, peerPort), slot);
    this.#insert(this.#arena.byGuest, this.#hashGuest(proto, guestAddress, guestPort, peerAddress, peerPort), slot);
    const id = gauges[GAUGE.nextFlowId]!;
    gauges[GAUGE.nextFlowId] = id + 1;
    f.flowId[slot] = id;
    gauges[GAUGE.flows] = gauges[GAUGE.flows]! + 1;
    if (slot >= gauges[GAUGE.highWater]!) gauges[GAUGE.highWater] = slot + 1;
    return slot;
  }

  /** Frees a slot. Its custody must have been released, which also leaves no chunk and no range behind. */
  remove(slot: number): void {
    const f = this.columns;
    const gauges = this.#arena.gauges;
    f.flowId[slot] = 0;
    this.#delete(this.#arena.byOutside, slot, true);
    this.#delete(this.#arena.byGuest, slot, false);
    this.#clear(slot);
    f.nextFree[slot] = gauges[GAUGE.freeHead]!;
    gauges[GAUGE.freeHead] = slot;
    gauges[GAUGE.flows] = gauges[GAUGE.flows]! - 1;
    let high = gauges[GAUGE.highWater]!;
    while (high > 0 && f.flowId[high - 1] === 0) high--;
    gauges[GAUGE.highWater] = high;
  }

  #clear(slot: number): void {
    for (const column of this.#scalars) column[slot] = 0;
  }

  #insert(index: Uint32Array, bucket: number, slot: number): void {
    let b = bucket;
    while (index[b] !== 0) b = (b + 1) & this.#mask;
    index[b] = slot + 1;
  }

  #home(slot: number, outside: boolean): number {
    const f = this.columns;
    const proto = f.proto[slot]!;
    return outside
      ? this.#hashOutside(proto, f.outsidePort[slot]!, f.peerAddress[slot]!, f.peerPort[slot]!)
      : this.#hashGuest(proto, f.guestAddress[slot]!, f.guestPort[slot]!, f.peerAddress[slot]!, f.peerPort[slot]!);
  }

  #delete(index: Uint32Array, slot: number, outside: boolean): void {
    let hole = this.#home(slot, outside);
    while (index[hole] !== slot + 1) {
      if (index[hole] === 0) return;
      hole = (hole + 1) & this.#mask;
    }
    for (let b = (hole + 1) & this.#mask; index[b] !== 0; b = (b + 1) & this.#mask) {
      const home = this.#home(index[b]! - 1, outside);
      // An entry may fill the hole when its own bucket is not between the hole and where it stands.
      if (((b - home) & this.#mask) >= ((b - hole) & this.#mask)) {
        index[hole] = index[b]!;
        hole = b;
      }
    }
    index[hole] = 0;
  }
}
