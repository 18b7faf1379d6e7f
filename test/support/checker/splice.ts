/**
 * After a move: the peer saw no second handshake, and the segments it gets are those of the new socket, moved by one constant.
 */
import {
  describe,
  hasAck,
  isFin,
  isRst,
  isSyn,
  span,
  unwrap,
  type Conversation,
  type Segment,
  type Violation,
} from './conversation.ts';
import type { Epoch } from './epochs.ts';

/** Clocks of two captures agree this well, milliseconds. */
const CLOCK_MS = 1;

/** Segments of either side that are looked at to find candidates for a delta: as many, or segments of one length fit shifted. */
const SAMPLE = 128;
const CANDIDATES = 16;
/** Segments that decide between candidates. */
const TRIAL = 1000;

/**
 * Each incarnation opened with an initial sequence number of its own on the guest's side, with the options the connection had;
 * on the peer's side there was one handshake, ever.
 * @param moves how often the guest was moved, counting failed attempts that came as far as a handshake; undefined: any number
 */
export function handshakes(
  { peerSide }: Conversation,
  epochs: readonly Epoch[],
  moves: number | undefined,
): Violation[] {
  const violations: Violation[] = [];
  const fail = (message: string, time?: number): void => {
    violations.push({ check: 'handshakes', message, ...(time === undefined ? {} : { time }) });
  };
  for (const outbound of [true, false]) {
    const numbers = new Set(peerSide.filter((row) => isSyn(row) && row.outbound === outbound).map((row) => row.seq));
    const who = outbound ? 'guest' : 'peer';
    if (numbers.size !== 1)
      fail(`${numbers.size} initial sequence numbers of the ${who} on the peer's side: ${[...numbers].join()}`);
  }
  const second = epochs[1];
  // A connection that was moved before it was established may need its SYN-ACK again.
  if (second !== undefined && peerSide.some((row) => !isSyn(row) && !isRst(row) && row.time < second.start)) {
    const late = peerSide.find((row) => isSyn(row) && row.outbound && row.time >= second.start);
    if (late !== undefined) fail(`a SYN to the peer after the first move: ${describe(late)}`, late.time);
  }
  if (moves !== undefined && epochs.length !== moves + 1) {
    fail(`${epochs.length} handshakes on the guest's side, expected ${moves + 1} for ${moves} moves`);
  }
  if (new Set(epochs.map((epoch) => epoch.isn)).size !== epochs.length)
    fail('two handshakes on the guest side with one number');
  const first = epochs[0];
  for (const epoch of epochs.slice(1)) {
    if (epoch.answer === undefined)
      fail(`the SYN of epoch ${epoch.index} on leg ${epoch.leg} was not answered`, epoch.start);
    else if (first?.answer !== undefined) violations.push(...sameOptions(first, first.answer, epoch, epoch.answer));
  }
  return violations;
}

/** The gateway must offer a new socket what the old connection had agreed on, no more and no less. */
function sameOptions(first: Epoch, firstAnswer: Segment, epoch: Epoch, answer: Segment): Violation[] {
  const options = {
    'window scale': (row: Segment) => row.wscale !== undefined,
    'SACK permitted': (row: Segment) => row.sackPermitted,
    timestamps: (row: Segment) => row.ts !== undefined,
  };
  return Object.entries(options).flatMap(([name, has]) => {
    const agreed = has(first.syn) && has(firstAnswer) && has(epoch.syn);
    if (has(answer) === agreed) return [];
    const message = `${name} was ${agreed ? '' : 'not '}agreed on, and is ${agreed ? 'not ' : ''}offered to epoch ${epoch.index}`;
    return [{ check: 'handshakes', message, time: answer.time }];
  });
}

export interface Delta {
  readonly epoch: number;
  readonly leg: string;
  /** To be added modulo 2^32 to a sequence number of the guest; undefined: the guest sent nothing that reached the peer. */
  readonly delta: number | undefined;
  /** Segments of the peer's side that it explains. */
  readonly segments: number;
}

/**
 * Finds for each epoch the one number that turns the guest's sequence numbers into those the peer gets, and checks that every
 * segment with data or FIN that reached the peer is one the guest sent, moved by the delta of its epoch; that epochs do not
 * alternate; and that segments without data stand at a sequence number they may have.
 */
