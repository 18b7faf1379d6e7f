/**
 * What operators see, decoded from the arena: flows, guests, counters. Reads shared memory only; the pump never stops for it.
 * A slot whose flow changed while it was decoded is left out (see `arena.ts`).
 */
import { formatIpv4 } from '../rewrite/numbers.ts';
import type { FlowDetail, FlowQuery, FlowSummary, GuestSummary, Publish } from './admin/schema.ts';
import type { Arena } from './arena.ts';
import { CHUNK_BYTES, GAUGE, RANGES_PER_FLOW } from './arena.ts';
import { dropNames } from './drops.ts';
import { isCarried } from './fast-path.ts';
import {
  BYTES_IN,
  BYTES_OUT,
  GUEST_EDGE,
  MAX_EDGE,
  PACKETS_IN,
  PACKETS_OUT,
  PEER_NXT,
  RCV_NXT,
  RECORD,
  SND_NXT,
  SND_UNA,
} from './fast-record.ts';
import { HAS_SACK, HAS_TS, LIVE, STATES, UDP, unmovable } from './flow.ts';
import { GUEST_FROZEN, GUEST_RUNNING, NO_LEG, guestId, guestName } from './guests.ts';
import { PUBLISHED } from './nat.ts';

/** Milliseconds of the clock the arena's times are in: monotonic, and the same for all threads of the process. */
export function arenaNow(): number {
  return Number(process.hrtime.bigint() / 1000n) / 1000;
}

/** What only the kernel knows yet of the flows it carries: `FastPathFlows` of the addon. */
export type KernelView = { read(slot: number, record: Float64Array): number };

const record = new Float64Array(RECORD);
const NOTHING = new Float64Array(RECORD);

/** What the kernel has seen of a flow since the pump looked; zeros when the kernel does not carry it. Good until the next call. */
function kernelRecord(arena: Arena, kernel: KernelView | undefined, slot: number): Float64Array {
  if (kernel === undefined || !isCarried(arena.flows, slot)) return NOTHING;
  return kernel.read(slot, record) === 0 ? record : NOTHING;
}

function summary(arena: Arena, names: ListingNames, slot: number): FlowSummary {
  const { flows: f, guests: g } = arena;
  const guest = f.guest[slot] ?? 0;
  const kernel = kernelRecord(arena, names.kernel, slot);
  const more = (index: number): number => kernel[index] ?? 0;
  return {
    id: f.flowId[slot] ?? 0,
    proto: f.proto[slot] === UDP ? 'udp' : 'tcp',
    state: STATES[f.state[slot] ?? 0] ?? 'CLOSED',
    guestId: guestId(g, guest),
    guestName: guestName(g, guest),
    guest: `${formatIpv4(f.guestAddress[slot] ?? 0)}:${f.guestPort[slot] ?? 0}`,
    outside: `:${f.outsidePort[slot] ?? 0}`,
    peer: `${formatIpv4(f.peerAddress[slot] ?? 0)}:${f.peerPort[slot] ?? 0}`,
    leg: names.legs[f.leg[slot] ?? 0] ?? '',
    epoch: f.epoch[slot] ?? 0,
    ageMs: Math.max(0, Math.round(arenaNow() - (f.createdAt[slot] ?? 0))),
    bytesOut: (f.bytesOut[slot] ?? 0) + more(BYTES_OUT),
    bytesIn: (f.bytesIn[slot] ?? 0) + more(BYTES_IN),
    packetsOut: (f.packetsOut[slot] ?? 0) + more(PACKETS_OUT),
    packetsIn: (f.packetsIn[slot] ?? 0) + more(PACKETS_IN),
    custodyBytes: ranges(arena, slot).reduce((sum, r) => sum + r.end - r.start, 0),
    splices: f.splices[slot] ?? 0,
    direction: f.openedByGuest[slot] === 1 ? 'out' : 'in',
    frozen: f.phase[slot] !== LIVE,
    fast: isCarried(f, slot),
  };
}

function ranges(arena: Arena, slot: number): { start: number; end: number }[] {
  const { flows: f } = arena;
  const first = slot * RANGES_PER_FLOW * 2;
  const count = Math.min(RANGES_PER_FLOW, f.rangeCount[slot] ?? 0);
  return Array.from({ length: count }, (_, i) => ({
    start: f.ranges[first + 2 * i] ?? 0,
    end: f.ranges[first + 2 * i + 1] ?? 0,
  }));
}

