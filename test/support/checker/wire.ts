/**
 * What an endpoint may put on the wire at any time, moved or not: each check reads one side of the gateway from its handshake on.
 */
import {
  describe,
  diff32,
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

/** A timestamp clock of 1 ms may run this far ahead of the last value we saw of it, milliseconds. */
const TICK_SLACK = 20;

/** No ACK reaches the peer for a byte that had not come in from the peer, without a gap before it. */
export function honestAcks({ peerSide }: Conversation): Violation[] {
  const received = new Received();
  const violations: Violation[] = [];
  for (const row of peerSide) {
    if (isRst(row)) continue;
    if (!row.outbound) received.add(row);
    else if (hasAck(row)) {
      const beyond = received.beyond(row.ack);
      const message = `${beyond} bytes acknowledged that had not come in: ${describe(row)}`;
      if (beyond > 0) violations.push({ check: 'honest ACKs', message, time: row.time });
      for (const block of row.sack) {
        // D-SACK reports what came twice; it is below the ACK and so has come.
        if (!received.has(block.left, block.right)) {
          violations.push({
            check: 'honest ACKs',
            message: `SACK of what had not come in: ${describe(row)}`,
            time: row.time,
          });
        }
      }
    }
  }
  return violations;
}

/** Ranges received of one stream, in unbounded numbers, merged. */
class Received {
  #ranges: { start: number; end: number }[] = [];
  #next: number | undefined;

  add(row: Segment): void {
    if (span(row) === 0) return;
    const start = this.#next === undefined ? row.seq : unwrap(row.seq, this.#next);
    const end = start + span(row);
    this.#next ??= start;
    if (end <= this.#next) return;
    this.#ranges.push({ start, end });
    // In order, which is nearly always, there is one range and the list stays empty.
    this.#ranges.sort((x, y) => x.start - y.start);
    let first = this.#ranges[0];
    while (first !== undefined && first.start <= this.#next) {
      this.#next = Math.max(this.#next, first.end);
      this.#ranges.shift();
      first = this.#ranges[0];
    }
  }

  /** How far an ACK is beyond what came without a gap. */
  beyond(ack: number): number {
    return this.#next === undefined ? 0 : unwrap(ack, this.#next) - this.#next;
  }

  has(left: number, right: number): boolean {
    if (this.#next === undefined) return false;
    let at = unwrap(left, this.#next);
    const end = unwrap(right, this.#next);
    if (at < this.#next) at = this.#next;
    for (const range of this.#ranges) {
      if (range.start <= at && range.end > at) at = range.end;
    }
    return at >= end;
  }
}

/** Nothing acknowledges or SACKs to a socket of the guest what this socket has not sent. */
export function acksWithinSent(epochs: readonly Epoch[]): Violation[] {
  return epochs.flatMap((epoch) => {
    const violations: Violation[] = [];
    let end = (epoch.isn + 1) >>> 0;
    // Both in the order they were captured: sorted by time, since they are captures of one device.
    for (const row of merged(epoch)) {
      if (row.outbound) {
        const rowEnd = (row.seq + span(row)) >>> 0;
        if (diff32(rowEnd, end) > 0) end = rowEnd;
        continue;
      }
      const highest = [...row.sack.map((block) => block.right), ...(hasAck(row) ? [row.ack] : [])];
      if (highest.some((edge) => diff32(edge, end) > 0)) {
        const message = `epoch ${epoch.index} is told of bytes it has not sent (sent up to ${end}): ${describe(row)}`;
        violations.push({ check: 'ACKs within what was sent', message, time: row.time });
      }
    }
    return violations;
  });
}

const merged = (epoch: Epoch): Segment[] =>
  [...epoch.outbound, ...epoch.inbound].sort((x, y) => x.time - y.time || x.frame - y.frame);

/** S20: the right edge of the window that the peer was given never moves back. */
export function rightEdge({ peerSide }: Conversation): Violation[] {
  const violations: Violation[] = [];
  const guestSyn = peerSide.find((row) => row.outbound && isSyn(row));
  const peerSyn = peerSide.find((row) => !row.outbound && isSyn(row));
  if (guestSyn === undefined || peerSyn === undefined) {
    return [{ check: 'right edge', message: 'the handshake is not in the capture, so the window scale is not known' }];
  }
  const scale = peerSyn.wscale === undefined ? 0 : (guestSyn.wscale ?? 0);
  let edge: number | undefined;
  for (const row of peerSide) {
    if (!row.outbound || !hasAck(row) || isRst(row)) continue;
    const ack = edge === undefined ? row.ack : unwrap(row.ack, edge);
    const here = ack + (isSyn(row) ? row.window : row.window * 2 ** scale);
    if (edge !== undefined && here < edge) {
      const message = `moved back by ${edge - here} bytes: ${describe(row)}`;
      violations.push({ check: 'right edge', message, time: row.time });
    }
    edge = Math.max(edge ?? -Infinity, here);
  }
  return violations;
}

/** S18: TSval towards the peer never goes back, is on every segment once agreed, and echoes only what the peer has sent. */
export function timestampsToPeer({ peerSide }: Conversation): Violation[] {
  const violations: Violation[] = [];
  const fail = (message: string, row: Segment): void => {
    violations.push({ check: 'timestamps to the peer', message: `${message}: ${describe(row)}`, time: row.time });
  };
  const syns = [true, false].map((outbound) => peerSide.find((row) => isSyn(row) && row.outbound === outbound));
  const agreed = syns.every((row) => row?.ts !== undefined);
  const fromPeer = new Set<number>();
  let last: { readonly row: Segment; readonly value: number } | undefined;
  for (const row of peerSide) {
    if (!row.outbound) {
      if (row.ts !== undefined) fromPeer.add(row.ts.value);
      continue;
    }
    if (isRst(row)) continue;
    if (row.ts === undefined) {
      if (agreed) fail('none, though agreed on', row);
      continue;
    }
    if (!agreed && !isSyn(row)) fail('not agreed on', row);
    const back = last === undefined ? 0 : -diff32(row.ts.value, last.value);
    if (last !== undefined && back > 0)
      fail(`${back} back, ${(row.time - last.row.time).toFixed(3)} ms behind (${describe(last.row)})`, row);
    last = { row, value: row.ts.value };
    if (hasAck(row) && !fromPeer.has(row.ts.echo)) fail('echoes what the peer did not send', row);
  }
  return violations;
}

/** S18: what a socket of the guest gets echoed lies between its first value and what its clock can have reached by then. */
export function timestampsToGuest(epochs: readonly Epoch[]): Violation[] {
  return epochs.flatMap((epoch) => {
    const violations: Violation[] = [];
    const first = epoch.syn.ts;
    if (first === undefined) return [];
    let latest = { value: first.value, time: epoch.syn.time };
    for (const row of merged(epoch)) {
      if (row.ts === undefined) continue;
      if (row.outbound) {
        latest = { value: row.ts.value, time: row.time };
      } else if (hasAck(row)) {
        const reachable = latest.value + (row.time - latest.time) + TICK_SLACK;
        if (diff32(row.ts.echo, first.value) < 0 || diff32(row.ts.echo, reachable >>> 0) > 0) {
          const message = `epoch ${epoch.index} sent ${first.value} to ${latest.value}, and is echoed ${row.ts.echo}: ${describe(row)}`;
          violations.push({ check: 'timestamps to the guest', message, time: row.time });
        }
      }
    }
    return violations;
  });
}

/** No RST reaches the peer. */
export function noReset({ peerSide }: Conversation): Violation[] {
  return peerSide
    .filter((row) => row.outbound && isRst(row))
    .map((row) => ({ check: 'no reset', message: `RST to the peer: ${describe(row)}`, time: row.time }));
}

/** Every checksum of either side is right and was verified. */
export function checksums({ peerSide, guestSide }: Conversation): Violation[] {
  return [...peerSide, ...guestSide]
    .filter((row) => row.tcpChecksum !== 'good' || row.ipChecksum !== 'good')
    .map((row) => ({
      check: 'checksums',
      message: `IP ${row.ipChecksum}, TCP ${row.tcpChecksum} on side ${row.leg}: ${describe(row)}`,
      time: row.time,
    }));
}

/** After its FIN a side sends nothing new; a FIN that is sent again stands at the same place. */
export function oneFin({ peerSide }: Conversation): Violation[] {
  const violations: Violation[] = [];
  let end: number | undefined;
  for (const row of peerSide) {
    if (!row.outbound || isRst(row)) continue;
    const rowEnd = (row.seq + span(row)) >>> 0;
    if (end !== undefined && (isFin(row) ? rowEnd !== end : diff32(rowEnd, end) > 0)) {
      violations.push({ check: 'one FIN', message: `the stream ended at ${end}: ${describe(row)}`, time: row.time });
    }
    if (isFin(row)) end ??= rowEnd;
  }
  return violations;
}
