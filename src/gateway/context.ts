/**
 * What every step of the data plane works with: the arena's tables, the packet under the hand, the queue of what goes out,
 * and the time. One instance belongs to the pump thread; the steps are functions over it, so that a state-machine test drives
 * them with a buffer and a clock of its own.
 */
import { Packet } from '../rewrite/packet.ts';
import { SegmentWriter } from '../rewrite/build.ts';
import type { Ipv4 } from '../rewrite/numbers.ts';
import type { Arena, FlowColumns, GuestColumns } from './arena.ts';
import { Custody } from './custody.ts';
import { GATEWAY_DROPS } from './drops.ts';
import { EarlyDrop } from './early-drop.ts';
import { FastPath } from './fast-path.ts';
import { FlowTable } from './flow-table.ts';
import { GuestTable, RETIRED } from './guests.ts';
import { PortMap } from './nat.ts';
import type { OutQueue } from './out-queue.ts';

export type PlaneSettings = {
  /** The gateway's outside address. */
  readonly outsideAddress: Ipv4;
  /** Guest addresses: network number and prefix length. */
  readonly pool: { readonly base: number; readonly prefix: number };
  /** MTU of the devices, bytes. */
  readonly mtu: number;
};

export class PlaneContext {
  readonly arena: Arena;
  readonly f: FlowColumns;
  readonly g: GuestColumns;
  readonly flows: FlowTable;
  readonly guests: GuestTable;
  readonly ports: PortMap;
  readonly custody: Custody;
  readonly packet = new Packet();
  readonly writer = new SegmentWriter();
  readonly out: OutQueue;
  readonly settings: PlaneSettings;
  readonly fast: FastPath;
  readonly #early: EarlyDrop;
  /** Milliseconds of a monotonic clock; the pump sets it once a batch. */
  now = 0;
  /** What `promise` decided for the next segment to a peer: the offset it acknowledges, and its raw window field. */
  ack = 0;
  window = 0;
  /** Some flow has a timer running. */
  timersArmed = false;

  constructor(
    arena: Arena,
    out: OutQueue,
    settings: PlaneSettings,
    fast = new FastPath(arena, settings.outsideAddress),
  ) {
    this.arena = arena;
    this.f = arena.flows;
    this.g = arena.guests;
    this.flows = new FlowTable(arena);
    this.guests = new GuestTable(arena);
    this.ports = new PortMap(arena);
    this.custody = new Custody(arena);
    this.#early = new EarlyDrop(arena);
    this.out = out;
    this.settings = settings;
    this.fast = fast;
    this.packet.attach(out.buffer);
  }

  /** Counts a dropped packet. */
  drop(reason: keyof typeof GATEWAY_DROPS): void {
    this.count(GATEWAY_DROPS[reason]);
  }

  /** Counts a drop by the reason's number. */
  count(reason: number): void {
    this.arena.drops[reason] = this.arena.drops[reason]! + 1;
  }

  /** Queues the packet under the hand, as it was translated. */
  forward(device: number): void {
    const p = this.packet;
    this.out.push(device, p.off, p.end - p.off);
  }

  /** Queues a segment of a connection, unless it waits until the kernel carries the flow. */
  pass(flow: number, device: number): void {
    if (!this.fast.keeps(flow, this.packet, device, this.out)) this.forward(device);
  }

  /**
   * Makes a flow of a guest's port for which the outside port was acquired, on the guest's leg. -1 when the table is full: then the
   * packet is counted, and the port given back.
   */
  open(proto: number, guest: number, guestPort: number, outsidePort: number, peer: number, peerPort: number): number {
    const { f, g } = this;
    const old = this.#early.pick();
    if (old >= 0) {
      this.drop('early-drop');
      this.end(old);
    }
    const flow = this.flows.create(proto, guest, g.address[guest]!, guestPort, outsidePort, peer, peerPort, this.now);
    if (flow < 0) {
      this.ports.release(proto, guest, guestPort);
      this.drop('flow-table-full');
      return -1;
    }
    f.leg[flow] = g.leg[guest]!;
    f.epoch[flow] = g.epoch[guest]!;
    return flow;
  }

  /** Ends a flow: its custody, its outside port, its slot. */
  end(flow: number): void {
    const f = this.f;
    const guest = f.guest[flow]!;
    this.fast.forget(flow);
    this.custody.reset(flow, 0);
    this.ports.release(f.proto[flow]!, guest, f.guestPort[flow]!);
    this.flows.remove(flow);
    if (this.g.used[guest] === RETIRED && this.flowsOf(guest).next().done === true) this.guests.release(guest);
  }

  /** Slots of a guest's flows. */
  *flowsOf(guest: number): Generator<number> {
    const { f, flows } = this;
    for (let i = 0; i < flows.highWater; i++) if (f.flowId[i] !== 0 && f.guest[i] === guest) yield i;
  }

  /** Whether an address is one of the guest pool. */
  inPool(address: number): boolean {
    const { base, prefix } = this.settings.pool;
    const shift = 32 - prefix;
    return address >>> shift === base >>> shift;
  }
}
