/**
 * Which flows the kernel carries past the pump, and what both know of them.
 *
 * Theory of operation. A connection that is established, and in which the gateway has nothing to say, is admitted: from then on
 * a program in the kernel (native/bpf/fast_path.bpf.c) translates its plain segments, and adds to what is known of it. Any other
 * segment goes on to the pump, and all that follow it, in order: the flow is the pump's again, which takes over what the kernel knows
 * (`meet`). Before something happens for which the flow must stand still (a freeze, say) it is withdrawn; when that returns, no packet of it
 * is on the way past the pump.
 *
 * No segment overtakes another when a flow is admitted: the kernel counts those that go on to the pump, the first of which it marks, and
 * carries the flow only when the pump has seen as many, which is when its queues are empty for a moment. A pump that never catches up admits after a good
 * while all the same: then what is still in the queues comes late, once, as on any path that changes. An acknowledgement that is late then
 * is dropped (`isOvertaken`).
 *
 * Without the kernel's part (old kernel, no privilege, `fast_path = "off"`) every method does nothing.
 */
import { IPV4_HEADER } from '../rewrite/ip.ts';
import { seqDiff } from '../rewrite/numbers.ts';
import type { Seq } from '../rewrite/numbers.ts';
import type { Packet } from '../rewrite/packet.ts';
import type { Arena, FlowColumns } from './arena.ts';
import { Custody } from './custody.ts';
import {
  ESTABLISHED,
  EXPECTED,
  GREETING,
  GUEST_RESET,
  HAS_AO,
  HAS_MD5,
  HAS_MPTCP,
  LACKS_SACK,
  LACKS_WSCALE,
  LIVE,
  MANAGED,
  OWNED,
  PEER_RESET,
  REOPENING,
  SYNCHRONIZED,
  TCP,
  WINDOW_CLOSED,
} from './flow.ts';
import type { FastDevices } from './fast-record.ts';
import { RECORD, takeKnown, writeKnown, writeNames, writeSetup } from './fast-record.ts';

/** The kernel's side: `FastPathFlows` of the addon. Every method gives 0, or `-errno`. */
export type FastFlows = {
  propose(slot: number, record: Float64Array): number;
  arm(slot: number): number;
  admit(slot: number, record: Float64Array, seen: number): number;
  isLive(slot: number): number;
  exchange(slot: number, record: Float64Array): number;
  withdraw(slot: number, record: Float64Array): number;
  forget(record: Float64Array): number;
};

/**
 * Values of the column `fast`: the kernel does not know the flow; knows it; will mark the next packet that goes to the pump; counts
 * those that go there; carries the flow; carries it while the gateway holds the peer's data.
 */
const UNKNOWN = 0;
const KNOWN = 1;
const ARMED = 2;
const COUNTED = 3;
const CARRIED = 4;
const CARRIED_HELD = 5;

/** Segments that pass through the pump before a flow is proposed: short conversations are not worth it. */
const WORTH = 8;
/** Of the column `passed`: nothing more is tried. */
const GIVEN_UP = 255;
const MOST_CANDIDATES = 256;
/** Counts that were not equal, after which both begin again: a damaged packet is counted on one side only. */
const MOST_TRIES = 16;
/** Milliseconds after which a flow is admitted all the same; most have let the pump's queues run empty by then, and keep their order. */
const PATIENCE = 1000;

/** What a flow must not be. */
const SPECIAL =
  PEER_RESET |
  GUEST_RESET |
  HAS_MD5 |
  HAS_AO |
  HAS_MPTCP |
  OWNED |
  WINDOW_CLOSED |
  REOPENING |
  GREETING |
  LACKS_SACK |
  LACKS_WSCALE |
  EXPECTED;

/** Whether the kernel carries a flow now. */
export function isCarried(f: FlowColumns, flow: number): boolean {
  return f.fast[flow]! >= CARRIED;
}

/**
 * Whether a segment without data was sent before one that the kernel has carried past it. It says nothing new, and its older clock
 * would look like an old duplicate (RFC 7323 §5). `acked` is what it acknowledges and `known` what later ones do, as offsets; `clock` is the
 * latest TSval of its sender.
 */
export function isOvertaken(p: Packet, acked: number, known: number, clock: number): boolean {
  return p.payloadLen === 0 && (acked < known || (p.tsAt !== 0 && seqDiff(p.tsVal as Seq, clock as Seq) < 0));
}

