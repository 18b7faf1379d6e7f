/**
 * One TCP conversation as two rows of segments: what was captured on the gateway's peer side and on its guest side.
 *
 * Everything in this folder works on tshark's rows alone and uses none of Kedge's code: it must not share Kedge's mistakes.
 * "Outbound" is from the guest towards the peer, on both sides.
 */
import { ACK, FIN, RST, SYN, type TcpRow } from '../fields.ts';

export interface Endpoint {
  readonly address: string;
  readonly port: number;
}

/** The three names of one conversation: the peer sees peer <-> outside, the guest sees guest <-> peer. */
export interface Tuple {
  readonly peer: Endpoint;
  readonly outside: Endpoint;
  readonly guest: Endpoint;
}

export interface Segment extends TcpRow {
  readonly outbound: boolean;
  /** Where it was captured: 'peer', or the leg to a host. */
  readonly leg: string;
}

export interface Conversation {
  readonly peerSide: readonly Segment[];
  readonly guestSide: readonly Segment[];
}

export interface Violation {
  /** Name of the check that found it. */
  readonly check: string;
  readonly message: string;
  /** Milliseconds since 1970. */
  readonly time?: number;
}

/** Rows of the captures of one run; `legs` by the name of the host each leads to. */
export interface CapturedRows {
  readonly peer: readonly TcpRow[];
  readonly legs: Readonly<Record<string, readonly TcpRow[]>>;
}

/** '10.0.0.1:80' as an endpoint. */
export function endpoint(text: string): Endpoint {
  const colon = text.lastIndexOf(':');
  const port = Number(text.slice(colon + 1));
  if (colon < 1 || !Number.isInteger(port)) throw new Error(`not address:port: '${text}'`);
  return { address: text.slice(0, colon), port };
}

/** Picks one conversation out of captures of many. */
export function conversation(rows: CapturedRows, tuple: Tuple): Conversation {
  const guestSide = Object.entries(rows.legs).flatMap(([leg, legRows]) =>
    select(legRows, tuple.guest, tuple.peer, leg),
  );
  return {
    peerSide: select(rows.peer, tuple.outside, tuple.peer, 'peer'),
    // Captures of several devices share the kernel's clock; the sort is stable, so each keeps its own order.
    guestSide: guestSide.sort((x, y) => x.time - y.time),
  };
}

function select(rows: readonly TcpRow[], inner: Endpoint, peer: Endpoint, leg: string): Segment[] {
  const from = (row: TcpRow, end: Endpoint): boolean => row.src === end.address && row.srcPort === end.port;
  const to = (row: TcpRow, end: Endpoint): boolean => row.dst === end.address && row.dstPort === end.port;
  return rows.flatMap((row): Segment[] => {
    if (from(row, inner) && to(row, peer)) return [{ ...row, outbound: true, leg }];
    if (from(row, peer) && to(row, inner)) return [{ ...row, outbound: false, leg }];
    return [];
  });
}

export const isSyn = (row: TcpRow): boolean => (row.flags & SYN) !== 0;
export const isFin = (row: TcpRow): boolean => (row.flags & FIN) !== 0;
export const isRst = (row: TcpRow): boolean => (row.flags & RST) !== 0;
export const hasAck = (row: TcpRow): boolean => (row.flags & ACK) !== 0;

/** Sequence numbers a segment takes: its bytes, its SYN and its FIN. */
export const span = (row: TcpRow): number => row.len + (isSyn(row) ? 1 : 0) + (isFin(row) ? 1 : 0);

/** a - b for 32-bit sequence numbers or timestamps, from -2^31 to 2^31 - 1. */
export const diff32 = (a: number, b: number): number => (a - b) | 0;

/** The number without bounds that `value` stands for when it is close to `near`. */
export const unwrap = (value: number, near: number): number => near + diff32(value, near % 2 ** 32);

/** A segment in the words of tcpdump, for messages. */
export function describe(row: TcpRow): string {
  const letters = [
    [SYN, 'S'],
    [FIN, 'F'],
    [RST, 'R'],
    [ACK, '.'],
  ] as const;
  const flags = letters.map(([bit, letter]) => (row.flags & bit ? letter : '')).join('');
  const ts = row.ts === undefined ? '' : ` TS ${row.ts.value}/${row.ts.echo}`;
  const sack = row.sack.map((block) => ` sack ${block.left}:${block.right}`).join('');
  return `frame ${row.frame} [${flags}] seq ${row.seq} ack ${row.ack} win ${row.window} len ${row.len}${ts}${sack}`;
}
