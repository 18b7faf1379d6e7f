/**
 * The gateway's admin API: one schema for each body that crosses it. The server validates by them, OpenAPI shows them, and
 * their static types are what the client, the listing and the control verbs speak.
 *
 * Stream offsets are plain integers that count data bytes from 0 (the first byte after the SYN); a SYN sits at -1 and a FIN
 * takes one. Sequence numbers, deltas and timestamps are u32. Addresses are dotted IPv4 text, ports are numbers.
 */
import { Type } from 'typebox';
import type { Static, TProperties } from 'typebox';

/** Names of a flow's state: RFC 9293 §3.3.2. LISTEN is no state of a flow: a listener has no peer. */
export const FLOW_STATES = [
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

/** What a request has beyond its schema is an error, never ignored. */
function Body<T extends TProperties>(properties: T, description?: string) {
  return Type.Object(properties, {
    additionalProperties: false,
    ...(description === undefined ? {} : { description }),
  });
}

const OCTET = '(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])';
const Address = Type.String({ pattern: `^(${OCTET}\\.){3}${OCTET}$`, description: 'IPv4 address, dotted' });
const Port = Type.Integer({ minimum: 1, maximum: 65535 });
const U32 = Type.Integer({ minimum: 0, maximum: 0xffff_ffff });
const Offset = Type.Integer({
  minimum: -2,
  maximum: Number.MAX_SAFE_INTEGER,
  description: 'stream offset, data bytes',
});
const Count = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER });
/** An epoch grows by one at every restore; a guest begins at 1. */
const Epoch = Type.Integer({ minimum: 1, maximum: 0xffff_ffff, description: 'the epoch the caller holds or claims' });
const Uuid = Type.String({ pattern: '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$', description: 'UUID, lower case' });
const LegName = Type.String({ pattern: '^[a-z0-9][a-z0-9-]{0,11}$', description: 'name of a leg' });
/** 63 characters are at most 63 bytes here: what a guest's slot holds. */
const GuestName = Type.String({ pattern: '^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$', description: 'name of a guest' });
const FlowState = Type.Enum(FLOW_STATES);
const Proto = Type.Enum(['tcp', 'udp', 'icmp']);
const AddressPort = Type.String({ description: 'address:port' });

export const Endpoint = Body({ address: Address, port: Port });
export type Endpoint = Static<typeof Endpoint>;

export const ErrorBody = Type.Object(
  { code: Type.String(), message: Type.String(), hint: Type.Optional(Type.String()) },
  { description: 'every failure: a stable code, a sentence, what to do about it' },
);
export type ErrorBody = Static<typeof ErrorBody>;

export const Empty = Body({});
export type Empty = Static<typeof Empty>;

// --- Listing: read from shared memory, never stops the pump ---

export const Health = Type.Object({ ok: Type.Literal(true) });
export type Health = Static<typeof Health>;

const flowSummary = {
  id: Count,
  proto: Proto,
  state: FlowState,
  guestId: Type.String(),
  guestName: Type.String(),
  guest: AddressPort,
  outside: AddressPort,
  peer: AddressPort,
  leg: Type.String(),
  epoch: Count,
  ageMs: Count,
  /** Guest → peer, bytes of IP packets, headers included. */
  bytesOut: Count,
  /** Peer → guest. */
  bytesIn: Count,
  packetsOut: Count,
  packetsIn: Count,
  custodyBytes: Count,
  splices: Count,
  /** Who opened it: `in` the peer, `out` the guest. */
  direction: Type.Enum(['in', 'out']),
  frozen: Type.Boolean(),
  /** Carried by the kernel, past the pump. */
  fast: Type.Boolean(),
};
export const FlowSummary = Type.Object(flowSummary);
export type FlowSummary = Static<typeof FlowSummary>;