/**
 * Whether nothing is held of a flow whose peer's data is the gateway's to take: the guest's new window has not reached what the peer
 * was promised (S45). What the guest has room for may pass; what goes beyond comes to the pump.
 */
function isIdleHold(f: FlowColumns, flow: number): boolean {
  return (f.flags[flow]! & MANAGED) !== 0 && f.playNxt[flow]! >= f.peerNxt[flow]!;
}

/** Whether every segment of a flow that is plain may pass without the gateway. */
export function isPlain(f: FlowColumns, flow: number): boolean {
  const flags = f.flags[flow]!;
  return (
    f.proto[flow] === TCP &&
    f.phase[flow] === LIVE &&
    f.state[flow] === ESTABLISHED &&
    (f.hold[flow] === 0 || isIdleHold(f, flow)) &&
    f.rangeCount[flow] === 0 &&
    f.rtoAt[flow] === 0 &&
    f.reopenAt[flow] === 0 &&
    (flags & (SPECIAL | SYNCHRONIZED)) === SYNCHRONIZED &&
    f.inFin[flow]! < 0 &&
    f.outFin[flow]! < 0 &&
    // What an older socket had sent, the new one has sent again; and both its ends have heard the same.
    f.guestNxt[flow] === f.sndNxt[flow] &&
    (!(flags & MANAGED) || f.ackedToGuest[flow]! >= f.sndUna[flow]!)
  );
}

type Met = Pick<Packet, 'reserved' | 'ihl' | 'ttl'>;

/** Whether the kernel looks for the flow of such a packet at all, and so counts it. One router has lowered its time to live since. */
function isCounted({ ihl, ttl }: Met): boolean {
  return ihl === IPV4_HEADER && ttl > 1;
}

export class FastPath {
  readonly #arena: Arena;
  readonly #flows: FastFlows | undefined;
  readonly #devices: FastDevices;
  readonly #outsideAddress: number;
  readonly #custody: Custody;
  readonly #record = new Float64Array(RECORD);
  readonly #candidates = new Int32Array(MOST_CANDIDATES);
  /** When each was first tried; 0 for not yet. */
  readonly #since = new Float64Array(MOST_CANDIDATES);
  #waiting = 0;

  constructor(arena: Arena, outsideAddress: number, kernel?: { flows: FastFlows; devices: FastDevices }) {
    this.#arena = arena;
    this.#custody = new Custody(arena);
    this.#outsideAddress = outsideAddress;
    this.#flows = kernel?.flows;
    this.#devices = kernel?.devices ?? { outsideTun: 0, legs: [] };
  }

  /** A packet of the flow is under the hand: what the kernel knows is known before it is looked at. */
  meet(flow: number, packet: Met): void {
    const f = this.#arena.flows;
    const counted = isCounted(packet) ? 1 : 0;
    if (f.fast[flow] === COUNTED) f.seen[flow] = f.seen[flow]! + counted;
    else if (packet.reserved && f.fast[flow] === ARMED) {
      f.fast[flow] = COUNTED;
      f.seen[flow] = 1;
      f.tries[flow] = 0;
    }
    if (!isCarried(f, flow)) return;
    // Asked first: when it is not, packets on other processors that still saw it live are through, and have shown what they had.
    const live = this.#flows?.isLive(flow) === 1;
    this.#exchange(flow);
    if (live) return;
    // The kernel has let go of it, with this very packet where it counts.
    f.fast[flow] = COUNTED;
    f.seen[flow] = counted;
    f.tries[flow] = 0;
    f.passed[flow] = WORTH;
    this.#propose(flow);
  }

