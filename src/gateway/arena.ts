/**
 * The arena: one shared memory of fixed layout with everything that is true about the wire.
 *
 * Theory of operation. Flows, guests and custody are columns (structure of arrays) over one SharedArrayBuffer, indexed by
 * slot. The pump thread is the only writer; the main thread reads the same columns for `gateway flows list` and never
 * stops the pump. A slot's `flowId` is written last when a flow is made and cleared first when it ends, so a reader that
 * sees the same id before and after decoding has read one flow (values of one instant may still differ by a packet).
 *
 * Stream offsets, byte counts and times are doubles: exact to 2^53, no BigInt on the way of a packet.
 *
 * Limits. The memory is anonymous: it ends with the process. Untouched pages cost nothing, so the columns are sized for
 * `maxFlows` at once.
 */

/** Bytes of one custody chunk. */
export const CHUNK_BYTES = 16 * 1024;
/** The largest window ever passed to a peer, and so what custody promises to take of one flow, bytes (S31, S46). */
export const CUSTODY_LIMIT = 4 * 1024 * 1024;
/**
 * What one flow may hold. A window is told in units of its scale: an edge that must not move back (S20) is rounded up now and
 * then, and what that adds has its place here.
 */
export const CUSTODY_CAPACITY = CUSTODY_LIMIT + 256 * 1024;
/** Slots of a flow's ring of chunks: the capacity, plus one because a window need not start at a chunk. */
export const CHUNKS_PER_FLOW = CUSTODY_CAPACITY / CHUNK_BYTES + 1;
/** Ranges of out-of-order bytes a flow's custody remembers. */
export const RANGES_PER_FLOW = 16;
/** Bytes of a guest's name in the arena, UTF-8, zero padded. */
export const NAME_BYTES = 64;
/** Counters: one per drop reason, indexed by the reason's number. */
export const DROP_COUNTERS = 128;
/** Most legs a gateway has: the pump reads 64 devices (`MAX_DEVICES` of native/src/batch.rs), and one is the outside's. */
export const MAX_LEGS = 63;

const MAGIC = 0x4b454447;
const LAYOUT_VERSION = 3;
const HEADER_WORDS = 16;

export type ArenaLimits = {
  /** Flow slots. */
  readonly maxFlows: number;
  /** Guest slots. */
  readonly maxGuests: number;
  /** Custody of all flows together, bytes. */
  readonly custodyBytes: number;
};

type Column = Float64ArrayConstructor | Uint32ArrayConstructor | Uint16ArrayConstructor | Uint8ArrayConstructor;

/** Lays columns out one after the other, each aligned to eight bytes. A first pass without a buffer measures. */
class Cursor {
  at = HEADER_WORDS * 4;
  readonly #buffer: SharedArrayBuffer | undefined;

  constructor(buffer: SharedArrayBuffer | undefined) {
    this.#buffer = buffer;
  }

  #take<T>(kind: Column & (new (buffer: SharedArrayBuffer, offset: number, length: number) => T), length: number): T {
    const offset = this.at;
    this.at += (length * kind.BYTES_PER_ELEMENT + 7) & ~7;
    return this.#buffer === undefined
      ? new kind(new SharedArrayBuffer(0), 0, 0)
      : new kind(this.#buffer, offset, length);
  }

  f64(length: number): Float64Array<SharedArrayBuffer> {
    return this.#take<Float64Array<SharedArrayBuffer>>(Float64Array, length);
  }
  u32(length: number): Uint32Array<SharedArrayBuffer> {
    return this.#take<Uint32Array<SharedArrayBuffer>>(Uint32Array, length);
  }
  u16(length: number): Uint16Array<SharedArrayBuffer> {
    return this.#take<Uint16Array<SharedArrayBuffer>>(Uint16Array, length);
  }
  u8(length: number): Uint8Array<SharedArrayBuffer> {
    return this.#take<Uint8Array<SharedArrayBuffer>>(Uint8Array, length);
  }
}

/**
 * Columns of a flow. "Out" is guest → peer, "in" is peer → guest. Offsets count data bytes of a stream from 0; a SYN sits
 * at -1 and a FIN takes one (S37). Sequence numbers are as the *peer* counts them unless a name says `guest`.
 */
