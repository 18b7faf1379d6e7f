/**
 * A kernel for the fast path that is plain TypeScript: it counts and carries as native/bpf/fast_path.bpf.c does, one packet at a
 * time, and keeps a list of what it was asked.
 */
import type { FastFlows } from '../../../src/gateway/fast-path.ts';
import { BYTES_IN, PACKETS_IN, PACKETS_OUT, RECORD, RCV_NXT, SND_UNA } from '../../../src/gateway/fast-record.ts';

/** Of a record: where evidence begins, and where counts do. */
const EVIDENCE = 20;
const COUNTS = BYTES_IN - 2;

type Slot = { live: boolean; armed: { toPeer: boolean; toGuest: boolean }; count: number; evidence: Float64Array };

function armed(): Slot['armed'] {
  return { toPeer: true, toGuest: true };
}

function disarmed(): Slot['armed'] {
  return { toPeer: false, toGuest: false };
}

export class FakeKernel implements FastFlows {
  readonly asked: string[] = [];
  readonly slots = new Map<number, Slot>();
  /** The device from which it counts what the guest sends, since it was armed again. */
  leg: number | undefined;
  /** Results of `propose` other than 0. */
  refuses = 0;
  /** Runs when a flow was admitted. */
  admitted: (() => void) | undefined;
  /** Runs as the last carried packet ends, when the gateway asks whether a flow is live that is not. */
  finishing: (() => void) | undefined;

  /** A packet that the kernel does not carry. True when it goes to the pump with the mark. */
  toPump(flow: number, way: keyof Slot['armed'] = 'toPeer'): boolean {
    const slot = this.slots.get(flow);
    if (slot === undefined) return false;
    const marked = slot.armed[way];
    slot.count = slot.live ? 1 : slot.count + 1;
    slot.live = false;
    slot.armed[way] = false;
    return marked;
  }

  /** A packet that it carries, which shows what is given. */
  carry(flow: number, shown: { sndUna?: number; rcvNxt?: number; packetsIn?: number; packetsOut?: number }): void {
    const { evidence } = this.#slot(flow);
    if (shown.sndUna !== undefined) evidence[SND_UNA] = shown.sndUna;
    if (shown.rcvNxt !== undefined) evidence[RCV_NXT] = shown.rcvNxt;
    evidence[PACKETS_IN] = evidence[PACKETS_IN]! + (shown.packetsIn ?? 0);
    evidence[PACKETS_OUT] = evidence[PACKETS_OUT]! + (shown.packetsOut ?? 0);
  }

  #slot(flow: number): Slot {
    const slot = this.slots.get(flow);
    if (slot === undefined) throw new Error(`the kernel does not know flow ${flow}`);
    return slot;
  }

  propose(flow: number): number {
    this.asked.push('propose');
    if (this.refuses !== 0) return this.refuses;
    this.slots.set(flow, { live: false, armed: armed(), count: 0, evidence: new Float64Array(RECORD) });
    return 0;
  }

  arm(flow: number, legDevice: number): number {
    this.asked.push('arm');
    this.leg = legDevice;
    Object.assign(this.#slot(flow), { armed: armed(), count: 0 });
    return 0;
  }

  admit(flow: number, record: Float64Array, seen: number): number {
    this.asked.push(`admit ${seen}`);
    const slot = this.#slot(flow);
    if (slot.live) throw new Error('admitted twice');
    slot.evidence = record.slice();
    slot.evidence.fill(0, COUNTS, COUNTS + 4);
    if (slot.armed.toPeer || slot.armed.toGuest || seen !== slot.count) return 0;
    Object.assign(slot, { live: true, armed: disarmed(), count: 0 });
    this.admitted?.();
    return 1;
  }

  isLive(flow: number): number {
    const { live } = this.#slot(flow);
    if (!live) this.finishing?.();
    this.finishing = undefined;
    return live ? 1 : 0;
  }

  exchange(flow: number, record: Float64Array): number {
    const { evidence } = this.#slot(flow);
    for (let i = EVIDENCE; i < COUNTS; i++) record[i] = evidence[i] = Math.max(evidence[i]!, record[i]!);
    for (let i = COUNTS; i < COUNTS + 4; i++) record[i] = evidence[i]!;
    evidence.fill(0, COUNTS, COUNTS + 4);
    record[RECORD - 1] = -1;
    return 0;
  }

  withdraw(flow: number, record: Float64Array): number {
    this.asked.push('withdraw');
    Object.assign(this.#slot(flow), { live: false, armed: disarmed(), count: 0 });
    return this.exchange(flow, record);
  }

  read(flow: number, record: Float64Array): number {
    record.set(this.#slot(flow).evidence, 0);
    return 0;
  }

  forget(): number {
    this.asked.push('forget');
    this.slots.clear();
    return 0;
  }
}