export function constantDeltas(
  { peerSide }: Conversation,
  epochs: readonly Epoch[],
): { deltas: Delta[]; violations: Violation[] } {
  const violations: Violation[] = [];
  const toPeer = peerSide.filter((row) => row.outbound && !isRst(row) && !isSyn(row));
  const found = epochs.map((epoch, index) => ({
    epoch,
    delta: bestDelta(epoch, epochs[index + 1]?.start, peerSide),
    sent: sentSegments(epoch),
    segments: 0,
  }));
  const known = new Set<Segment>();
  let current = 0;
  for (const row of toPeer) {
    const match = found.findLast(({ delta, sent }) => delta !== undefined && isSent(row, sent, delta));
    if (match !== undefined) {
      match.segments++;
      known.add(row);
    }
    if (row.len === 0 && !isFin(row)) continue;
    if (match === undefined) {
      violations.push({
        check: 'constant delta',
        message: `the guest sent nothing like ${describe(row)}`,
        time: row.time,
      });
    } else if (match.epoch.index < current) {
      const message = `epoch ${match.epoch.index} still speaks after epoch ${current} did: ${describe(row)}`;
      violations.push({ check: 'constant delta', message, time: row.time });
    } else {
      current = match.epoch.index;
    }
  }
  violations.push(...barePositions(peerSide, known));
  const deltas = found.map(({ epoch, delta, segments }) => ({ epoch: epoch.index, leg: epoch.leg, delta, segments }));
  if (deltas[0]?.delta !== undefined && deltas[0].delta !== 0) {
    violations.push({ check: 'constant delta', message: `the first epoch is moved by ${deltas[0].delta}` });
  }
  return { deltas, violations };
}

/** By sequence number, length and FIN: when the guest first sent such a segment, and which clocks of the peer it ever echoed in it. */
type Sent = ReadonlyMap<string, { readonly time: number; readonly echoes: Set<number | undefined> }>;

const key = (seq: number, row: Segment): string => `${seq >>> 0}+${row.len}${isFin(row) ? 'F' : ''}`;

function sentSegments(epoch: Epoch): Sent {
  const sent = new Map<string, { time: number; echoes: Set<number | undefined> }>();
  for (const row of epoch.outbound) {
    if (isSyn(row)) continue;
    const name = key(row.seq, row);
    const known = sent.get(name) ?? { time: row.time, echoes: new Set() };
    known.echoes.add(row.ts?.echo);
    sent.set(name, known);
  }
  return sent;
}

function isSent(row: Segment, sent: Sent, delta: number): boolean {
  const time = sent.get(key(row.seq - delta, row))?.time;
  return time !== undefined && time <= row.time + CLOCK_MS;
}

/** As `isSent`, and it echoed what the row echoes: most segments are of one length, so a wrong delta finds some other one. */
function isSame(row: Segment, sent: Sent, delta: number): boolean {
  return isSent(row, sent, delta) && sent.get(key(row.seq - delta, row))?.echoes.has(row.ts?.echo) === true;
}

/**
 * The delta that explains most of the segments to the peer. Two kinds of candidates: a socket's first byte is one the peer has
 * asked for, so its ACKs before the handshake tell where it may stand; and pairs of segments that are alike vote. Segments with
 * data count, since the bare ACKs of the gateway itself look like the guest's.
 */
function bestDelta(epoch: Epoch, next: number | undefined, peerSide: readonly Segment[]): number | undefined {
  const withData = epoch.outbound.some((row) => !isSyn(row) && (row.len > 0 || isFin(row)));
  const telling = (row: Segment): boolean => !isSyn(row) && !isRst(row) && (!withData || row.len > 0 || isFin(row));
  const all = peerSide.filter((row) => row.outbound && row.time >= epoch.start && telling(row));
  // A later epoch's segments fit a wrong delta too, if they are of one length. But when the later one failed, they are ours.
  const own = all.filter((row) => next === undefined || row.time < next);
  const later = (own.length > 0 ? own : all).slice(0, TRIAL);
  const sent = sentSegments(epoch);
  let best: { delta: number; explains: number } | undefined;
  for (const delta of new Set([...deltasOfAcks(epoch, peerSide), ...deltasOfPairs(epoch, later, telling, withData)])) {
    const explains = later.filter((row) => isSame(row, sent, delta)).length;
    if (explains > (best?.explains ?? 0)) best = { delta, explains };
    if (explains === later.length) break;
  }
  return best?.delta;
}

/** The latest first. */
function deltasOfAcks(epoch: Epoch, peerSide: readonly Segment[]): number[] {
  const end = peerSide.findIndex((row) => row.time > epoch.start);
  const before = peerSide
    .slice(0, end < 0 ? peerSide.length : end)
    .filter((row) => !row.outbound && hasAck(row) && !isRst(row));
  const acks = new Set(before.slice(-SAMPLE).map((row) => row.ack));
  return [...acks].toReversed().map((ack) => (ack - epoch.isn - 1) >>> 0);
}

