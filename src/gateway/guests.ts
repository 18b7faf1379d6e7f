/** The guests of this gateway: identity, address, epoch, the leg their sockets are on, and the outside ports that lead to them. */
import type { Arena, GuestColumns } from './arena.ts';
import { GAUGE, NAME_BYTES } from './arena.ts';

/**
 * RUNNING: the epoch's holder serves. FROZEN: its flows are; the holder may still thaw. SEALED: frozen, and an image holds the
 * only claim. A guest that is being attached is FROZEN or SEALED with `nextLeg` set.
 */
export const GUEST_RUNNING = 0;
export const GUEST_FROZEN = 1;
export const GUEST_SEALED = 2;

/** `used` of a slot whose guest has ended, while peers have the last word on connections of it. */
export const RETIRED = 2;

/** `nextLeg` of a guest that nobody is attaching. */
export const NO_LEG = 255;

export class GuestTable {
  readonly columns: GuestColumns;
  readonly #arena: Arena;
  /** Slots by guest id and by address; rebuilt from the arena when the pump starts. */
  readonly #byId = new Map<string, number>();
  readonly #byAddress = new Map<number, number>();

  constructor(arena: Arena) {
    this.#arena = arena;
    this.columns = arena.guests;
    for (let slot = 0; slot < arena.limits.maxGuests; slot++) {
      if (this.columns.used[slot] !== 1) continue;
      this.#byId.set(guestId(this.columns, slot), slot);
      this.#byAddress.set(this.columns.address[slot] ?? 0, slot);
    }
  }

  find(id: string): number | undefined {
    return this.#byId.get(id);
  }

  /** The guest that holds an address (host-order u32), or undefined. */
  byAddress(address: number): number | undefined {
    return this.#byAddress.get(address);
  }

  /** Registers a guest at epoch `epoch`; undefined when all slots are taken. */
  add(id: string, name: string, address: number, leg: number): number | undefined {
    const g = this.columns;
    const slot = g.used.indexOf(0);
    if (slot < 0) return undefined;
    g.uuid.set(uuidBytes(id), slot * 16);
    g.name.fill(0, slot * NAME_BYTES, (slot + 1) * NAME_BYTES);
    g.name.set(new TextEncoder().encode(name).subarray(0, NAME_BYTES), slot * NAME_BYTES);
    g.address[slot] = address;
    g.leg[slot] = leg;
    g.nextLeg[slot] = NO_LEG;
    g.epoch[slot] = 1;
    g.state[slot] = GUEST_RUNNING;
    g.used[slot] = 1;
    this.#byId.set(id, slot);
    this.#byAddress.set(address, slot);
    this.#arena.gauges[GAUGE.guests] = this.#byId.size;
    return slot;
  }

  /** The guest is no more. `retire`: its name stays with connections that are not over yet, until `release`. */
  remove(slot: number, retire = false): void {
    this.#byId.delete(guestId(this.columns, slot));
    this.#byAddress.delete(this.columns.address[slot] ?? 0);
    this.columns.used[slot] = retire ? RETIRED : 0;
    this.#arena.gauges[GAUGE.guests] = this.#byId.size;
  }

  /** The last connection of a retired guest is over. */
  release(slot: number): void {
    this.columns.used[slot] = 0;
  }
}

function uuidBytes(id: string): Uint8Array {
  const hex = id.replaceAll('-', '');
  const bytes = new Uint8Array(16);
  for (let i = 0; i < 16; i++) bytes[i] = Number.parseInt(hex.slice(2 * i, 2 * i + 2), 16);
  return bytes;
}

/** The id of the guest in a slot, as text. */
export function guestId(g: GuestColumns, slot: number): string {
  const hex = Buffer.from(g.uuid.subarray(slot * 16, slot * 16 + 16)).toString('hex');
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}

/** The name of the guest in a slot. */
export function guestName(g: GuestColumns, slot: number): string {
  const bytes = g.name.slice(slot * NAME_BYTES, (slot + 1) * NAME_BYTES);
  const end = bytes.indexOf(0);
  return new TextDecoder().decode(end < 0 ? bytes : bytes.subarray(0, end));
}
