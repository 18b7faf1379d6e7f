/**
 * The export: the cut of every connection of a frozen guest. K, the count of bytes that the runtime has ever read, is held against
 * the ACKs its old kernel sent (docs/splice.md, Drain).
 *
 * All or nothing: one connection whose K is not proved yet leaves every record as it was.
 */
import { KedgeError } from '../errors.ts';
import { formatIpv4 } from '../rewrite/numbers.ts';
import type { AttachedFlow, DrainedSocket, ExportResult, ExportedFlow, FlowBrief } from './admin/schema.ts';
import type { PlaneContext } from './context.ts';
import { ackPeer, probeGuest } from './emit.ts';
import {
  GUEST_RESET,
  NO_FIN,
  PEER_RESET,
  PROBED,
  REOPENING,
  STATES,
  SYNCHRONIZED,
  TCP,
  UDP,
  WINDOW_CLOSED,
} from './flow.ts';
import { worthTelling } from './player.ts';
import { finAcked, unackedFrom } from './splice.ts';
import { dataOffset, endByReset, isOver, updateState } from './state.ts';
import { ackPoint } from './windows.ts';

/** A flow by its names. */
export function describe(ctx: PlaneContext, flow: number): FlowBrief {
  const { f } = ctx;
  return {
    id: f.flowId[flow]!,
    proto: f.proto[flow] === UDP ? 'udp' : 'tcp',
    state: STATES[f.state[flow]!] ?? 'CLOSED',
    local: { address: formatIpv4(f.guestAddress[flow]!), port: f.guestPort[flow]! },
    remote: { address: formatIpv4(f.peerAddress[flow]!), port: f.peerPort[flow]! },
  };
}

/** What the runtime is told of a connection whose cut is known. */
function exported(ctx: PlaneContext, flow: number): ExportedFlow {
  const f = ctx.f;
  const { id, local, remote } = describe(ctx, flow);
  const received = Math.max(0, f.cut[flow]!);
  return {
    id,
    local,
    remote,
    acked: unackedFrom(ctx, flow),
    finAcked: finAcked(ctx, flow),
    // With custody above K there is more to come before it.
    peerFin: f.inFin[flow] !== NO_FIN && received >= f.inFin[flow]! && ackPoint(ctx, flow) > f.inFin[flow]!,
    received,
    reset: (f.flags[flow]! & PEER_RESET) !== 0,
  };
}

/** The same at an attach: what may have changed since the export, and what the new socket begins with. */
export function attachedFlow(ctx: PlaneContext, flow: number): AttachedFlow {
  const { peerFin: _, ...known } = exported(ctx, flow);
  return known;
}

/** What the export means for one flow: its K; a connection that no accept had returned; one that has no end at the guest. */
type Cut =
  { readonly flow: number; readonly received: number } | { readonly flow: number; readonly gone: 'reopen' | 'dead' };

/** Takes the cut of all flows of a guest, or says which drained socket is behind what its kernel acknowledged. */
export function exportFlows(
  ctx: PlaneContext,
  flows: readonly number[],
  drained: readonly DrainedSocket[],
): ExportResult {
  const sockets = new Map(drained.map((s) => [`${s.local.port}/${s.remote.address}:${s.remote.port}`, s] as const));
  if (sockets.size !== drained.length)
    throw new KedgeError('KEDGE_EXPORT_INCONSISTENT', 'the export names one connection twice');
  const reasons: string[] = [];
  const unknown: number[] = [];
  const cuts: Cut[] = [];
  for (const flow of flows) {
    if (ctx.f.proto[flow] !== TCP) continue;
    const { local, remote } = describe(ctx, flow);
    const socket = sockets.get(`${local.port}/${remote.address}:${remote.port}`);
    if (socket === undefined) {
      const cut = withoutSocket(ctx, flow);
      if (cut === 'unknown') {
        unknown.push(flow);
        reasons.push(`flow ${ctx.f.flowId[flow]!} with ${remote.address}:${remote.port} has no socket in the export`);
      } else if (cut !== 'none') cuts.push({ flow, gone: cut });
    } else {
      const reason = disproved(ctx, flow, socket.received);
      if (reason !== undefined) reasons.push(reason);
      cuts.push({ flow, received: socket.received });
    }
  }
  if (reasons.length > 0) {
    for (const flow of unknown) probe(ctx, flow);
    return { settled: false, reasons };
  }
  for (const cut of cuts) setCut(ctx, cut);
  return { settled: true, flows: cuts.filter((cut) => 'received' in cut).map(({ flow }) => exported(ctx, flow)) };
}

