/**
 * The transfer form of a guest's sockets, as it stands in an image: plain data that CBOR can carry. It is another type than the
 * live one on purpose; nothing of a kernel is in it. Addresses are unsigned 32-bit numbers and ports numbers, in host order;
 * offsets count bytes of a stream and are exact to 2^53; error numbers are WASI's, positive.
 */
import { KedgeError } from '../errors.ts';
import { INT_OPTION_NAMES } from './options.ts';
import type { IntOptionName } from './options.ts';

/** Raised when a field changes its meaning; readers know all versions up to their own. */
export const SAVED_VERSION = 1;

export interface SavedAddress {
  readonly address: number;
  readonly port: number;
}

/** What the guest has set; options it has not set are not there. */
export interface SavedOptions {
  readonly ints: Readonly<Partial<Record<IntOptionName, number>>>;
  readonly lingerOn: boolean;
  /** Seconds. */
  readonly lingerSeconds: number;
  /** Microseconds; 0 is for ever. */
  readonly receiveTimeoutUs: number;
  readonly sendTimeoutUs: number;
}

/** One connection. */
export interface SavedStream {
  readonly local: SavedAddress;
  readonly remote: SavedAddress;
  /**
   * `open`: a new kernel socket continues it. `finished`: both directions have ended and are acknowledged. `broken`: over by
   * `errno`, which the guest has been told or not.
   */
  readonly link: 'open' | 'finished' | 'broken';
  readonly errno: number;
  readonly told: boolean;
  /** Bytes the guest has read; `inbound` follows at this offset, and its end is K. */
  readonly readOffset: number;
  /** Bytes read from the kernel that the guest has not read. */
  readonly inbound: Uint8Array;
  /** The peer's FIN comes directly after them. */
  readonly peerEnded: boolean;
  readonly readShut: boolean;
  /** Offset of the tail's first byte. */
  readonly tailOffset: number;
  /** Bytes the guest wrote that the peer has not acknowledged; the end is the count of all it wrote. */
  readonly tail: Uint8Array;
  /** The guest writes no more: a FIN comes directly after the tail. */
  readonly writingEnded: boolean;
}

export type SavedTcpState =
  /** Bound or not; `error` is that of a failed connect, not told yet, or 0. */
  | { readonly name: 'open'; readonly local: SavedAddress | null; readonly error: number }
  /** `pending`: connections that wait for accept, oldest first. */
  | {
      readonly name: 'listening';
      readonly local: SavedAddress;
      readonly backlog: number;
      readonly pending: readonly SavedStream[];
    }
  /** A connect that the peer has not answered: begun anew from the same port. */
  | { readonly name: 'connecting'; readonly local: SavedAddress; readonly remote: SavedAddress }
  /** `announced`: false when the guest has not been told yet that its connect succeeded. */
  | { readonly name: 'connected'; readonly stream: SavedStream; readonly announced: boolean };

export interface SavedDatagram {
  readonly from: SavedAddress;
  readonly bytes: Uint8Array;
}

interface SavedCommon {
  /** The handle's id, by which the descriptor table knows it. */
  readonly id: number;
  readonly nonBlocking: boolean;
  readonly options: SavedOptions;
}

export type SavedSocket =
  | (SavedCommon & { readonly kind: 'tcp'; readonly state: SavedTcpState })
  | (SavedCommon & {
      readonly kind: 'udp';
      readonly local: SavedAddress | null;
      readonly remote: SavedAddress | null;
      /** Datagrams that came in and were not received by the guest, oldest first. */
      readonly queue: readonly SavedDatagram[];
      /** Directions shut down: 1 reading, 2 writing. */
      readonly shut: number;
    });

export interface SavedSockets {
  readonly version: typeof SAVED_VERSION;
  /** The guest's address; all local addresses are this one. */
  readonly guestAddress: number;
  /** Ids of handles from here on are free. */
  readonly nextId: number;
  readonly sockets: readonly SavedSocket[];
  /** Connections that the guest has closed. */
  readonly lingering: readonly SavedLingering[];
}

export interface SavedLingering {
  readonly stream: SavedStream;
  /** It ends with a RST. */
  readonly doomed: boolean;
  /** Milliseconds since the peer last acknowledged more. Images from before there was this have none: 0. */
  readonly idle: number;
}

type Fields = Readonly<Record<string, unknown>>;

function bad(what: string): never {
  throw new KedgeError('KEDGE_IMAGE_INVALID', `the image's sockets are not well-formed: ${what}`);
}

function fields(value: unknown, what: string): Fields {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) bad(`${what} is not a record`);
  return value as Fields;
}

function integer(value: unknown, what: string, most = Number.MAX_SAFE_INTEGER): number {
  if (typeof value !== 'number' || !Number.isInteger(value) || value < 0 || value > most)
    bad(`${what} is out of range`);
  return value;
}

function truth(value: unknown, what: string): boolean {
  if (typeof value !== 'boolean') bad(`${what} is not true or false`);
  return value;
}

function bytes(value: unknown, what: string): Uint8Array {
  if (!(value instanceof Uint8Array)) bad(`${what} is not a byte string`);
  return value;
}

function list<T>(value: unknown, what: string, item: (value: unknown, what: string) => T): T[] {
  if (!Array.isArray(value)) bad(`${what} is not a list`);
  return value.map((entry, i) => item(entry, `${what}[${i}]`));
}

function orNull<T>(value: unknown, what: string, item: (value: unknown, what: string) => T): T | null {
  return value === null ? null : item(value, what);
}

