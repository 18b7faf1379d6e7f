/** What must be true of every packet of the flow under test, whatever a test is about. */
import assert from 'node:assert/strict';
import { RANGES_PER_FLOW } from '../../../src/gateway/arena.ts';
import type { Bench } from './lang.ts';
import { GUEST_ADDRESS, OUTSIDE_ADDRESS } from './segments.ts';
import { pattern } from './wire.ts';
import type { Seen } from './wire.ts';

/** Numbers of the two streams' bytes in `pattern`. */
export const OUT_STREAM = 1;
export const IN_STREAM = 2;

/** Highest right edge and latest TSval the peer was shown. */
export type Shown = { edge: number; tsVal: number | undefined };

export function watchPeer(t: Bench, seen: Seen, shown: Shown): void {
  assert.equal(seen.src, OUTSIDE_ADDRESS);
  if (seen.dstPort !== t.ports.peer || seen.srcPort !== t.ports.outside) return;
  assert.ok(t.allowReset || !seen.flags.includes('R'), 'no RST to the peer');
  if (seen.flags.includes('R')) return;
  if (seen.payload.length > 0) watchBytes(seen, OUT_STREAM, t.outOffset(seen.seq));
  // Before the first freeze the guest's own numbers pass.
  const managed = t.managed();
  if (seen.flags.includes('A')) {
    const shift = seen.flags.includes('S') ? 0 : t.announcedShift();
    const edge = t.inOffset(seen.ack) + seen.window * 2 ** shift;
    assert.ok(edge >= shown.edge || !managed, `the right edge went back from ${shown.edge} to ${edge}`);
    shown.edge = Math.max(edge, shown.edge);
    if (managed) watchAck(t, t.inOffset(seen.ack));
  }
  if (seen.ts === undefined) return;
  const ahead = shown.tsVal === undefined ? 1 : (seen.ts[0] - shown.tsVal) | 0;
  assert.ok(ahead >= 0 || !managed, 'TSval went back');
  if (ahead > 0) shown.tsVal = seen.ts[0];
}

/** S21: what is acknowledged is the guest's, or in custody without a gap. */
function watchAck(t: Bench, ack: number): void {
  const slot = t.slot();
  if (slot < 0) return;
  const { rcvNxt, ranges, rangeCount, inFin } = t.f;
  let end = rcvNxt[slot]!;
  for (let i = 0; i < rangeCount[slot]!; i++) {
    const at = (slot * RANGES_PER_FLOW + i) * 2;
    if (ranges[at]! <= end) end = Math.max(end, ranges[at + 1]!);
  }
  if (end === inFin[slot]) end++;
  // What is acknowledged once is the guest's or custody's for good: K never falls below it.
  assert.ok(ack <= Math.max(end, t.acknowledged), `ACK ${ack} of what nobody holds; held up to ${end}`);
  t.acknowledged = Math.max(t.acknowledged, ack);
}

export function watchGuest(t: Bench, seen: Seen): void {
  assert.equal(seen.dst, GUEST_ADDRESS);
  if (seen.dstPort !== t.ports.guest || seen.srcPort !== t.ports.peer) return;
  if (seen.payload.length > 0) watchBytes(seen, IN_STREAM, t.inOffset(seen.seq));
}

function watchBytes(seen: Seen, stream: number, from: number): void {
  for (let i = 0; i < seen.payload.length; i++)
    if (seen.payload[i] !== pattern(stream, from + i)) assert.fail(`byte ${from + i} of stream ${stream} is another`);
}
