/** `gateway flows list` and `gateway flows show ID`. */
import type { CommandContext } from '@stricli/core';
import { buildCommand, buildRouteMap } from '@stricli/core';
import { FLOW_STATES } from '../../gateway/admin/schema.ts';
import type { FlowDetail, FlowQuery, FlowSummary } from '../../gateway/admin/schema.ts';
import { formatIpv4, parseIpv4 } from '../../rewrite/numbers.ts';
import { formatAge, formatPairs, toJson } from '../format.ts';
import type { Column } from '../table.ts';
import { renderTable } from '../table.ts';
import type { ConnectFlags, OutputFlags } from './options.ts';
import { outputFlag, socketFlag, withGateway } from './options.ts';

type State = FlowSummary['state'];

/** A state by its RFC 9293 name, in any case. */
export function parseState(text: string): State {
  const found = FLOW_STATES.find((state) => state === text.toUpperCase());
  if (found === undefined) throw new Error(`"${text}" is no state of a connection; one of ${FLOW_STATES.join(', ')}`);
  return found;
}

/** An address, or an address and a port, as the gateway writes them. */
export function parsePeer(text: string): string {
  const [, address = '', port] = /^([^:]*)(?::([0-9]{1,5}))?$/.exec(text) ?? [];
  const parsed = parseIpv4(address);
  if (parsed === undefined || (port !== undefined && (Number(port) < 1 || Number(port) > 65_535)))
    throw new Error(`"${text}" is not ADDRESS[:PORT] of IPv4, for example 198.51.100.7:443`);
  return port === undefined ? formatIpv4(parsed) : `${formatIpv4(parsed)}:${Number(port)}`;
}

function parseGuest(text: string): string {
  if (text === '') throw new Error('a guest has an id, a name or an address');
  return text;
}

function parseFlowId(text: string): number {
  const id = Number(text);
  if (!/^[0-9]+$/.test(text) || !Number.isSafeInteger(id)) throw new Error(`"${text}" is no id of a flow (a number)`);
  return id;
}

const COLUMNS: readonly Column[] = [
  { title: 'ID', align: 'right' },
  { title: 'PROTO', align: 'left' },
  { title: 'STATE', align: 'left' },
  { title: 'GUEST', align: 'left' },
  { title: 'GUEST-ADDRESS', align: 'left' },
  { title: 'OUTSIDE', align: 'left' },
  { title: 'PEER', align: 'left' },
  { title: 'LEG', align: 'left' },
  { title: 'AGE', align: 'right' },
  { title: 'BYTES-OUT', align: 'right' },
  { title: 'BYTES-IN', align: 'right' },
  { title: 'PKTS-OUT', align: 'right' },
  { title: 'PKTS-IN', align: 'right' },
  { title: 'CUSTODY', align: 'right' },
  { title: 'SPLICES', align: 'right' },
  { title: 'FROZEN', align: 'left' },
  { title: 'FAST', align: 'left' },
];

/** The table of `gateway flows list`. */
export function flowTable(flows: readonly FlowSummary[]): string {
  const rows = flows.map((flow) => [
    String(flow.id),
    flow.proto,
    flow.state,
    flow.guestName,
    flow.guest,
    flow.outside,
    flow.peer,
    flow.leg,
    formatAge(flow.ageMs),
    String(flow.bytesOut),
    String(flow.bytesIn),
    String(flow.packetsOut),
    String(flow.packetsIn),
    String(flow.custodyBytes),
    String(flow.splices),
    flow.frozen ? 'yes' : '-',
    flow.fast ? 'yes' : '-',
  ]);
  return renderTable(COLUMNS, rows);
}

