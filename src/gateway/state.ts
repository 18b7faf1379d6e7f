/** The RFC 9293 state of the guest's end, derived from facts: who opened, which FINs were seen, and what is acknowledged. */
import type { FlowColumns } from './arena.ts';
import type { PlaneContext } from './context.ts';
import {
  CLOSED,
  CLOSE_WAIT,
  CLOSING,
  ESTABLISHED,
  FIN_WAIT_1,
  FIN_WAIT_2,
  GUEST_RESET,
  LAST_ACK,
  NO_FIN,
  OWNED,
  PEER_RESET,
  RESET_AFTER,
  SYNCHRONIZED,
  SYN_RECEIVED,
  SYN_SENT,
  TCP,
  TIME_WAIT,
} from './flow.ts';

/** How long a flow whose RST passed from the peer to the guest may still turn out to be alive, milliseconds. */
const RESET_DOUBT = 1000;

/**
 * Brings `state` up to date after an event. TIME-WAIT is entered when both FINs are acknowledged and the guest closed first;
 * the end that closed last is CLOSED then (RFC 9293 §3.6).
 */
export function updateState(f: FlowColumns, flow: number): void {
  f.state[flow] = derive(f, flow);
}

function derive(f: FlowColumns, flow: number): number {
  const flags = f.flags[flow]!;
  if (flags & (PEER_RESET | GUEST_RESET | RESET_AFTER)) return CLOSED;
  if (!(flags & SYNCHRONIZED)) return f.openedByGuest[flow] === 1 ? SYN_SENT : SYN_RECEIVED;
  const una = f.sndUna[flow]!;
  if (una < 0) return f.openedByGuest[flow] === 1 ? SYN_SENT : SYN_RECEIVED;
  const outFin = f.outFin[flow]!;
  const inFin = f.inFin[flow]!;
  if (outFin === NO_FIN) return inFin === NO_FIN || f.ackedToPeer[flow]! <= inFin ? ESTABLISHED : CLOSE_WAIT;
  const outAcked = una > outFin;
  if (inFin === NO_FIN) return outAcked ? FIN_WAIT_2 : FIN_WAIT_1;
  const inAcked = f.ackedToPeer[flow]! > inFin;
  // The guest closed last when its FIN acknowledged the peer's.
  const passive = f.passiveClose[flow] === 1;
  if (passive) return outAcked ? CLOSED : LAST_ACK;
  if (!inAcked) return outAcked ? FIN_WAIT_2 : FIN_WAIT_1;
  return outAcked ? TIME_WAIT : CLOSING;
}

/**
 * Whether the guest needs no kernel socket for a connection any more: a RST ended it, or both streams have ended, both ends have
 * acknowledged it, and the guest's kernel has acknowledged it too. While the gateway still has bytes or the FIN for it, it is not over.
 */
export function isOver(f: FlowColumns, flow: number): boolean {
  if (f.proto[flow] !== TCP) return false;
  if (f.flags[flow]! & (PEER_RESET | GUEST_RESET)) return true;
  if (f.flags[flow]! & RESET_AFTER) return false;
  return isClosed(f, flow) && f.rcvNxt[flow]! > f.inFin[flow]!;
}

/** Whether the peer has ended its stream, with all before it seen. A FIN ahead of a gap may be forged (`recordEnd`). */
export function hasEnded(f: FlowColumns, flow: number): boolean {
  return f.inFin[flow] !== NO_FIN && f.peerNxt[flow]! > f.inFin[flow]!;
}

/** Whether the peer's FIN was acknowledged by the guest, or to the peer: it is a FIN for good. */
export function isFinAcked(f: FlowColumns, flow: number): boolean {
  return f.inFin[flow] !== NO_FIN && Math.max(f.rcvNxt[flow]!, f.ackedToPeer[flow]!) > f.inFin[flow]!;
}

/** An offset of a stream without its FIN. */
export function dataOffset(offset: number, fin: number): number {
  return fin === NO_FIN ? offset : Math.min(offset, fin);
}

/** Whether both streams have ended and both ends are acknowledged to and by the peer. */
export function isClosed(f: FlowColumns, flow: number): boolean {
  return f.state[flow] === CLOSED || f.state[flow] === TIME_WAIT;
}

/** A RST of the peer passes to the guest's kernel, which alone knows whether it is at its RCV.NXT. */
export function notePeerReset(ctx: PlaneContext, flow: number): void {
  const { f } = ctx;
  f.flags[flow] = f.flags[flow]! | PEER_RESET;
  f.resetAt[flow] = ctx.now;
  updateState(f, flow);
}

/** A RST of the peer ended the connection for certain: for the guest when it has acknowledged all that the peer was told is taken. */
export function peerIsGone(ctx: PlaneContext, flow: number): void {
  const { f } = ctx;
  // Of one that is the gateway's there is nobody to read what came before.
  if (f.flags[flow]! & OWNED || f.rcvNxt[flow]! >= f.ackedToPeer[flow]!) return endByReset(ctx, flow, PEER_RESET);
  f.flags[flow] = f.flags[flow]! | RESET_AFTER;
  f.reopenAt[flow] = 0;
  updateState(f, flow);
}

/** A RST ended the connection for certain: nothing is held or repeated any more. `who` is PEER_RESET or GUEST_RESET. */
export function endByReset(ctx: PlaneContext, flow: number, who: number): void {
  const { f } = ctx;
  f.flags[flow] = f.flags[flow]! | who | OWNED;
  f.resetAt[flow] = ctx.now;
  f.rtoAt[flow] = 0;
  f.reopenAt[flow] = 0;
  ctx.custody.reset(flow, f.custodyBase[flow]!);
  updateState(f, flow);
}

/** Whether a RST of the peer has passed to the guest's kernel so lately that nobody knows whether it was accepted. */
export function isInDoubt(ctx: PlaneContext, flow: number): boolean {
  const { f } = ctx;
  return (f.flags[flow]! & (PEER_RESET | OWNED)) === PEER_RESET && ctx.now - f.resetAt[flow]! < RESET_DOUBT;
}

/** Takes back a RST of the peer that the guest's kernel cannot have accepted: both still talk a good while after it. */
export function revive(ctx: PlaneContext, flow: number): void {
  const { f } = ctx;
  if (!(f.flags[flow]! & PEER_RESET) || f.flags[flow]! & OWNED || isInDoubt(ctx, flow)) return;
  f.flags[flow] = f.flags[flow]! & ~PEER_RESET;
  updateState(f, flow);
}
