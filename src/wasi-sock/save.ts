/** From live handles to their transfer form. The handles stay as they are, but for the part of tails the peer is known to have. */
import { formatIpv4 } from '../rewrite/numbers.ts';
import { connectionKey } from './address.ts';
import type { SocketAddress } from './address.ts';
import type { SocketCore } from './core.ts';
import type { TextAddress } from './drain.ts';
import { WASI } from './errno.ts';
import type { SocketHandle, TcpState } from './handle.ts';
import type { GuestOptions } from './options.ts';
import { SAVED_VERSION } from './saved.ts';
import type { SavedAddress, SavedOptions, SavedSocket, SavedSockets, SavedStream, SavedTcpState } from './saved.ts';
import type { TcpStream } from './stream.ts';

/** What the gateway knows of one connection, from an export or an attach. */
export interface FlowReport {
  /** The guest's end. */
  readonly local: TextAddress;
  readonly remote: TextAddress;
  /** The peer's ACK as an offset of the guest's stream. */
  readonly acked: number;
  /** The guest's FIN is acknowledged too. */
  readonly finAcked: boolean;
  /** K: the next byte the guest expects. */
  readonly received: number;
  /** The peer has reset it. */
  readonly reset?: boolean;
}

/** Reports by connection. */
export type Flows = ReadonlyMap<string, FlowReport>;

export function indexFlows(flows: readonly FlowReport[]): Flows {
  return new Map(flows.map((flow) => [`${flow.local.port}/${flow.remote.address}:${flow.remote.port}`, flow]));
}

/** Everything, after a drain and an export that settled. */
export function saveAll(core: SocketCore, exported: readonly FlowReport[]): SavedSockets {
  const flows = indexFlows(exported);
  return {
    version: SAVED_VERSION,
    guestAddress: core.host.guestAddress,
    nextId: core.nextId,
    sockets: [...core.sockets.values()].flatMap((socket) => saveSocket(socket, flows)),
    lingering: [...core.lingering].flatMap(({ stream, doomed, ackedAt }) => {
      const saved = saveStream(stream, flows);
      // With its FIN acknowledged there is nothing left for a socket to do: the gateway sees to the peer's.
      const over = saved.link !== 'open' || (!doomed && outgoingDone(stream, flows));
      const idle = Math.max(0, Math.floor(core.host.now() - ackedAt));
      return over ? [] : [{ stream: saved, doomed, idle }];
    }),
  };
}

function saveSocket(socket: SocketHandle, flows: Flows): SavedSocket[] {
  const { id, nonBlocking } = socket;
  const common = { id, nonBlocking, options: saveOptions(socket.options) };
  const { state } = socket;
  if (state.name === 'closed') return [];
  if (socket.kind === 'tcp') {
    return [{ ...common, kind: 'tcp', state: saveTcp(socket.state, flows) ?? { name: 'open', local: null, error: 0 } }];
  }
  if (socket.state.name === 'closed') return [];
  const { local, remote, queue, shut } = socket.state;
  return [
    {
      ...common,
      kind: 'udp',
      local: saveAddress(local),
      remote: saveAddress(remote),
      queue: queue.map(({ from, bytes }) => ({ from: pair(from), bytes })),
      shut,
    },
  ];
}

function saveTcp(state: TcpState, flows: Flows): SavedTcpState | undefined {
  switch (state.name) {
    case 'open':
      return { name: 'open', local: saveAddress(state.local), error: state.error };
    case 'listening':
      return {
        name: 'listening',
        local: pair(state.local),
        backlog: state.backlog,
        pending: state.pending.map((stream) => saveStream(stream, flows)),
      };
    case 'connecting':
      return { name: 'connecting', local: pair(state.local), remote: pair(state.remote) };
    case 'connected':
      return { name: 'connected', stream: saveStream(state.stream, flows), announced: state.announced };
    case 'closed':
      return undefined;
  }
}

/** Whether the peer has everything the guest wrote, FIN included, as far as gateway or kernel know. */
function outgoingDone(stream: TcpStream, flows: Flows): boolean {
  if (stream.outgoing === 'open') return false;
  const flow = flows.get(connectionKey(stream.local, stream.remote));
  return flow?.finAcked === true || (stream.outgoing === 'closed' && stream.unacknowledged() === 0);
}

function saveStream(stream: TcpStream, flows: Flows): SavedStream {
  const { local, remote, inbound, peerEnded, readShut, tail } = stream;
  // What is over may have the name of a connection that came after it.
  const flow = stream.link.name === 'alive' ? flows.get(connectionKey(local, remote)) : undefined;
  if (flow !== undefined && flow.acked <= tail.end) tail.trim(flow.acked);
  stream.trimAcknowledged();
  const link = saveLink(stream, flow, outgoingDone(stream, flows));
  return {
    local: pair(local),
    remote: pair(remote),
    ...link,
    readOffset: inbound.start,
    inbound: inbound.bytes(),
    peerEnded,
    readShut,
    tailOffset: tail.start,
    tail: tail.bytes(),
    writingEnded: stream.outgoing !== 'open',
  };
}

function saveLink(
  { link, peerEnded }: TcpStream,
  flow: FlowReport | undefined,
  written: boolean,
): Pick<SavedStream, 'link' | 'errno' | 'told'> {
  if (link.name === 'broken') return { link: 'broken', errno: link.errno, told: link.told };
  if (link.name === 'finished' || (peerEnded && written)) return { link: 'finished', errno: 0, told: false };
  // A connection that the gateway does not have any more was reset while nobody looked.
  if (flow === undefined || flow.reset === true) return { link: 'broken', errno: WASI.ECONNRESET, told: false };
  return { link: 'open', errno: 0, told: false };
}

function saveOptions({ ints, linger, receiveTimeoutUs, sendTimeoutUs }: GuestOptions): SavedOptions {
  return {
    ints: Object.fromEntries(ints),
    lingerOn: linger.on,
    lingerSeconds: linger.seconds,
    receiveTimeoutUs,
    sendTimeoutUs,
  };
}

function pair({ address, port }: SocketAddress): SavedAddress {
  return { address, port };
}

function saveAddress(address: SocketAddress | undefined): SavedAddress | null {
  return address === undefined ? null : pair(address);
}

/** `a.b.c.d:port` of a saved address. */
export function formatSaved({ address, port }: SavedAddress): string {
  return `${formatIpv4(address)}:${port}`;
}