/** The text of `gateway flows show`: everything the gateway knows about a flow. */
export function flowText(flow: FlowDetail): string {
  const { sequence, windows, timestamps, custody, mss } = flow;
  return formatPairs([
    ['flow', flow.id],
    ['protocol', flow.proto],
    ['state', flow.frozen ? `${flow.state}, frozen` : flow.state],
    ['opened by', flow.direction === 'out' ? 'guest' : 'peer'],
    ['guest', `${flow.guestName} (${flow.guestId})`],
    ['guest address', flow.guest],
    ['outside address', flow.outside],
    ['peer', flow.peer],
    ['leg', flow.leg],
    ['carried by', flow.fast ? 'the kernel (fast path)' : 'the pump'],
    ['epoch', flow.epoch],
    ['age', formatAge(flow.ageMs)],
    ['guest to peer', `${flow.bytesOut} bytes, ${flow.packetsOut} packets`],
    ['peer to guest', `${flow.bytesIn} bytes, ${flow.packetsIn} packets`],
    ['splices', flow.splices],
    ['movable', flow.unmovable === undefined ? 'yes' : `no: ${flow.unmovable}`],
    ['SEQ delta', `${flow.delta} (added to the guest's SEQ, mod 2^32)`],
    ['guest ISN', `${sequence.guestIsn} first, ${sequence.currentGuestIsn} now`],
    ['peer ISN', sequence.peerIsn],
    ['SND.UNA, SND.NXT', `${sequence.sndUna}, ${sequence.sndNxt} (stream offsets, guest to peer)`],
    ['RCV.NXT, peer sent', `${sequence.rcvNxt}, ${sequence.peerNxt} (stream offsets, peer to guest)`],
    ['attach offset', sequence.attachOffset],
    ['peer window', `${windows.peerWindow} << ${windows.peerShift}`],
    ['guest shift', windows.guestShift],
    ['right edges', `${windows.maxEdge} told to the peer, ${windows.guestEdge} the guest's own`],
    [
      'timestamps',
      timestamps.enabled
        ? `delta ${timestamps.delta}, last to peer ${timestamps.lastToPeer}, from peer ${timestamps.lastFromPeer}`
        : 'off',
    ],
    ['SACK', flow.sack ? 'on' : 'off'],
    ['MSS', `${mss.guest} of the guest, ${mss.peer} of the peer`],
    ['custody', `${custody.bytes} bytes of [${custody.start}, ${custody.end})`],
    ['custody ranges', custody.ranges.map(({ start, end }) => `[${start}, ${end})`).join(' ') || 'none'],
    ['received at cut', custody.received < 0 ? 'never cut' : custody.received],
  ]);
}

type ListFlags = ConnectFlags & OutputFlags & { guest?: string; state?: State; peer?: string };

const list = buildCommand<ListFlags, [], CommandContext>({
  async func(flags) {
    const query: FlowQuery = {
      ...(flags.guest === undefined ? {} : { guest: flags.guest }),
      ...(flags.state === undefined ? {} : { state: flags.state }),
      ...(flags.peer === undefined ? {} : { peer: flags.peer }),
    };
    const found = await withGateway(flags, (gateway) => gateway.flows(query));
    this.process.stdout.write(flags.output === 'json' ? toJson({ flows: found }) : flowTable(found));
  },
  parameters: {
    flags: {
      guest: { kind: 'parsed', parse: parseGuest, brief: 'Only of this guest: id, name or address', optional: true },
      state: { kind: 'parsed', parse: parseState, brief: 'Only in this state (RFC 9293)', optional: true },
      peer: { kind: 'parsed', parse: parsePeer, brief: 'Only with this peer: address or address:port', optional: true },
      output: outputFlag,
      socket: socketFlag,
    },
    aliases: { o: 'output' },
  },
  docs: { brief: 'Lists flows' },
});

const show = buildCommand<ConnectFlags & OutputFlags, [number], CommandContext>({
  async func(flags, id) {
    const flow = await withGateway(flags, (gateway) => gateway.flow(id));
    this.process.stdout.write(flags.output === 'json' ? toJson(flow) : flowText(flow));
  },
  parameters: {
    flags: { output: outputFlag, socket: socketFlag },
    aliases: { o: 'output' },
    positional: {
      kind: 'tuple',
      parameters: [{ brief: 'Id of the flow, as listed', parse: parseFlowId, placeholder: 'id' }],
    },
  },
  docs: { brief: 'Shows one flow: all sequence numbers, deltas, windows, custody' },
});

export const flows = buildRouteMap({ routes: { list, show }, docs: { brief: 'Connections of guests' } });