function flowColumns(c: Cursor, n: number) {
  return {
    /** Number shown to people, never reused; 0 = the slot is free. */
    flowId: c.f64(n),
    /** Index of the next slot in the list of free ones. */
    nextFree: c.u32(n),
    proto: c.u8(n),
    state: c.u8(n),
    /** 0 = opened by the peer, 1 = opened by the guest. */
    openedByGuest: c.u8(n),
    phase: c.u8(n),
    hold: c.u8(n),
    flags: c.u32(n),
    guest: c.u32(n),
    guestAddress: c.u32(n),
    guestPort: c.u16(n),
    outsidePort: c.u16(n),
    peerAddress: c.u32(n),
    peerPort: c.u16(n),
    leg: c.u8(n),
    epoch: c.u32(n),
    splices: c.u32(n),
    /** Times in milliseconds of the pump's monotonic clock. */
    createdAt: c.f64(n),
    lastSeen: c.f64(n),
    bytesOut: c.f64(n),
    bytesIn: c.f64(n),
    packetsOut: c.f64(n),
    packetsIn: c.f64(n),

    // Guest → peer.
    /** Sequence number of offset 0: the first guest ISN + 1. */
    outBase: c.u32(n),
    /** Added to the current guest socket's SEQ to give the peer's (S16). */
    delta: c.u32(n),
    /** ISN of the guest's current kernel socket. */
    guestIsn: c.u32(n),
    sndUna: c.f64(n),
    /** SND.NXT over all epochs; a FIN counts. */
    sndNxt: c.f64(n),
    /** SND.NXT of the current guest socket (S47). */
    guestNxt: c.f64(n),
    /** Offset of the guest's FIN, or -2. */
    outFin: c.f64(n),
    /** 1 = the guest had acknowledged the peer's FIN when it sent its own. */
    passiveClose: c.u8(n),
    /** Right edge the peer allows the guest. */
    peerEdge: c.f64(n),
    /** What the peer's last segment carried, raw. */
    peerWindow: c.u32(n),
    peerShift: c.u8(n),
    /** Shift the first guest socket announced; the peer applies it for ever (S13). */
    announcedShift: c.u8(n),
    /** Shift the current guest socket announced. */
    guestShift: c.u8(n),
    peerMss: c.u16(n),
    /** MSS the first guest socket announced, and the current one. */
    guestMss: c.u16(n),
    socketMss: c.u16(n),
    /** Offset of the current guest socket's first byte. */
    socketBase: c.f64(n),

    // Peer → guest.
    /** Sequence number of offset 0: the peer's ISN + 1. The delta of this direction is 0 for ever (S8). */
    inBase: c.u32(n),
    /** What the guest's kernel, or an export, has proved it holds: all below is the guest's. */
    rcvNxt: c.f64(n),
    /** Highest ACK sent to the peer. */
    ackedToPeer: c.f64(n),
    /** Highest offset seen from the peer; a FIN counts. */
    peerNxt: c.f64(n),
    /** Offset of the peer's FIN, or -2. */
    inFin: c.f64(n),
    /** Highest right edge ever advertised to the peer (S20). */
    maxEdge: c.f64(n),
    /** Right edge of the guest's current kernel socket. */
    guestEdge: c.f64(n),
    /** Last ACK and right edge forwarded to the guest, to know when there is news for it. */
    ackedToGuest: c.f64(n),
    edgeToGuest: c.f64(n),

    // Timestamps (RFC 7323).
    /** Added to the guest's TSval (S18). */
    tsDelta: c.u32(n),
    /** First and latest TSval of the current guest socket, on its own clock: what a TSecr to it lies between. */
    tsFloor: c.u32(n),
    guestTs: c.u32(n),
    lastTsOut: c.u32(n),
    lastTsOutAt: c.f64(n),
    /** TS.Recent of the peer's segments, which is echoed to it; and their highest TSval, from which the guest's view goes on. */
    lastTsIn: c.u32(n),
    peerTs: c.u32(n),

    // Custody and its sender.
    /** Offset below which nothing is held. */
    custodyBase: c.f64(n),
    /** The K of an export, or -1 while unknown. */
    cut: c.f64(n),
    /** Where bytes were taken last: the range they are in is the first that is reported (RFC 2018 §4). */
    lastTaken: c.f64(n),
    rangeCount: c.u8(n),
    ranges: c.f64(n * RANGES_PER_FLOW * 2),
    chunks: c.u32(n * CHUNKS_PER_FLOW),
    playNxt: c.f64(n),
    playCwnd: c.f64(n),
    recover: c.f64(n),
    dupAcks: c.u8(n),
    rto: c.f64(n),
    /** When custody is sent again, or 0. */
    rtoAt: c.f64(n),
    /** When a window reopening is repeated, and after how long again, or 0 (S34). */
    reopenAt: c.f64(n),
    reopenAfter: c.f64(n),
    /** Challenge ACKs of the second `challengeSecond` (5961 §7). */
    challengeSecond: c.u32(n),
    challengeCount: c.u8(n),
    ident: c.u16(n),
    /** When the guest was asked whether it is there, and how many packets it had sent by then (`silence.ts`). */
    askedAt: c.f64(n),
    askedOut: c.f64(n),
    /** Whether the kernel carries it past the pump, and how many segments have passed since it last did not (`fast-path.ts`). */
    fast: c.u8(n),
    passed: c.u8(n),
    /** Packets that came to the pump since the kernel counts those it passes on. */
    seen: c.u32(n),
    /** How often it was not as many. */
    tries: c.u8(n),
    /** When a RST ended the flow. */
    resetAt: c.f64(n),

    // An attach in progress: becomes the current socket at commit.
    nextIsn: c.u32(n),
    nextShift: c.u8(n),
    nextTs: c.u32(n),
    nextTsAt: c.f64(n),
    nextEdge: c.f64(n),
    nextMss: c.u16(n),
    /** Offset of the new socket's first byte: what the peer had acknowledged at the attach. */
    nextBase: c.f64(n),
    /** How far the new socket's handshake is: 0 no SYN yet, 1 its SYN came, 2 it acknowledged the answer. */
    nextSyn: c.u8(n),
  };
}

