/** The words of a flow: protocol, RFC 9293 state, phase of a migration, and the facts that are bits. */

import type { FlowColumns } from './arena.ts';

export const TCP = 6;
export const UDP = 17;

/**
 * State of the *guest's* end, in the names of RFC 9293 §3.3.2, as the segments that passed the gateway show it.
 * A UDP flow is `ESTABLISHED` from its first datagram.
 */
export const STATES = [
  'CLOSED',
  'SYN-SENT',
  'SYN-RECEIVED',
  'ESTABLISHED',
  'FIN-WAIT-1',
  'FIN-WAIT-2',
  'CLOSE-WAIT',
  'CLOSING',
  'LAST-ACK',
  'TIME-WAIT',
] as const;
export type StateName = (typeof STATES)[number];

export const CLOSED = 0;
export const SYN_SENT = 1;
export const SYN_RECEIVED = 2;
export const ESTABLISHED = 3;
export const FIN_WAIT_1 = 4;
export const FIN_WAIT_2 = 5;
export const CLOSE_WAIT = 6;
export const CLOSING = 7;
export const LAST_ACK = 8;
export const TIME_WAIT = 9;

/**
 * Where a flow is in a migration.
 * LIVE: its leg's socket is the guest's. FROZEN: the gateway stands in for the guest. ATTACHING: frozen still, and the
 * leg of the announced epoch may open the next socket.
 */
export const LIVE = 0;
export const FROZEN = 1;
export const ATTACHING = 2;

/** Bits of `flows.flags`. */
export const HAS_SACK = 1 << 0;
export const HAS_TS = 1 << 1;
export const HAS_WSCALE = 1 << 2;
/** Peer's SYN-ACK or the guest's was seen: both initial sequence numbers are known. */
export const SYNCHRONIZED = 1 << 3;
/** A valid RST ended the connection from the peer's side: the guest gets ECONNRESET (S32). */
export const PEER_RESET = 1 << 4;
export const GUEST_RESET = 1 << 5;
/** S25: options that bind a connection to its addresses, seen at SYN time. */
export const HAS_MD5 = 1 << 6;
export const HAS_AO = 1 << 7;
export const SYN_MPTCP = 1 << 8;
export const HAS_MPTCP = 1 << 9;
/** Frozen or spliced at least once: the gateway speaks in this connection and its numbers may differ from the kernel's. */
export const MANAGED = 1 << 10;
/** The guest has no socket for it any more, and never will: the gateway answers what still comes from either side. */
export const OWNED = 1 << 11;
/** The last window told to the peer was zero. */
export const WINDOW_CLOSED = 1 << 12;
/** The gateway opens towards the guest's listener as the peer would: a connection no accept had returned at the cut. */
export const REOPENING = 1 << 13;
/** The peer has answered the guest's connect, and the guest's socket was not seen to know it yet. */
export const GREETING = 1 << 14;
/** Options the connection has and the guest's current socket has not; the same of the socket an attach opened (S10). */
export const LACKS_SACK = 1 << 15;
export const LACKS_WSCALE = 1 << 16;
export const NEXT_LACKS_SACK = 1 << 17;
export const NEXT_LACKS_WSCALE = 1 << 18;
/** A connect of the guest that its peer has not been seen to answer was committed before the SYN of its new socket came. */
export const EXPECTED = 1 << 20;
/** The peer has reset it, after bytes that it was told are taken: the guest gets those first, as from its own kernel's queue, then the RST. */
export const RESET_AFTER = 1 << 21;
/** The old kernel was asked whether it has a socket for this flow at all. */
export const PROBED = 1 << 19;

/** Offset that no FIN has. */
export const NO_FIN = -2;

/** Why a flow cannot move, from its flags; undefined when it can (S25). */
export function unmovable(flags: number): string | undefined {
  if (flags & HAS_MD5) return 'TCP-MD5 (RFC 2385) signs the addresses and sequence numbers';
  if (flags & HAS_AO) return 'TCP-AO (RFC 5925) signs the addresses and sequence numbers';
  if (flags & HAS_MPTCP) return 'MPTCP (RFC 8684) numbers data beyond this one flow';
  return undefined;
}

/** Whether a flow is nothing but what its peer sent: a SYN without its answer, or datagrams to a published port. */
export function isUnanswered(f: FlowColumns, flow: number): boolean {
  if (f.openedByGuest[flow] === 1) return false;
  return f.proto[flow] === TCP ? (f.flags[flow]! & SYNCHRONIZED) === 0 : f.packetsOut[flow] === 0;
}

/** Whether only one end is known to want a flow: a handshake that the peer has not completed, or datagrams without an answer. */
export function isHalfOpen(f: FlowColumns, flow: number): boolean {
  if (f.proto[flow] === TCP) return f.state[flow] === SYN_RECEIVED;
  return f.packetsIn[flow] === 0 || f.packetsOut[flow] === 0;
}