export const FlowDetail = Type.Object({
  ...flowSummary,
  /** Added to the guest's SEQ to give the peer's, mod 2^32. The other direction has none, for ever. */
  delta: U32,
  sequence: Type.Object({
    /** ISN of the socket that opened the flow, as the peer knows it. */
    guestIsn: U32,
    peerIsn: U32,
    /** ISN of the guest's present kernel socket. */
    currentGuestIsn: U32,
    sndUna: Offset,
    sndNxt: Offset,
    rcvNxt: Offset,
    peerNxt: Offset,
    delta: U32,
    /** Offset of the present socket's first byte. */
    attachOffset: Offset,
  }),
  windows: Type.Object({
    /** What the peer advertised last, raw as on the wire. */
    peerWindow: Count,
    peerShift: Count,
    /** Shift the guest's first socket announced: the peer applies it for ever. */
    guestShift: Count,
    /** Highest right edge ever advertised to the peer. */
    maxEdge: Offset,
    /** Right edge of the guest's present kernel socket. */
    guestEdge: Offset,
  }),
  timestamps: Type.Object({ enabled: Type.Boolean(), delta: U32, lastToPeer: U32, lastFromPeer: U32 }),
  custody: Type.Object({
    bytes: Count,
    start: Offset,
    end: Offset,
    ranges: Type.Array(Type.Object({ start: Offset, end: Offset })),
    /** K of the last export: what the guest's image has read; -1 when there was none. */
    received: Offset,
  }),
  sack: Type.Boolean(),
  mss: Type.Object({ guest: Count, peer: Count }),
  /** Why a migration with this flow is refused. */
  unmovable: Type.Optional(Type.String()),
});
export type FlowDetail = Static<typeof FlowDetail>;

export const FlowQuery = Body({
  guest: Type.Optional(Type.String({ description: "a guest's id, name or address" })),
  state: Type.Optional(FlowState),
  peer: Type.Optional(Type.String({ description: "a peer's address, or address:port" })),
});
export type FlowQuery = Static<typeof FlowQuery>;

export const FlowList = Type.Object({ flows: Type.Array(FlowSummary) });
export type FlowList = Static<typeof FlowList>;

export const Publish = Body({
  proto: Type.Enum(['tcp', 'udp']),
  outsidePort: Port,
  guestPort: Port,
});
export type Publish = Static<typeof Publish>;

export const GuestSummary = Type.Object({
  id: Type.String(),
  name: Type.String(),
  address: Address,
  leg: Type.String(),
  epoch: Count,
  state: Type.Enum(['running', 'frozen', 'sealed', 'attaching']),
  publish: Type.Array(Publish),
  flows: Count,
});
export type GuestSummary = Static<typeof GuestSummary>;

export const GuestList = Type.Object({ guests: Type.Array(GuestSummary) });
export type GuestList = Static<typeof GuestList>;

export const LegStatus = Type.Object({
  name: Type.String(),
  /** The kernel device towards the host. */
  device: Type.String(),
  /** The address packets to this leg's host are handed to. */
  via: Address,
  /** The leg's TUN device. */
  tun: Type.String(),
  packetsIn: Count,
  packetsOut: Count,
});
export type LegStatus = Static<typeof LegStatus>;

export const Status = Type.Object({
  version: Type.String(),
  pid: Count,
  uptimeMs: Count,
  outside: Type.Object({
    address: Address,
    device: Type.String(),
    tun: Type.String(),
    packetsIn: Count,
    packetsOut: Count,
  }),
  pool: Type.String({ description: 'addresses of guests, CIDR' }),
  fastPath: Type.Object({
    state: Type.Enum(['on', 'off', 'unavailable']),
    /** Why it is unavailable. */
    reason: Type.Optional(Type.String()),
  }),
  legs: Type.Array(LegStatus),
  flows: Count,
  guests: Count,
  custody: Type.Object({ bytes: Count, limitBytes: Count }),
  /** Packets that a device refused: they are among its `packetsOut`, and were not sent. */
  writeErrors: Count,
  /** Packets dropped, by reason; reasons that never happened are left out. */
  drops: Type.Record(Type.String(), Count),
});
export type Status = Static<typeof Status>;

// --- Control verbs of agents: run in the pump between two batches ---

export const RegisterBody = Body({
  id: Uuid,
  name: GuestName,
  /** Left out: the gateway allocates one from the pool. */
  address: Type.Optional(Address),
  leg: LegName,
  publish: Type.Array(Publish, { maxItems: 1024 }),
});
export type RegisterBody = Static<typeof RegisterBody>;
export const RegisterResult = Type.Object({ guest: GuestSummary });
export type RegisterResult = Static<typeof RegisterResult>;