/** What a flow is that the runtime has no socket for. */
function withoutSocket(ctx: PlaneContext, flow: number): 'none' | 'reopen' | 'dead' | 'unknown' {
  const f = ctx.f;
  if (isOver(f, flow) || finAcked(ctx, flow)) return 'none';
  if (f.openedByGuest[flow] === 1) return f.flags[flow]! & SYNCHRONIZED ? 'unknown' : 'dead';
  // Nothing went to or fro: it waits in the listener's queue, or on the way there.
  return f.rcvNxt[flow]! <= 0 && f.sndNxt[flow]! <= 0 ? 'reopen' : 'unknown';
}

/** The old kernel may have ended the connection without a RST that arrived. Its answer is there before the next export. */
function probe(ctx: PlaneContext, flow: number): void {
  ctx.f.flags[flow] = ctx.f.flags[flow]! | PROBED;
  probeGuest(ctx, flow);
}

/** Why K is not the cut yet. Throws when it never can be. */
function disproved(ctx: PlaneContext, flow: number, received: number): string | undefined {
  const f = ctx.f;
  const id = f.flowId[flow]!;
  const proved = dataOffset(f.rcvNxt[flow]!, f.inFin[flow]!);
  if (f.flags[flow]! & (PEER_RESET | GUEST_RESET)) return undefined;
  if (received < proved) return `flow ${id}: received ${received}, but ${proved} bytes are acknowledged`;
  const sent = dataOffset(f.peerNxt[flow]!, f.inFin[flow]!);
  if (received > sent)
    throw new KedgeError(
      'KEDGE_EXPORT_INCONSISTENT',
      `flow ${id}: received ${received} is more than the ${sent} bytes the peer sent`,
    );
  return undefined;
}

function setCut(ctx: PlaneContext, cut: Cut): void {
  const f = ctx.f;
  const { flow } = cut;
  if ('gone' in cut) {
    if (cut.gone === 'reopen') f.flags[flow] = f.flags[flow]! | REOPENING;
    else endByReset(ctx, flow, GUEST_RESET);
    return;
  }
  f.cut[flow] = cut.received;
  if (!(f.flags[flow]! & SYNCHRONIZED) || f.flags[flow]! & (PEER_RESET | GUEST_RESET)) return;
  f.flags[flow] = f.flags[flow]! & ~REOPENING;
  if (cut.received > f.rcvNxt[flow]!) f.rcvNxt[flow] = cut.received;
  ctx.custody.release(flow, cut.received);
  const acks = ackPoint(ctx, flow);
  // What the image holds makes room (S34).
  const opens = f.flags[flow] & WINDOW_CLOSED && worthTelling(ctx, flow);
  if (acks > f.ackedToPeer[flow]! || opens) ackPeer(ctx, flow);
  // What was under way to the old kernel is lost: three duplicates make the peer send it again (RFC 5681 §3.2).
  if (acks < f.peerNxt[flow]!) for (let i = 0; i < 3; i++) ackPeer(ctx, flow);
  updateState(f, flow);
}

/** Whether an attach could not continue this flow, as no export has told its cut. */
export function lacksCut(ctx: PlaneContext, flow: number): boolean {
  const f = ctx.f;
  if (f.proto[flow] !== TCP || f.cut[flow]! >= 0 || f.flags[flow]! & REOPENING) return false;
  return !isOver(f, flow) && !finAcked(ctx, flow);
}
