/**
 * A flow of the fast path as one array of doubles, as `native/index.d.ts` describes it: from the arena's columns, and back.
 *
 * What is known of a flow only ever rises, whoever adds to it; so what gateway and kernel know is put together by taking the
 * larger of each, at any time and in any order.
 */
import { seqDiff } from '../rewrite/numbers.ts';
import type { Seq } from '../rewrite/numbers.ts';
import type { Arena, FlowColumns } from './arena.ts';
import { GAUGE } from './arena.ts';
import { HAS_TS, MANAGED } from './flow.ts';

/** Length of a record. */
export const RECORD = 39;
/** Milliseconds; at 0 nothing was ever seen. */
const LAST_SEEN = 28;
const LAST_TS_OUT_AT = 29;
const GUEST_TS = 30;
const LAST_TS_OUT = 31;
const PEER_TS = 32;
const LAST_TS_IN = 33;
export const BYTES_OUT = 34;
export const PACKETS_OUT = 35;
export const BYTES_IN = 36;
export const PACKETS_IN = 37;
const PEER_WINDOW = 38;
export const SND_UNA = 20;
export const SND_NXT = 21;
const PEER_EDGE = 22;
export const RCV_NXT = 23;
const ACKED_TO_PEER = 24;
export const PEER_NXT = 25;
export const MAX_EDGE = 26;
export const GUEST_EDGE = 27;

/** Bits of a record's flags: FLOW_MANAGED, FLOW_TIMESTAMPS and FLOW_HELD of native/bpf/flow.h. */
const RECORD_MANAGED = 1;
const RECORD_TIMESTAMPS = 2;
const RECORD_HELD = 4;

/** Indices of the network devices that a flow's packets come from and go to. */
export type FastDevices = {
  readonly outsideTun: number;
  readonly legs: readonly { readonly device: number; readonly tun: number }[];
};

/** Writes what names a flow: enough to find its keys. */
export function writeNames(record: Float64Array, f: FlowColumns, flow: number, outsideAddress: number): void {
  record[0] = f.guestAddress[flow]!;
  record[1] = f.peerAddress[flow]!;
  record[2] = outsideAddress;
  record[3] = f.guestPort[flow]!;
  record[4] = f.peerPort[flow]!;
  record[5] = f.outsidePort[flow]!;
}

/** Writes what does not change while the kernel carries the flow; after `writeNames`. */
export function writeSetup(record: Float64Array, f: FlowColumns, flow: number, devices: FastDevices): void {
  const leg = devices.legs[f.leg[flow]!];
  const flags = f.flags[flow]!;
  record[6] = leg?.device ?? 0;
  record[7] = leg?.tun ?? 0;
  record[8] = devices.outsideTun;
  record[9] =
    (flags & MANAGED ? RECORD_MANAGED : 0) |
    (flags & HAS_TS ? RECORD_TIMESTAMPS : 0) |
    (f.hold[flow] === 1 ? RECORD_HELD : 0);
  record[10] = f.delta[flow]!;
  record[11] = f.tsDelta[flow]!;
  record[12] = f.tsFloor[flow]!;
  record[13] = f.outBase[flow]!;
  record[14] = f.inBase[flow]!;
  record[15] = f.peerShift[flow]!;
  record[16] = f.guestShift[flow]!;
  record[17] = f.announcedShift[flow]!;
  record[18] = f.socketBase[flow]!;
  record[19] = f.playNxt[flow]!;
}

/** Writes what the gateway knows. */
export function writeKnown(record: Float64Array, f: FlowColumns, flow: number): void {
  record[SND_UNA] = f.sndUna[flow]!;
  record[SND_NXT] = f.sndNxt[flow]!;
  record[PEER_EDGE] = f.peerEdge[flow]!;
  record[RCV_NXT] = f.rcvNxt[flow]!;
  record[ACKED_TO_PEER] = f.ackedToPeer[flow]!;
  record[PEER_NXT] = f.peerNxt[flow]!;
  record[MAX_EDGE] = f.maxEdge[flow]!;
  record[GUEST_EDGE] = f.guestEdge[flow]!;
  record[LAST_SEEN] = f.lastSeen[flow]!;
  record[LAST_TS_OUT_AT] = f.lastTsOutAt[flow]!;
  record[GUEST_TS] = f.guestTs[flow]!;
  record[LAST_TS_OUT] = f.lastTsOut[flow]!;
  record[PEER_TS] = f.peerTs[flow]!;
  record[LAST_TS_IN] = f.lastTsIn[flow]!;
}

function later(column: Uint32Array, flow: number, value: number): void {
  if (seqDiff(value as Seq, column[flow]! as Seq) > 0) column[flow] = value;
}

function raise(column: Float64Array, flow: number, value: number): void {
  if (value > column[flow]!) column[flow] = value;
}

/** Takes what the kernel knows into the arena, its counts included. */
export function takeKnown(arena: Arena, flow: number, record: Float64Array): void {
  const f = arena.flows;
  raise(f.sndUna, flow, record[SND_UNA]!);
  raise(f.sndNxt, flow, record[SND_NXT]!);
  // The kernel carries only flows whose socket has sent all that was ever sent.
  raise(f.guestNxt, flow, record[SND_NXT]!);
  raise(f.peerEdge, flow, record[PEER_EDGE]!);
  raise(f.rcvNxt, flow, record[RCV_NXT]!);
  raise(f.ackedToPeer, flow, record[ACKED_TO_PEER]!);
  raise(f.peerNxt, flow, record[PEER_NXT]!);
  raise(f.maxEdge, flow, record[MAX_EDGE]!);
  raise(f.guestEdge, flow, record[GUEST_EDGE]!);
  raise(f.lastSeen, flow, record[LAST_SEEN]!);
  raise(f.lastTsOutAt, flow, record[LAST_TS_OUT_AT]!);
  later(f.guestTs, flow, record[GUEST_TS]!);
  later(f.lastTsOut, flow, record[LAST_TS_OUT]!);
  later(f.peerTs, flow, record[PEER_TS]!);
  later(f.lastTsIn, flow, record[LAST_TS_IN]!);
  if (f.flags[flow]! & MANAGED) {
    raise(f.ackedToGuest, flow, record[SND_UNA]!);
    raise(f.edgeToGuest, flow, record[PEER_EDGE]!);
  }
  if (record[PEER_WINDOW]! >= 0) f.peerWindow[flow] = record[PEER_WINDOW]!;
  takeCounts(arena, flow, record);
}

function takeCounts(arena: Arena, flow: number, record: Float64Array): void {
  const { flows: f, gauges, legPacketsIn, legPacketsOut } = arena;
  const [bytesOut, packetsOut] = [record[BYTES_OUT]!, record[PACKETS_OUT]!];
  const [bytesIn, packetsIn] = [record[BYTES_IN]!, record[PACKETS_IN]!];
  const leg = f.leg[flow]!;
  f.bytesOut[flow] = f.bytesOut[flow]! + bytesOut;
  f.packetsOut[flow] = f.packetsOut[flow]! + packetsOut;
  f.bytesIn[flow] = f.bytesIn[flow]! + bytesIn;
  f.packetsIn[flow] = f.packetsIn[flow]! + packetsIn;
  gauges[GAUGE.outsideOut] = gauges[GAUGE.outsideOut]! + packetsOut;
  gauges[GAUGE.outsideIn] = gauges[GAUGE.outsideIn]! + packetsIn;
  legPacketsIn[leg] = legPacketsIn[leg]! + packetsOut;
  legPacketsOut[leg] = legPacketsOut[leg]! + packetsIn;
}
