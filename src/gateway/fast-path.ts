/**
 * Which flows the kernel carries past the pump, and what both know of them.
 *
 * Theory of operation. A connection that is established, and in which the gateway has nothing to say, is admitted: from then on
 * a program in the kernel (native/bpf/fast_path.bpf.c) translates its plain segments, and adds to what is known of it. Any other
 * segment goes on to the pump, and all that follow it, in order: the flow is the pump's again, which takes over what the kernel knows
 * (`meet`). Before something happens for which the flow must stand still (a freeze, say) it is withdrawn; when that returns, no packet of it
 * is on the way past the pump.
 *
 * No segment overtakes another when a flow is admitted: the kernel counts those that go on to the pump, and carries the flow only when the
 * pump has seen as many, which is when the queues are empty of it for a moment. Each direction has a queue of its own, in which older
 * segments may wait that were not counted; so the first that counts is marked in each, and both marks must have been seen. Both sides count
 * the same: of the guest's only what comes from its leg. What is damaged the pump cannot count; then all begins again. A flow of which
 * something always waits is made to stand still for that (`pause.ts`).
 *
 * Without the kernel's part (old kernel, no privilege, `fast_path = "off"`) every method does nothing.
 */
import { IPV4_HEADER } from '../rewrite/ip.ts';
import { seqDiff } from '../rewrite/numbers.ts';
import type { Seq } from '../rewrite/numbers.ts';
import type { Packet } from '../rewrite/packet.ts';
import type { Arena, FlowColumns } from './arena.ts';
import { Custody } from './custody.ts';
import { GATEWAY_DROPS } from './drops.ts';
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
import type { OutQueue } from './out-queue.ts';
import { Pause } from './pause.ts';

/** The kernel's side: `FastPathFlows` of the addon. Every method gives 0, or `-errno`. */
export type FastFlows = {
  propose(slot: number, record: Float64Array): number;
  arm(slot: number, legDevice: number): number;
  admit(slot: number, record: Float64Array, seen: number): number;
  isLive(slot: number): number;
  exchange(slot: number, record: Float64Array): number;
  withdraw(slot: number, record: Float64Array): number;
  forget(record: Float64Array): number;
};

/**
 * Values of the column `fast`: the kernel does not know the flow; knows it; marks the next packet of each direction that goes to the pump;
 * the pump has seen the mark of those to the peer, of those to the guest, or both, and counts from there on; the kernel carries the flow;
 * carries it while the gateway holds the peer's data.
 */
const UNKNOWN = 0;
const KNOWN = 1;
const ARMED = 2;
const MARKED_OUT = 3;
const MARKED_IN = 4;
const COUNTED = 5;
const CARRIED = 6;
const CARRIED_HELD = 7;

/** Segments that pass through the pump before a flow is proposed: short conversations are not worth it. */
const WORTH = 8;
/** Of the column `passed`: nothing more is tried. */
const GIVEN_UP = 255;
const MOST_CANDIDATES = 256;
/** Counts that were not equal, after which both begin again: a damaged packet is counted on one side only. */
const MOST_TRIES = 16;
/** Packets without a mark, where one is awaited, after which both begin again: it was on a damaged one. (With the queues read empty it cannot be in them.) */
const MOST_UNMARKED = 64;
/** Milliseconds after which a flow of which something always waits is paused, how long at most, and until it is paused again. */
const PATIENCE = 20;
const PAUSE = 15;
const NEXT_PAUSE = 1000;

