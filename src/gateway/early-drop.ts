/**
 * Which flow gives way when the table is full: one that only one of its ends wants so far, and the oldest of those looked at (after
 * conntrack's early drop). So a flood of SYNs or datagrams from forged addresses displaces itself, as do the datagrams of a guest that
 * nobody answers, and a connection gets in. A connect of a guest stays.
 *
 * Limits. A hand goes round the table, LOOKED_AT slots for each newcomer: what is found is the oldest of a sample, and with few to
 * find there may be none. What waits for a frozen guest gives way only where nothing else does: its peer asks again.
 */
import type { Arena } from './arena.ts';
import { GAUGE } from './arena.ts';
import { LIVE, isHalfOpen, isUnanswered } from './flow.ts';
import { GUEST_RUNNING } from './guests.ts';

/** Slots that one newcomer may cost. */
const LOOKED_AT = 64;

export class EarlyDrop {
  readonly #arena: Arena;
  #hand = 0;

  constructor(arena: Arena) {
    this.#arena = arena;
  }

  /** The flow that gives way to a newcomer; -1 when none is needed, or none is found. */
  pick(): number {
    const { flows: f, guests: g, gauges, limits } = this.#arena;
    if (gauges[GAUGE.flows]! < limits.maxFlows) return -1;
    let oldest = -1;
    let oldestWaiting = -1;
    for (let i = Math.min(LOOKED_AT, limits.maxFlows); i > 0; i--) {
      const flow = this.#hand;
      this.#hand = flow + 1 === limits.maxFlows ? 0 : flow + 1;
      if (f.phase[flow] === LIVE && g.state[f.guest[flow]!] === GUEST_RUNNING) {
        if (isHalfOpen(f, flow)) oldest = this.#older(flow, oldest);
      } else if (isUnanswered(f, flow)) {
        oldestWaiting = this.#older(flow, oldestWaiting);
      }
    }
    return oldest < 0 ? oldestWaiting : oldest;
  }

  #older(flow: number, than: number): number {
    const { lastSeen } = this.#arena.flows;
    return than < 0 || lastSeen[flow]! < lastSeen[than]! ? flow : than;
  }
}