function guestColumns(c: Cursor, n: number) {
  return {
    /** 1 = in use. */
    used: c.u8(n),
    uuid: c.u8(n * 16),
    name: c.u8(n * NAME_BYTES),
    address: c.u32(n),
    leg: c.u8(n),
    epoch: c.u32(n),
    state: c.u8(n),
    /** The attach in progress. */
    nextLeg: c.u8(n),
    /** Number of the guest's last attach: the claim of whoever made it. */
    claim: c.u32(n),
  };
}

function layout(c: Cursor, limits: ArenaLimits) {
  const buckets = hashBuckets(limits.maxFlows);
  const chunkCount = Math.floor(limits.custodyBytes / CHUNK_BYTES);
  return {
    flows: flowColumns(c, limits.maxFlows),
    guests: guestColumns(c, limits.maxGuests),
    /** Open-addressed indexes of flow slot + 1 by outside and by guest 4-tuple. */
    byOutside: c.u32(buckets),
    byGuest: c.u32(buckets),
    /** Owner of each outside port, TCP then UDP: guest slot + 1, and the guest's port. */
    portGuest: c.u32(2 * 65536),
    portTarget: c.u16(2 * 65536),
    /** 1 = published, 2 = mapped for a flow. */
    portKind: c.u8(2 * 65536),
    drops: c.f64(DROP_COUNTERS),
    legPacketsIn: c.f64(MAX_LEGS),
    legPacketsOut: c.f64(MAX_LEGS),
    /** Numbers of the whole gateway, at the indexes of `GAUGE`. */
    gauges: c.f64(16),
    chunkFree: c.u32(chunkCount),
    chunkData: c.u8(chunkCount * CHUNK_BYTES),
  };
}

export type FlowColumns = ReturnType<typeof flowColumns>;
export type GuestColumns = ReturnType<typeof guestColumns>;

/** Decoded views of the shared memory. */
export type Arena = ReturnType<typeof layout> & {
  readonly buffer: SharedArrayBuffer;
  readonly limits: ArenaLimits;
};

/** Indexes of `Arena.gauges`. */
export const GAUGE = {
  outsideIn: 0,
  outsideOut: 1,
  flows: 2,
  highWater: 3,
  nextFlowId: 4,
  chunksUsed: 5,
  freeHead: 6,
  guests: 7,
  /** Packets that a device refused. */
  writeErrors: 8,
} as const;

function hashBuckets(maxFlows: number): number {
  let buckets = 64;
  while (buckets < maxFlows * 2) buckets *= 2;
  return buckets;
}

/** Makes an empty arena. Its memory is anonymous and shared between threads. */
export function createArena(limits: ArenaLimits): Arena {
  const measure = new Cursor(undefined);
  layout(measure, limits);
  const buffer = new SharedArrayBuffer(measure.at);
  const header = new Uint32Array(buffer, 0, HEADER_WORDS);
  header.set([MAGIC, LAYOUT_VERSION, limits.maxFlows, limits.maxGuests, Math.floor(limits.custodyBytes / CHUNK_BYTES)]);
  const arena = openArena(buffer);
  for (let i = 0; i < limits.maxFlows; i++) arena.flows.nextFree[i] = i + 1;
  for (let i = 0; i < arena.chunkFree.length; i++) arena.chunkFree[i] = i;
  arena.gauges[GAUGE.nextFlowId] = 1;
  return arena;
}

/** Views of an arena another thread made. Throws when the memory is not an arena of this layout. */
export function openArena(buffer: SharedArrayBuffer): Arena {
  const header = new Uint32Array(buffer, 0, HEADER_WORDS);
  const [magic, version, maxFlows, maxGuests, chunkCount] = header;
  if (magic !== MAGIC || version !== LAYOUT_VERSION) throw new Error('not an arena of this layout');
  const limits = {
    maxFlows: maxFlows ?? 0,
    maxGuests: maxGuests ?? 0,
    custodyBytes: (chunkCount ?? 0) * CHUNK_BYTES,
  };
  return { ...layout(new Cursor(buffer), limits), buffer, limits };
}