function matches(flow: FlowSummary, query: FlowQuery): boolean {
  const { guest, state, peer } = query;
  return (
    (guest === undefined || guest === flow.guestId || guest === flow.guestName || flow.guest.startsWith(`${guest}:`)) &&
    (state === undefined || state === flow.state) &&
    (peer === undefined || peer === flow.peer || flow.peer.startsWith(`${peer}:`))
  );
}

/** The outside address of the listing: text that stands before every outside port. */
export type ListingNames = {
  readonly legs: readonly string[];
  readonly outsideAddress: string;
  readonly kernel?: KernelView;
};

/** Flows in the order in which they were opened. */
export function listFlows(arena: Arena, names: ListingNames, query: FlowQuery): FlowSummary[] {
  const found: FlowSummary[] = [];
  const high = arena.gauges[GAUGE.highWater] ?? 0;
  for (let slot = 0; slot < high; slot++) {
    const flow = readFlow(arena, names, slot);
    if (flow !== undefined && matches(flow, query)) found.push(flow);
  }
  return found.sort((a, b) => a.id - b.id);
}

function readFlow(arena: Arena, names: ListingNames, slot: number): FlowSummary | undefined {
  const id = arena.flows.flowId[slot];
  if (id === 0) return undefined;
  const flow = summary(arena, names, slot);
  if (arena.flows.flowId[slot] !== id || flow.id !== id) return undefined;
  return { ...flow, outside: names.outsideAddress + flow.outside };
}

/** One flow with all its numbers, or undefined when there is none of that id. */
export function showFlow(arena: Arena, names: ListingNames, id: number): FlowDetail | undefined {
  const { flows: f } = arena;
  const slot = f.flowId.indexOf(id);
  if (slot < 0 || id === 0) return undefined;
  const flow = readFlow(arena, names, slot);
  if (flow === undefined) return undefined;
  const flags = f.flags[slot] ?? 0;
  const delta = f.delta[slot] ?? 0;
  const outBase = f.outBase[slot] ?? 0;
  const currentGuestIsn = f.guestIsn[slot] ?? 0;
  const held = ranges(arena, slot);
  const base = f.custodyBase[slot] ?? 0;
  const why = unmovable(flags);
  const kernel = kernelRecord(arena, names.kernel, slot);
  const highest = (column: Float64Array, index: number): number => Math.max(column[slot] ?? 0, kernel[index] ?? 0);
  return {
    ...flow,
    delta,
    sequence: {
      guestIsn: (outBase - 1) >>> 0,
      peerIsn: ((f.inBase[slot] ?? 0) - 1) >>> 0,
      currentGuestIsn,
      sndUna: flow.fast ? highest(f.sndUna, SND_UNA) : (f.sndUna[slot] ?? 0),
      sndNxt: highest(f.sndNxt, SND_NXT),
      rcvNxt: highest(f.rcvNxt, RCV_NXT),
      peerNxt: highest(f.peerNxt, PEER_NXT),
      delta,
      attachOffset: f.socketBase[slot] ?? 0,
    },
    windows: {
      peerWindow: f.peerWindow[slot] ?? 0,
      peerShift: f.peerShift[slot] ?? 0,
      guestShift: f.announcedShift[slot] ?? 0,
      maxEdge: highest(f.maxEdge, MAX_EDGE),
      guestEdge: highest(f.guestEdge, GUEST_EDGE),
    },
    timestamps: {
      enabled: (flags & HAS_TS) !== 0,
      delta: f.tsDelta[slot] ?? 0,
      lastToPeer: f.lastTsOut[slot] ?? 0,
      lastFromPeer: f.lastTsIn[slot] ?? 0,
    },
    custody: {
      bytes: flow.custodyBytes,
      start: base,
      end: held.at(-1)?.end ?? base,
      ranges: held,
      received: f.cut[slot] ?? -1,
    },
    sack: (flags & HAS_SACK) !== 0,
    mss: { guest: f.guestMss[slot] ?? 0, peer: f.peerMss[slot] ?? 0 },
    ...(why === undefined ? {} : { unmovable: why }),
  };
}

