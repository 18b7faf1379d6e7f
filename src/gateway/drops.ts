/** Why the gateway drops a packet that is well formed. Numbers continue those of `rewrite/drops.ts`. */
import { DROP_REASONS } from '../rewrite/drops.ts';

export const GATEWAY_DROPS = {
  /** From outside, to another address than the gateway's. */
  'not-our-address': 64,
  /** No flow, and not a SYN. */
  'no-flow': 65,
  /** A SYN to a port that leads to no guest: answered with RST. */
  'closed-port': 66,
  /** From a leg, with a source address no guest has. */
  'unknown-guest': 67,
  /** From a leg that does not hold the guest's epoch: answered with RST (S40, S48). */
  'fenced-epoch': 68,
  /** Sent by a frozen guest's old socket. */
  frozen: 69,
  /** Sent by the socket of an attach that is not committed. */
  'before-commit': 70,
  /** A SYN of the current leg that no attach announced. */
  'unannounced-syn': 71,
  /** RST, SYN or ACK that RFC 5961 does not accept. */
  'blind-attack': 72,
  /** Older timestamp than the peer's last (RFC 7323 §5). */
  paws: 73,
  /** Beyond the window the flow's peer was given, or beyond what custody can hold. */
  'out-of-window': 74,
  'flow-table-full': 75,
  'no-outside-port': 76,
  /** From a guest to another guest, or to the gateway's own outside address; TCP is answered with RST. */
  hairpin: 77,
  /** The new host's socket lacks an option the connection has (S11). */
  'option-mismatch': 78,
  /** A datagram for a frozen guest. */
  'frozen-datagram': 79,
  /** Of any kind, errors and pings alike: none is translated. */
  icmp: 80,
  /** The guest acknowledges what the peer never sent. */
  'bad-ack': 81,
  /** An acknowledgement that came late: newer segments have passed on the fast path, or the gateway speaks in its flow since. */
  superseded: 82,
  /** Not a packet: a flow that only one of its ends wanted gave way to a new one, as the table was full. */
  'early-drop': 83,
  /** From the peer of a guest that has said nothing for a minute though it was asked: its host may be gone, and nobody answers for it. */
  'silent-guest': 84,
  /**
   * A SYN or a datagram for a guest's port that has a second outside port, which the same port of the peer uses already: the guest could
   * not tell the two apart. A SYN is answered with RST.
   */
  'port-collision': 85,
} as const;

/** Names of all reasons, by number. */
export function dropNames(): ReadonlyMap<number, string> {
  return new Map(
    [...Object.entries(DROP_REASONS), ...Object.entries(GATEWAY_DROPS)].map(([name, number]) => [number, name]),
  );
}