function address(value: unknown, what: string): SavedAddress {
  const f = fields(value, what);
  return {
    address: integer(f['address'], `${what}.address`, 0xffff_ffff),
    port: integer(f['port'], `${what}.port`, 0xffff),
  };
}

function options(value: unknown, what: string): SavedOptions {
  const f = fields(value, what);
  const ints: Partial<Record<IntOptionName, number>> = {};
  const given = fields(f['ints'], `${what}.ints`);
  for (const name of INT_OPTION_NAMES) {
    if (given[name] !== undefined) ints[name] = integer(given[name], `${what}.${name}`, 0x7fff_ffff);
  }
  return {
    ints,
    lingerOn: truth(f['lingerOn'], `${what}.lingerOn`),
    lingerSeconds: integer(f['lingerSeconds'], `${what}.lingerSeconds`, 0x7fff_ffff),
    receiveTimeoutUs: integer(f['receiveTimeoutUs'], `${what}.receiveTimeoutUs`),
    sendTimeoutUs: integer(f['sendTimeoutUs'], `${what}.sendTimeoutUs`),
  };
}

function stream(value: unknown, what: string): SavedStream {
  const f = fields(value, what);
  const link = f['link'];
  if (link !== 'open' && link !== 'finished' && link !== 'broken') bad(`${what}.link is none`);
  return {
    local: address(f['local'], `${what}.local`),
    remote: address(f['remote'], `${what}.remote`),
    link,
    errno: integer(f['errno'], `${what}.errno`, 0xffff),
    told: truth(f['told'], `${what}.told`),
    readOffset: integer(f['readOffset'], `${what}.readOffset`),
    inbound: bytes(f['inbound'], `${what}.inbound`),
    peerEnded: truth(f['peerEnded'], `${what}.peerEnded`),
    readShut: truth(f['readShut'], `${what}.readShut`),
    tailOffset: integer(f['tailOffset'], `${what}.tailOffset`),
    tail: bytes(f['tail'], `${what}.tail`),
    writingEnded: truth(f['writingEnded'], `${what}.writingEnded`),
  };
}

function tcpState(value: unknown, what: string): SavedTcpState {
  const f = fields(value, what);
  switch (f['name']) {
    case 'open': {
      const local = orNull(f['local'], `${what}.local`, address);
      return { name: 'open', local, error: integer(f['error'], `${what}.error`, 0xffff) };
    }
    case 'listening':
      return {
        name: 'listening',
        local: address(f['local'], `${what}.local`),
        backlog: integer(f['backlog'], `${what}.backlog`, 0x7fff_ffff),
        pending: list(f['pending'], `${what}.pending`, stream),
      };
    case 'connecting':
      return {
        name: 'connecting',
        local: address(f['local'], `${what}.local`),
        remote: address(f['remote'], `${what}.remote`),
      };
    case 'connected':
      return {
        name: 'connected',
        stream: stream(f['stream'], `${what}.stream`),
        announced: truth(f['announced'], `${what}.announced`),
      };
    default:
      return bad(`${what}.name is no state`);
  }
}

function datagram(value: unknown, what: string): SavedDatagram {
  const f = fields(value, what);
  return { from: address(f['from'], `${what}.from`), bytes: bytes(f['bytes'], `${what}.bytes`) };
}

function socket(value: unknown, what: string): SavedSocket {
  const f = fields(value, what);
  const common = {
    id: integer(f['id'], `${what}.id`),
    options: options(f['options'], `${what}.options`),
    nonBlocking: truth(f['nonBlocking'], `${what}.nonBlocking`),
  };
  if (f['kind'] === 'tcp') return { ...common, kind: 'tcp', state: tcpState(f['state'], `${what}.state`) };
  if (f['kind'] !== 'udp') bad(`${what}.kind is neither tcp nor udp`);
  return {
    ...common,
    kind: 'udp',
    local: orNull(f['local'], `${what}.local`, address),
    remote: orNull(f['remote'], `${what}.remote`, address),
    queue: list(f['queue'], `${what}.queue`, datagram),
    shut: integer(f['shut'], `${what}.shut`, 3),
  };
}

/** Checks what was read from an image. Throws KEDGE_IMAGE_INVALID, or KEDGE_IMAGE_VERSION for one newer than this. */
export function parseSavedSockets(value: unknown): SavedSockets {
  const f = fields(value, 'the whole');
  if (integer(f['version'], 'version') !== SAVED_VERSION) {
    throw new KedgeError('KEDGE_IMAGE_VERSION', `the image's sockets have version ${String(f['version'])}`, {
      hint: `this Kedge knows version ${SAVED_VERSION}: use a newer one`,
    });
  }
  const sockets = list(f['sockets'], 'sockets', socket);
  const nextId = integer(f['nextId'], 'nextId');
  const ids = new Set(sockets.map(({ id }) => id));
  if (ids.size !== sockets.length || sockets.some(({ id }) => id >= nextId)) bad('ids are not unique');
  return {
    version: SAVED_VERSION,
    guestAddress: integer(f['guestAddress'], 'guestAddress', 0xffff_ffff),
    nextId,
    sockets,
    lingering: list(f['lingering'], 'lingering', (entry, what) => {
      const l = fields(entry, what);
      return {
        stream: stream(l['stream'], `${what}.stream`),
        doomed: truth(l['doomed'], `${what}.doomed`),
        idle: integer(l['idle'] ?? 0, `${what}.idle`),
      };
    }),
  };
}
