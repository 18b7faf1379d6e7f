/**
 * Whether a guest that the gateway answers for is still there.
 *
 * Theory of operation. After a splice the gateway takes and acknowledges the peer's bytes until the guest's window has caught up with what
 * was promised (S45), which in a quiet connection may take long. If the guest's host dies meanwhile, keepalives would be answered, and data
 * taken, for ever. So when the peer asks, the guest is asked too, by a keepalive of our own; one that has said nothing since for a minute
 * is not spoken for any more, and the peer finds out by its own timers, as without a gateway.
 */
import type { PlaneContext } from './context.ts';
import { probeGuest } from './emit.ts';
import { GREETING, OWNED, REOPENING } from './flow.ts';

/** How long a guest that has answered is not asked again, and how long one that has not is waited for, milliseconds. */
const ASK_EVERY = 10_000;
const PATIENCE = 60_000;

/** Something goes to the guest that it must answer. False when it was asked lately, and has spoken since. */
export function noteAsked(ctx: PlaneContext, flow: number): boolean {
  const { f, now } = ctx;
  // The fast path may have carried its answer.
  ctx.fast.look(flow);
  if (f.packetsOut[flow] === f.askedOut[flow] && f.askedAt[flow] !== 0) return true;
  if (now - f.askedAt[flow]! < ASK_EVERY) return false;
  f.askedAt[flow] = now;
  f.askedOut[flow] = f.packetsOut[flow]!;
  return true;
}

/** Asks the guest, if it has a socket that can answer. */
export function askGuest(ctx: PlaneContext, flow: number): void {
  if (!(ctx.f.flags[flow]! & (OWNED | REOPENING | GREETING)) && noteAsked(ctx, flow)) probeGuest(ctx, flow);
}

/** Whether it was asked long ago, and has said nothing since. */
export function isSilent(ctx: PlaneContext, flow: number): boolean {
  const { f, now } = ctx;
  const { askedAt, askedOut, packetsOut } = f;
  if (askedAt[flow] === 0 || packetsOut[flow] !== askedOut[flow] || now - askedAt[flow]! < PATIENCE) return false;
  ctx.fast.look(flow);
  return packetsOut[flow] === askedOut[flow];
}