/** A guest by its slot, with what its owner or a pass over the tables knows: ports that lead to it, and how many flows it has. */
export function guestSummary(
  arena: Arena,
  legs: readonly string[],
  slot: number,
  publish: readonly Publish[],
  flows: number,
): GuestSummary {
  const g = arena.guests;
  const state = g.state[slot];
  return {
    id: guestId(g, slot),
    name: guestName(g, slot),
    address: formatIpv4(g.address[slot] ?? 0),
    leg: legs[g.leg[slot] ?? 0] ?? '',
    epoch: g.epoch[slot] ?? 0,
    state:
      g.nextLeg[slot] !== NO_LEG
        ? 'attaching'
        : state === GUEST_RUNNING
          ? 'running'
          : state === GUEST_FROZEN
            ? 'frozen'
            : 'sealed',
    publish: [...publish],
    flows,
  };
}

/** What is published, by guest slot: one pass over the ports, however many guests there are. */
function published(arena: Arena): ReadonlyMap<number, readonly Publish[]> {
  const found = new Map<number, Publish[]>();
  for (let i = 0; i < arena.portKind.length; i++) {
    if (arena.portKind[i] !== PUBLISHED) continue;
    const slot = (arena.portGuest[i] ?? 0) - 1;
    const guestPort = arena.portTarget[i] ?? 0;
    const publish = { proto: i >= 65536 ? 'udp' : 'tcp', outsidePort: i & 0xffff, guestPort } as const;
    const known = found.get(slot);
    if (known === undefined) found.set(slot, [publish]);
    else known.push(publish);
  }
  return found;
}

/** How many flows there are, by guest slot. */
function flowCounts(arena: Arena): Uint32Array {
  const { flows: f, limits } = arena;
  const counts = new Uint32Array(limits.maxGuests);
  const high = arena.gauges[GAUGE.highWater] ?? 0;
  for (let i = 0; i < high; i++) if (f.flowId[i] !== 0) counts[f.guest[i] ?? 0] = (counts[f.guest[i] ?? 0] ?? 0) + 1;
  return counts;
}

export function listGuests(arena: Arena, legs: readonly string[]): GuestSummary[] {
  const found: GuestSummary[] = [];
  const ports = published(arena);
  const flows = flowCounts(arena);
  for (let slot = 0; slot < arena.limits.maxGuests; slot++)
    if (arena.guests.used[slot] === 1)
      found.push(guestSummary(arena, legs, slot, ports.get(slot) ?? [], flows[slot] ?? 0));
  return found;
}

export type Counters = {
  readonly drops: Readonly<Record<string, number>>;
  /** By leg number. */
  readonly legs: readonly { readonly packetsIn: number; readonly packetsOut: number }[];
  readonly outside: { readonly packetsIn: number; readonly packetsOut: number };
  readonly flows: number;
  readonly guests: number;
  /** Chunks taken from the pool, in bytes: what counts against the limit. */
  readonly custodyBytes: number;
  readonly custodyLimit: number;
  /** Packets that a device refused. */
  readonly writeErrors: number;
};

/** All counters. Reasons that never happened are left out. */
export function readCounters(arena: Arena, legCount: number): Counters {
  const drops: Record<string, number> = {};
  for (const [number, name] of dropNames()) {
    const n = arena.drops[number] ?? 0;
    if (n > 0) drops[name] = n;
  }
  return {
    drops,
    legs: Array.from({ length: legCount }, (_, i) => ({
      packetsIn: arena.legPacketsIn[i] ?? 0,
      packetsOut: arena.legPacketsOut[i] ?? 0,
    })),
    outside: {
      packetsIn: arena.gauges[GAUGE.outsideIn] ?? 0,
      packetsOut: arena.gauges[GAUGE.outsideOut] ?? 0,
    },
    flows: arena.gauges[GAUGE.flows] ?? 0,
    guests: arena.gauges[GAUGE.guests] ?? 0,
    custodyBytes: (arena.gauges[GAUGE.chunksUsed] ?? 0) * CHUNK_BYTES,
    custodyLimit: arena.chunkFree.length * CHUNK_BYTES,
    writeErrors: arena.gauges[GAUGE.writeErrors] ?? 0,
  };
}
