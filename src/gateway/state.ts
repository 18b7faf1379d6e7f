/** The RFC 9293 state of the guest's end, derived from facts: who opened, which FINs were seen, and what is acknowledged. */
import type { FlowColumns } from './arena.ts';
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
  PEER_RESET,
  SYNCHRONIZED,
  SYN_RECEIVED,
  SYN_SENT,
  TIME_WAIT,
} from './flow.ts';

/**
 * Brings `state` up to date after an event. TIME-WAIT is entered when both FINs are acknowledged and the guest closed first;
 * the end that closed last is CLOSED then (RFC 9293 §3.6).
 */
export function updateState(f: FlowColumns, flow: number): void {
  f.state[flow] = derive(f, flow);
}

function derive(f: FlowColumns, flow: number): number {
  const flags = f.flags[flow]!;
  if (flags & (PEER_RESET | GUEST_RESET)) return CLOSED;
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
