/**
 * The data plane without its devices: takes batches of packets in a buffer, and puts what follows from them into the queue.
 *
 * Theory of operation. One packet at a time is parsed in place, meets its flow, and is translated in place; nothing is copied or
 * allocated, except into and out of custody. Time is set once a batch. Timers and expiry run from `tick`.
 */
import type { PlaneContext } from './context.ts';
import { rstPeer } from './emit.ts';
import {
  CLOSED,
  CLOSE_WAIT,
  ESTABLISHED,
  FIN_WAIT_2,
  GUEST_RESET,
  LIVE,
  OWNED,
  PEER_RESET,
  RESET_AFTER,
  SYNCHRONIZED,
  TIME_WAIT,
  UDP,
  isUnanswered,
} from './flow.ts';
import { GAUGE } from './arena.ts';
import { fromPeer } from './inbound.ts';
import { GUEST_RUNNING } from './guests.ts';
import { OUTSIDE } from './out-queue.ts';
import { fromGuest } from './outbound.ts';
import { clearReserved } from '../rewrite/translate.ts';
import { playTimers } from './player.ts';
import { isOver } from './state.ts';

/** Idle times after which a flow is forgotten, milliseconds. What a frozen guest has to go on with never is. */
const IDLE = {
  /** RFC 5382 REQ-5: not less than 2 hours 4 minutes. */
  established: 2 * 3600_000 + 4 * 60_000,
  /** RFC 5382 REQ-5: not less than 4 minutes. */
  transitory: 4 * 60_000,
  /** As Linux waits for the FIN of a peer when the program has closed (tcp_fin_timeout). */
  ownedFinWait2: 60_000,
  timeWait: 60_000,
  closed: 10_000,
  /** RFC 4787 REQ-5: not less than 2 minutes; 5 recommended. */
  udp: 5 * 60_000,
} as const;

/** How often timers run while one is armed, milliseconds. */
export const TIMER_TICK = 10;
/** How often the table is searched for what has ended, milliseconds. */
const EXPIRY_TICK = 1000;

export class Plane {
  readonly ctx: PlaneContext;
  #timersAt = 0;
  #expiryAt = 0;

  constructor(ctx: PlaneContext) {
    this.ctx = ctx;
  }

  /** Takes one packet that stands in the queue's buffer. `device` is numbered as in `out-queue.ts`. */
  packet(device: number, offset: number, length: number): void {
    const ctx = this.ctx;
    const { gauges, legPacketsIn } = ctx.arena;
    const reason = ctx.packet.parse(offset, length);
    if (reason !== 0) return ctx.count(reason);
    // The fast path's mark, which nobody else is to see (RFC 791: must be zero).
    if (ctx.packet.reserved) clearReserved(ctx.packet);
    if (device === OUTSIDE) {
      gauges[GAUGE.outsideIn] = gauges[GAUGE.outsideIn]! + 1;
      fromPeer(ctx);
    } else {
      legPacketsIn[device - 1] = legPacketsIn[device - 1]! + 1;
      fromGuest(ctx, device - 1);
    }
  }

  /** Runs what is due at `ctx.now`. */
  tick(): void {
    const { ctx } = this;
    if (ctx.timersArmed && ctx.now >= this.#timersAt) {
      this.#timersAt = ctx.now + TIMER_TICK;
      let armed = false;
      const high = ctx.flows.highWater;
      for (let flow = 0; flow < high; flow++)
        if (ctx.f.rtoAt[flow]! > 0 || ctx.f.reopenAt[flow]! > 0) armed = playTimers(ctx, flow) || armed;
      ctx.timersArmed = armed;
    }
    if (ctx.now >= this.#expiryAt) {
      this.#expiryAt = ctx.now + EXPIRY_TICK;
      for (let flow = ctx.flows.highWater - 1; flow >= 0; flow--) {
        if (ctx.f.flowId[flow] === 0) continue;
        ctx.fast.look(flow);
        if (this.#idle(flow) > this.#idleLimit(flow)) this.#expire(flow);
      }
    }
  }

  /** How long a flow has done nothing. What still comes for one that a RST ended keeps it no longer. */
  #idle(flow: number): number {
    const { f, now } = this.ctx;
    return now - (f.flags[flow]! & (PEER_RESET | GUEST_RESET) ? f.resetAt[flow]! : f.lastSeen[flow]!);
  }

  #idleLimit(flow: number): number {
    const { f } = this.ctx;
    if (f.phase[flow] !== LIVE) {
      // Nothing of it is the guest's yet, and anybody can make one: it waits as long as its peer asks (S15).
      if (isUnanswered(f, flow)) return f.proto[flow] === UDP ? IDLE.udp : IDLE.transitory;
      return this.ctx.g.state[f.guest[flow]!] === GUEST_RUNNING ? IDLE.transitory : Infinity;
    }
    if (f.proto[flow] === UDP) return IDLE.udp;
    // As long as its guest reads what came before.
    if ((f.flags[flow]! & (RESET_AFTER | OWNED)) === RESET_AFTER) return IDLE.established;
    switch (f.state[flow]) {
      case ESTABLISHED:
      case CLOSE_WAIT:
        return IDLE.established;
      case FIN_WAIT_2:
        return f.flags[flow]! & OWNED ? IDLE.ownedFinWait2 : IDLE.established;
      case TIME_WAIT:
      case CLOSED:
        // With bytes or a FIN that the guest has not acknowledged, it is over for the peer only.
        if (!isOver(f, flow) && !(f.flags[flow]! & OWNED)) return IDLE.transitory;
        return f.state[flow] === CLOSED ? IDLE.closed : IDLE.timeWait;
      default:
        return IDLE.transitory;
    }
  }

  #expire(flow: number): void {
    const { ctx } = this;
    // RFC 5382 allows to tell the ends that the mapping is gone. (Only TCP flows are synchronized.)
    const { flags, sndUna } = ctx.f;
    const told = isOver(ctx.f, flow) || (flags[flow]! & OWNED) !== 0;
    if (flags[flow]! & SYNCHRONIZED && sndUna[flow]! >= 0 && !told) rstPeer(ctx, flow);
    ctx.end(flow);
  }
}
