/** What a SYN of the guest tells. */
import type { PlaneContext } from './context.ts';
import { HAS_MPTCP, HAS_WSCALE, SYNCHRONIZED, SYN_MPTCP } from './flow.ts';
import { agreeOptions, synOptions } from './inbound-record.ts';
import { updateState } from './state.ts';

/** Records the guest's initial sequence number, window and options. */
export function recordGuestSyn(ctx: PlaneContext, flow: number): void {
  const { f, packet: p } = ctx;
  f.guestIsn[flow] = p.seq;
  f.sndNxt[flow] = 0;
  f.guestNxt[flow] = 0;
  f.guestShift[flow] = p.wscaleAt !== 0 ? Math.min(14, p.wscale) : 0;
  f.announcedShift[flow] = f.guestShift[flow]!;
  f.guestMss[flow] = p.mssAt !== 0 ? p.mss : 536;
  f.guestEdge[flow] = p.window;
  f.socketMss[flow] = f.guestMss[flow]!;
  f.socketBase[flow] = 0;
  f.tsFloor[flow] = p.tsVal;
  f.guestTs[flow] = p.tsVal;
  f.lastTsOut[flow] = p.tsVal;
  f.lastTsOutAt[flow] = ctx.now;
}

/** Records the guest's SYN-ACK: the options of both SYNs are known now. */
export function recordSynAck(ctx: PlaneContext, flow: number): void {
  const { f, packet: p } = ctx;
  recordGuestSyn(ctx, flow);
  const mptcp = f.flags[flow]! & SYN_MPTCP && p.mptcpAt !== 0 ? HAS_MPTCP : 0;
  f.flags[flow] = agreeOptions(f.flags[flow]!, synOptions(ctx)) | SYNCHRONIZED | mptcp;
  if (!(f.flags[flow] & HAS_WSCALE)) f.peerShift[flow] = f.announcedShift[flow] = f.guestShift[flow] = 0;
  f.maxEdge[flow] = Math.max(f.maxEdge[flow]!, f.guestEdge[flow]!);
  updateState(f, flow);
}