export const EpochBody = Body({ epoch: Epoch });
export type EpochBody = Static<typeof EpochBody>;

export const RemoveBody = Body({
  epoch: Epoch,
  force: Type.Optional(Type.Boolean({ description: 'also one that runs, or is being restored' })),
});
export type RemoveBody = Static<typeof RemoveBody>;

export const CheckResult = Type.Object({ movable: Type.Literal(true) });
export type CheckResult = Static<typeof CheckResult>;

/** `local` is the guest's end, `remote` the peer's, as the guest's own sockets know them. */
export const FlowBrief = Type.Object({
  id: Count,
  proto: Proto,
  state: FlowState,
  local: Endpoint,
  remote: Endpoint,
});
export type FlowBrief = Static<typeof FlowBrief>;

export const FreezeResult = Type.Object({ flows: Type.Array(FlowBrief) });
export type FreezeResult = Static<typeof FreezeResult>;

export const DrainedSocket = Body({
  local: Endpoint,
  remote: Endpoint,
  /** K: bytes ever read from the peer, by the guest or by the drain. */
  received: Count,
  /** Bytes the guest ever wrote. */
  written: Count,
  lingering: Type.Boolean(),
});
export type DrainedSocket = Static<typeof DrainedSocket>;

export const ExportBody = Body({ epoch: Epoch, sockets: Type.Array(DrainedSocket, { maxItems: 65536 }) });
export type ExportBody = Static<typeof ExportBody>;

export const ExportedFlow = Type.Object({
  id: Count,
  local: Endpoint,
  remote: Endpoint,
  /** The peer's ACK as an offset of the guest's stream: a tail below it may go. */
  acked: Count,
  finAcked: Type.Boolean(),
  peerFin: Type.Boolean(),
  received: Count,
  /** The peer has reset it: the guest's next call gives ECONNRESET, and no socket is to be restored. */
  reset: Type.Boolean(),
});
export type ExportedFlow = Static<typeof ExportedFlow>;

/** Not settled: an ACK of the old kernel shows bytes beyond K. Drain and export again. */
export const ExportResult = Type.Union([
  Type.Object({ settled: Type.Literal(true), flows: Type.Array(ExportedFlow) }),
  Type.Object({ settled: Type.Literal(false), reasons: Type.Array(Type.String()) }),
]);
export type ExportResult = Static<typeof ExportResult>;

export const AttachBody = Body({ epoch: Epoch, leg: LegName });
export type AttachBody = Static<typeof AttachBody>;

export const AttachedFlow = Type.Object({
  id: Count,
  local: Endpoint,
  remote: Endpoint,
  acked: Count,
  finAcked: Type.Boolean(),
  received: Count,
  /** As in an exported flow. */
  reset: Type.Boolean(),
});
export type AttachedFlow = Static<typeof AttachedFlow>;

export const AttachResult = Type.Object({
  flows: Type.Array(AttachedFlow),
  /** Names this attach to commit and detach. */
  claim: Count,
});
export type AttachResult = Static<typeof AttachResult>;

export const ClaimBody = Body({
  epoch: Epoch,
  /** Of the attach that is meant: one that another attach or an abort has ended does not count. Left out: the last one. */
  claim: Type.Optional(Count),
});
export type ClaimBody = Static<typeof ClaimBody>;

type OfGuest<T> = { readonly id: string } & T;

/** The verbs as the pump takes them: the request's body with the guest's id, and the response's body. */
export type ControlVerbs = {
  register: { args: RegisterBody; result: RegisterResult };
  unregister: { args: OfGuest<EpochBody>; result: Empty };
  remove: { args: OfGuest<RemoveBody>; result: Empty };
  check: { args: OfGuest<EpochBody>; result: CheckResult };
  freeze: { args: OfGuest<EpochBody>; result: FreezeResult };
  export: { args: OfGuest<ExportBody>; result: ExportResult };
  seal: { args: OfGuest<EpochBody>; result: Empty };
  attach: { args: OfGuest<AttachBody>; result: AttachResult };
  commit: { args: OfGuest<ClaimBody>; result: Empty };
  detach: { args: OfGuest<ClaimBody>; result: Empty };
  abort: { args: OfGuest<EpochBody>; result: Empty };
};