  /** Takes over what the kernel knows of a flow, for somebody who only looks. */
  look(flow: number): void {
    if (isCarried(this.#arena.flows, flow)) this.#exchange(flow);
  }

  /** A plain segment of the flow has passed. */
  settle(flow: number): void {
    const f = this.#arena.flows;
    if (isCarried(f, flow)) {
      const held = f.fast[flow] === CARRIED_HELD;
      if (isPlain(f, flow) && held === (f.hold[flow] === 1)) this.#exchange(flow);
      else this.withdraw(flow);
      return;
    }
    if (this.#flows === undefined) return;
    const passed = f.passed[flow]!;
    if (passed >= WORTH) return;
    f.passed[flow] = passed + 1;
    if (passed + 1 === WORTH) this.#propose(flow);
  }

  #propose(flow: number): void {
    if (this.#waiting >= MOST_CANDIDATES) {
      this.#arena.flows.passed[flow] = 0;
      return;
    }
    this.#since[this.#waiting] = 0;
    this.#candidates[this.#waiting++] = flow;
  }

  /** Between two batches, with nothing left to write. `idle` says that the devices were read empty; `now` is the arena's time. */
  admit(idle: boolean, now: number): void {
    let kept = 0;
    for (let i = 0; i < this.#waiting; i++) {
      const flow = this.#candidates[i]!;
      const since = this.#since[i]! || now;
      const force = now - since > PATIENCE;
      if ((idle || force) && !this.#advance(flow, force)) continue;
      this.#since[kept] = since;
      this.#candidates[kept++] = flow;
    }
    this.#waiting = kept;
  }

  /** Takes a candidate one step further. True when another is to follow. */
  #advance(flow: number, force: boolean): boolean {
    const f = this.#arena.flows;
    const kernel = this.#flows;
    // The slot may be another flow's by now, which then has its own count.
    if (kernel === undefined || f.flowId[flow] === 0 || f.passed[flow] !== WORTH || isCarried(f, flow)) return false;
    if (!isPlain(f, flow) || this.#devices.legs[f.leg[flow]!] === undefined) {
      f.passed[flow] = 0;
      return false;
    }
    const record = this.#record;
    writeNames(record, f, flow, this.#outsideAddress);
    writeSetup(record, f, flow, this.#devices);
    if (f.fast[flow] === UNKNOWN) {
      if (kernel.propose(flow, record) !== 0) {
        f.passed[flow] = GIVEN_UP;
        return false;
      }
      f.fast[flow] = ARMED;
    } else if (f.fast[flow] === KNOWN || (f.fast[flow] === COUNTED && f.tries[flow]! >= MOST_TRIES)) {
      kernel.arm(flow);
      f.fast[flow] = ARMED;
    }
    if (f.fast[flow] === ARMED && !force) return true;
    writeKnown(record, f, flow);
    if (kernel.admit(flow, record, force ? -1 : f.seen[flow]!) !== 1) {
      f.tries[flow] = f.tries[flow]! + 1;
      return true;
    }
    f.fast[flow] = f.hold[flow] === 1 ? CARRIED_HELD : CARRIED;
    f.passed[flow] = 0;
    return false;
  }

  #exchange(flow: number): void {
    const record = this.#record;
    writeKnown(record, this.#arena.flows, flow);
    this.#flows?.exchange(flow, record);
    this.#take(flow);
  }

  #take(flow: number): void {
    const f = this.#arena.flows;
    takeKnown(this.#arena, flow, this.#record);
    if (f.fast[flow] !== CARRIED_HELD) return;
    // All that the peer sent has gone to the guest, and is the peer's to repeat; custody begins where the guest is.
    if (f.peerNxt[flow]! > f.playNxt[flow]!) f.playNxt[flow] = f.peerNxt[flow]!;
    this.#custody.release(flow, f.rcvNxt[flow]!);
  }

  /** Takes a flow back: all its packets come to the pump from here on, and everything that the kernel knew is known. */
  withdraw(flow: number): void {
    const f = this.#arena.flows;
    if (!isCarried(f, flow)) {
      if (f.fast[flow] !== UNKNOWN) f.fast[flow] = KNOWN;
      f.passed[flow] = f.passed[flow] === GIVEN_UP ? GIVEN_UP : 0;
      return;
    }
    const record = this.#record;
    writeKnown(record, f, flow);
    this.#flows?.withdraw(flow, record);
    this.#take(flow);
    f.fast[flow] = KNOWN;
    f.passed[flow] = 0;
  }

  /** The flow ends: the kernel forgets it. */
  forget(flow: number): void {
    const f = this.#arena.flows;
    if (f.fast[flow] === UNKNOWN) return;
    this.withdraw(flow);
    writeNames(this.#record, f, flow, this.#outsideAddress);
    this.#flows?.forget(this.#record);
    f.fast[flow] = UNKNOWN;
  }
}