const SUPERSEDED = GATEWAY_DROPS.superseded;

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
  /** From when on each may be paused; 0 for not yet known. */
  readonly #pauseAt = new Float64Array(MOST_CANDIDATES);
  readonly #pause = new Pause();
  #waiting = 0;

  constructor(arena: Arena, outsideAddress: number, kernel?: { flows: FastFlows; devices: FastDevices }) {
    this.#arena = arena;
    this.#custody = new Custody(arena);
    this.#outsideAddress = outsideAddress;
    this.#flows = kernel?.flows;
    this.#devices = kernel?.devices ?? { outsideTun: 0, legs: [] };
  }

  /** A packet of the flow, to the peer or to the guest, is under the hand: what the kernel knows is known before it is looked at. */
  meet(flow: number, packet: Met, toPeer: boolean): void {
    const f = this.#arena.flows;
    const counted = isCounted(packet) ? 1 : 0;
    if (!isCarried(f, flow)) return this.#count(flow, packet.reserved, counted, toPeer ? MARKED_OUT : MARKED_IN);
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

  /** A packet of a flow that the kernel does not carry, in the direction whose mark alone would be `mark`. */
  #count(flow: number, marked: boolean, counted: number, mark: number): void {
    const f = this.#arena.flows;
    const fast = f.fast[flow]!;
    if (fast < ARMED) return;
    if (fast === COUNTED || fast === mark) {
      f.seen[flow] = f.seen[flow]! + counted;
    } else if (marked && fast === ARMED) {
      f.fast[flow] = mark;
      f.seen[flow] = 1;
    } else if (marked) {
      f.fast[flow] = COUNTED;
      f.seen[flow] = f.seen[flow]! + 1;
      this.#again(flow);
      f.tries[flow] = 0;
    } else if (!this.#lacksMark(flow)) {
      f.tries[flow] = f.tries[flow]! + 1;
      if (this.#lacksMark(flow)) this.#again(flow);
    }
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
    if (passed + 1 === WORTH && (!this.#awaitsMarks(flow) || this.#lacksMark(flow))) this.#propose(flow);
  }

  /** A candidate that awaited its marks is one again; it still is when they were believed to be lost. */
  #again(flow: number): void {
    const f = this.#arena.flows;
    if (f.passed[flow] === WORTH) this.#propose(flow);
  }

  #lacksMark(flow: number): boolean {
    return this.#awaitsMarks(flow) && this.#arena.flows.tries[flow]! >= MOST_UNMARKED;
  }

  #awaitsMarks(flow: number): boolean {
    const fast = this.#arena.flows.fast[flow]!;
    return fast >= ARMED && fast < COUNTED;
  }

  #propose(flow: number): void {
    if (this.#waiting >= MOST_CANDIDATES) {
      this.#arena.flows.passed[flow] = 0;
      return;
    }
    this.#pauseAt[this.#waiting] = 0;
    this.#candidates[this.#waiting++] = flow;
  }

  /** Some flow stands still: `admit` is to be called again within a millisecond. */
  get pausing(): boolean {
    return this.#pause.flow >= 0;
  }

  /** Whether a translated segment that is to leave by `device` must wait. */
  keeps(flow: number, p: Packet, device: number, out: OutQueue): boolean {
    return this.#pause.flow === flow && this.#pause.keep(p, device, out);
  }

  /**
   * Between two batches, with nothing left to write; what a flow kept back is queued then. `idle` says that the devices were read empty,
   * `now` is the arena's time.
   */
  admit(idle: boolean, now: number, out: OutQueue): void {
    let kept = 0;
    for (let i = 0; i < this.#waiting; i++) {
      const flow = this.#candidates[i]!;
      if (idle && !this.#advance(flow, now)) continue;
      this.#candidates[kept] = flow;
      this.#pauseAt[kept] = this.#pauseAt[i]! || now + PATIENCE;
      if (!this.pausing && this.#arena.flows.fast[flow] === COUNTED && now >= this.#pauseAt[kept]!) {
        this.#pause.begin(flow, now, now + PAUSE);
        this.#pauseAt[kept] = now + NEXT_PAUSE;
      }
      kept++;
    }
    this.#waiting = kept;
    if (this.pausing) this.#endPause(now, out);
  }

  #endPause(now: number, out: OutQueue): void {
    const { flow } = this.#pause;
    const f = this.#arena.flows;
    if (f.phase[flow] !== LIVE) return this.#countSuperseded(this.#pause.forget());
    if (f.fast[flow] === COUNTED && !this.#pause.isOver(now)) return;
    if (isCarried(f, flow)) {
      const acked = f.ackedToPeer[flow]!;
      const guestTs = f.guestTs[flow]!;
      const una = f.sndUna[flow]!;
      const peerTs = f.peerTs[flow]!;
      this.#exchange(flow);
      const toPeer = f.ackedToPeer[flow]! !== acked || f.guestTs[flow]! !== guestTs;
      const toGuest = f.sndUna[flow]! !== una || f.peerTs[flow]! !== peerTs;
      this.#countSuperseded(this.#pause.supersede(toPeer, toGuest));
    }
    this.#pause.end(out);
  }

  #countSuperseded(segments: number): void {
    this.#arena.drops[SUPERSEDED] = this.#arena.drops[SUPERSEDED]! + segments;
  }

  /** Takes a candidate one step further. True when it is to be tried again; one that awaits its marks comes back with them, or without. */
  #advance(flow: number, now: number): boolean {
    const f = this.#arena.flows;
    const kernel = this.#flows;
    // The slot may be another flow's by now, which then has its own count.
    if (kernel === undefined || f.flowId[flow] === 0 || f.passed[flow] !== WORTH || isCarried(f, flow)) return false;
    const leg = this.#devices.legs[f.leg[flow]!];
    if (!isPlain(f, flow) || leg === undefined) {
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
      this.#armed(flow);
    } else if (
      f.fast[flow] === KNOWN ||
      (f.fast[flow] === COUNTED && f.tries[flow]! >= MOST_TRIES) ||
      this.#lacksMark(flow)
    ) {
      kernel.arm(flow, leg.device);
      this.#armed(flow);
    }
    if (this.#awaitsMarks(flow)) return false;
    if (this.#pause.flow === flow && !this.#pause.isQuiet(f.seen[flow]!, now)) return true;
    writeKnown(record, f, flow);
    if (kernel.admit(flow, record, f.seen[flow]!) !== 1) {
      if (this.#pause.flow !== flow) f.tries[flow] = f.tries[flow]! + 1;
      return true;
    }
    f.fast[flow] = f.hold[flow] === 1 ? CARRIED_HELD : CARRIED;
    f.passed[flow] = 0;
    return false;
  }

  #armed(flow: number): void {
    const f = this.#arena.flows;
    f.fast[flow] = ARMED;
    f.tries[flow] = 0;
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
    if (this.#pause.flow === flow) this.#countSuperseded(this.#pause.forget());
    this.withdraw(flow);
    writeNames(this.#record, f, flow, this.#outsideAddress);
    this.#flows?.forget(this.#record);
    f.fast[flow] = UNKNOWN;
  }
}
