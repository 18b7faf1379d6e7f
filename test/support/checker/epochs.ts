/**
 * The incarnations of a guest's socket, as its side of the gateway shows them: each begins with a handshake of its own.
 */
import { diff32, hasAck, isRst, isSyn, type Conversation, type Segment } from './conversation.ts';

export interface Epoch {
  readonly index: number;
  readonly leg: string;
  /** Time of the guest's SYN (of its SYN-ACK where the peer opened the connection), milliseconds since 1970. */
  readonly start: number;
  /** The guest kernel's initial sequence number. */
  readonly isn: number;
  /** The guest's SYN or SYN-ACK, and what came from the other side in that handshake (undefined: nothing, so it failed). */
  readonly syn: Segment;
  readonly answer: Segment | undefined;
  /** All segments of this incarnation in either direction, RSTs left out (those are how old sockets end). */
  readonly outbound: readonly Segment[];
  readonly inbound: readonly Segment[];
}

/** First byte from the peer that this incarnation expects, as a sequence number of the peer. */
export function expects(epoch: Epoch): number | undefined {
  return epoch.answer === undefined ? undefined : (epoch.answer.seq + 1) >>> 0;
}

/** The epochs of a conversation in the order they began. A SYN that is sent again, or one of the same number, begins none. */
export function findEpochs({ guestSide }: Conversation): Epoch[] {
  const starts: Segment[] = [];
  for (const segment of guestSide) {
    if (!segment.outbound || !isSyn(segment) || isRst(segment)) continue;
    if (!starts.some((known) => known.leg === segment.leg && known.seq === segment.seq)) starts.push(segment);
  }
  return starts.map((syn, index) => {
    const next = starts.find((other, at) => at > index && other.leg === syn.leg);
    const own = guestSide.filter(
      (segment) =>
        segment.leg === syn.leg &&
        !isRst(segment) &&
        (next === undefined || segment.time < next.time) &&
        belongs(segment, syn),
    );
    const inbound = own.filter((segment) => !segment.outbound);
    return {
      index,
      leg: syn.leg,
      start: syn.time,
      isn: syn.seq,
      syn,
      answer: inbound.find((segment) => isSyn(segment)),
      outbound: own.filter((segment) => segment.outbound),
      inbound,
    };
  });
}

/** From the handshake on; the SYN of a peer comes before the SYN-ACK that answers it. */
function belongs(segment: Segment, syn: Segment): boolean {
  if (segment.time >= syn.time) return true;
  return hasAck(syn) && !segment.outbound && isSyn(segment) && diff32(syn.ack, segment.seq) === 1;
}
