/**
 * Outside ports. A guest's port keeps its number where that is free (RFC 4787 REQ-3), and one guest port has one outside
 * port towards every peer: endpoint-independent mapping (RFC 4787 REQ-1, RFC 5382 REQ-1). A published port is a mapping
 * that exists before any flow; what the guest sends from the published port leaves by the same outside port.
 *
 * Limits: one outside address; ports 1–1023 are given only when the guest itself used the same number.
 */
import type { Arena } from './arena.ts';
import { GAUGE } from './arena.ts';
import { TCP, UDP } from './flow.ts';
import { RETIRED } from './guests.ts';

/** `portKind` of a port that leads to a guest before any flow, and of one that a flow has. */
export const PUBLISHED = 1;
const MAPPED = 2;
const LOWEST = 1024;

export class PortMap {
  readonly #arena: Arena;
  /** (protocol, guest slot, guest port) → outside port and how many flows use it; rebuilt from the arena when the pump starts. */
  readonly #byTarget = new Map<number, { port: number; flows: number }>();

  /** Places in the port table of what is published, by guest slot. */
  readonly #published = new Map<number, number[]>();

  constructor(arena: Arena) {
    this.#arena = arena;
    for (let i = 0; i < arena.portKind.length; i++) {
      if (arena.portKind[i] === 0) continue;
      this.#byTarget.set(this.#targetAt(i), { port: i & 0xffff, flows: 0 });
      if (arena.portKind[i] === PUBLISHED) this.#notePublished(arena.portGuest[i]! - 1, i);
    }
    const { flows: f, gauges } = arena;
    for (let flow = 0; flow < gauges[GAUGE.highWater]!; flow++) {
      if (f.flowId[flow] === 0) continue;
      const known = this.#byTarget.get(this.#target(f.proto[flow]!, f.guest[flow]!, f.guestPort[flow]!));
      if (known !== undefined) known.flows++;
    }
  }

  #notePublished(guest: number, i: number): void {
    const known = this.#published.get(guest);
    if (known === undefined) this.#published.set(guest, [i]);
    else known.push(i);
  }

  /** The target that an entry of the arena's port table leads to. */
  #targetAt(i: number): number {
    return this.#target(i >= 65536 ? UDP : TCP, this.#arena.portGuest[i]! - 1, this.#arena.portTarget[i]!);
  }

  #index(proto: number, port: number): number {
    return (proto === UDP ? 65536 : 0) + port;
  }

  #target(proto: number, guest: number, port: number): number {
    return (guest * 2 + (proto === UDP ? 1 : 0)) * 65536 + port;
  }

  /** Makes an outside port lead to a guest's port. False when the port is taken. */
  publish(proto: number, outsidePort: number, guest: number, guestPort: number): boolean {
    const i = this.#index(proto, outsidePort);
    if (!this.mayPublish(proto, outsidePort)) return false;
    // What is left of a guest that has ended is found by its peers' addresses, not by the port.
    if (this.#arena.portKind[i] === MAPPED) this.#byTarget.delete(this.#targetAt(i));
    this.#set(i, PUBLISHED, guest, guestPort);
    this.#notePublished(guest, i);
    this.#byTarget.set(this.#target(proto, guest, guestPort), { port: outsidePort, flows: 0 });
    return true;
  }

  isFree(proto: number, outsidePort: number): boolean {
    return this.#arena.portKind[this.#index(proto, outsidePort)] === 0;
  }

  /** Whether a port is free, or held by nothing but connections of a guest that has ended. */
  mayPublish(proto: number, outsidePort: number): boolean {
    const { portKind, portGuest, guests } = this.#arena;
    const i = this.#index(proto, outsidePort);
    return portKind[i] === 0 || (portKind[i] === MAPPED && guests.used[portGuest[i]! - 1] === RETIRED);
  }

  /** Slot of the guest that an outside port is published for, or -1; `publishedPort` gives the guest's port. */
  publishedGuest(proto: number, outsidePort: number): number {
    const i = this.#index(proto, outsidePort);
    return this.#arena.portKind[i] === PUBLISHED ? this.#arena.portGuest[i]! - 1 : -1;
  }

  publishedPort(proto: number, outsidePort: number): number {
    return this.#arena.portTarget[this.#index(proto, outsidePort)]!;
  }

  /** The outside port for a new flow of a guest's port, or -1 when every port is taken. Count it back with `release`. */
  acquire(proto: number, guest: number, guestPort: number): number {
    const key = this.#target(proto, guest, guestPort);
    const known = this.#byTarget.get(key);
    if (known !== undefined) {
      known.flows++;
      return known.port;
    }
    let port = guestPort;
    if (!this.isFree(proto, port)) {
      port = -1;
      const span = 65536 - LOWEST;
      // Spread by guest, so that guests that count ports up alike do not walk the same run.
      const start = (guestPort + guest * 7919) % span;
      for (let i = 0; i < span && port < 0; i++) {
        const candidate = LOWEST + ((start + i) % span);
        if (this.isFree(proto, candidate)) port = candidate;
      }
      if (port < 0) return -1;
    }
    this.#set(this.#index(proto, port), MAPPED, guest, guestPort);
    this.#byTarget.set(key, { port, flows: 1 });
    return port;
  }

  /** A flow of this mapping ended. */
  release(proto: number, guest: number, guestPort: number): void {
    const key = this.#target(proto, guest, guestPort);
    const known = this.#byTarget.get(key);
    if (known === undefined) return;
    known.flows--;
    const i = this.#index(proto, known.port);
    if (known.flows > 0 || this.#arena.portKind[i] !== MAPPED) return;
    this.#arena.portKind[i] = 0;
    this.#byTarget.delete(key);
  }

  /** Withdraws all that is published for a guest. */
  unpublish(guest: number): void {
    for (const i of this.#published.get(guest) ?? []) {
      const key = this.#targetAt(i);
      const known = this.#byTarget.get(key);
      // Two outside ports may lead to one port of the guest; the mapping is that of the last.
      const mapping = known?.port === (i & 0xffff);
      // Flows that still end keep the port until the last of them is gone.
      if (mapping && known.flows > 0) this.#arena.portKind[i] = MAPPED;
      else {
        this.#arena.portKind[i] = 0;
        if (mapping) this.#byTarget.delete(key);
      }
    }
    this.#published.delete(guest);
  }

  #set(i: number, kind: number, guest: number, guestPort: number): void {
    this.#arena.portGuest[i] = guest + 1;
    this.#arena.portTarget[i] = guestPort;
    this.#arena.portKind[i] = kind;
  }
}