/** Those with most votes first. */
function deltasOfPairs(
  epoch: Epoch,
  later: readonly Segment[],
  telling: (row: Segment) => boolean,
  withData: boolean,
): number[] {
  const votes = new Map<number, number>();
  for (const row of epoch.outbound.filter(telling).slice(0, SAMPLE)) {
    for (const other of later.slice(0, SAMPLE)) {
      const alike = row.len === other.len && isFin(row) === isFin(other) && row.time <= other.time + CLOCK_MS;
      if (!alike || (!withData && row.ack !== other.ack)) continue;
      const delta = (other.seq - row.seq) >>> 0;
      votes.set(delta, (votes.get(delta) ?? 0) + 1);
    }
  }
  const ranked = [...votes].toSorted((x, y) => y[1] - x[1]);
  return ranked.slice(0, CANDIDATES).map(([delta]) => delta);
}

/**
 * A segment without data that no epoch sent is the gateway's own. It stands at the end of what was sent, or (a probe, a late one)
 * not before what the peer has acknowledged.
 */
function barePositions(peerSide: readonly Segment[], known: ReadonlySet<Segment>): Violation[] {
  const violations: Violation[] = [];
  let sentEnd: number | undefined;
  let acked: number | undefined;
  for (const row of peerSide) {
    if (isRst(row)) continue;
    if (!row.outbound) {
      if (hasAck(row) && sentEnd !== undefined) acked = Math.max(acked ?? -Infinity, unwrap(row.ack, sentEnd));
      continue;
    }
    const seq = sentEnd === undefined ? row.seq : unwrap(row.seq, sentEnd);
    if (span(row) === 0 && sentEnd !== undefined && !known.has(row)) {
      const ahead = seq - sentEnd;
      const behind = acked === undefined ? 0 : acked - seq;
      if (ahead > 0 || behind > 1) {
        const where = ahead > 0 ? `${ahead} beyond what was sent` : `${behind} before what the peer has acknowledged`;
        violations.push({ check: 'constant delta', message: `${where}: ${describe(row)}`, time: row.time });
      }
    }
    // What the guest sent to a gateway that stood in for it is ahead of what the peer has seen.
    if (span(row) > 0 || sentEnd === undefined) sentEnd = Math.max(sentEnd ?? -Infinity, seq + span(row));
  }
  return violations;
}

/**
 * No byte is lost at a cut: what a new socket is told to expect had been delivered to an older one, which had not acknowledged
 * more; and what the peer was told is acknowledged was, in the end, delivered to a socket of the guest.
 */
export function handover({ peerSide }: Conversation, epochs: readonly Epoch[]): Violation[] {
  const violations: Violation[] = [];
  const fail = (message: string, time: number): void => {
    violations.push({ check: 'hand-over', message, time });
  };
  let delivered: number | undefined;
  // The peer's FIN is no byte: it is delivered again to a socket that starts just before it.
  const acknowledged = (row: Segment, { inbound }: Epoch): number => {
    const ofFin = inbound.some((other) => isFin(other) && (other.seq + span(other)) >>> 0 === row.ack);
    return hasAck(row) && delivered !== undefined ? unwrap(row.ack, delivered) - (ofFin ? 1 : 0) : -Infinity;
  };
  for (const [index, epoch] of epochs.entries()) {
    if (epoch.answer === undefined) continue;
    const first = delivered === undefined ? epoch.answer.seq + 1 : unwrap((epoch.answer.seq + 1) >>> 0, delivered);
    if (delivered !== undefined && first > delivered) {
      fail(`epoch ${epoch.index} starts ${first - delivered} bytes after what was delivered before`, epoch.start);
    }
    for (const old of epochs.slice(0, index)) {
      const beyond = old.outbound.find((row) => row.time < epoch.start && acknowledged(row, old) - first > 0);
      if (beyond !== undefined)
        fail(
          `epoch ${old.index} had acknowledged more than epoch ${epoch.index} starts with: ${describe(beyond)}`,
          epoch.start,
        );
    }
    delivered = Math.max(delivered ?? -Infinity, contiguousEnd(epoch.inbound, first));
  }
  const last = peerSide.findLast((row) => row.outbound && hasAck(row) && !isRst(row));
  if (last !== undefined && delivered !== undefined) {
    const missing = unwrap(last.ack, delivered) - delivered;
    if (missing > 0) fail(`${missing} bytes were acknowledged to the peer and never delivered to the guest`, last.time);
  }
  return violations;
}

/** End of what segments cover without a gap from `first` on (unbounded numbers). */
function contiguousEnd(rows: readonly Segment[], first: number): number {
  const pieces = rows
    .map((row) => {
      const start = unwrap(row.seq, first) + (isSyn(row) ? 1 : 0);
      return { start, end: start + row.len + (isFin(row) ? 1 : 0) };
    })
    .sort((x, y) => x.start - y.start);
  let end = first;
  for (const piece of pieces) {
    if (piece.start > end) break;
    end = Math.max(end, piece.end);
  }
  return end;
}
