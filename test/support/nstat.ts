/**
 * A kernel's own counters, read by `nstat` in a place of the topology: an oracle that was not written by us.
 */
import type { Place, Topology } from './topology.ts';

/** Values since the namespace was made, by the names nstat gives them. */
export type Counters = Readonly<Record<string, number>>;

/** Counters that tell of a connection that was harmed. */
export const HARM = [
  'TcpOutRsts',
  'TcpEstabResets',
  'TcpInCsumErrors',
  'TcpExtPAWSEstab',
  'TcpExtTCPAbortOnData',
  'TcpExtTCPAbortOnClose',
  'TcpExtTCPAbortOnMemory',
  'TcpExtTCPAbortOnTimeout',
  'TcpExtTCPAbortOnLinger',
  'TcpExtTCPAbortFailed',
] as const;

/** Counters that tell of trouble on the way, worth printing; none of them is a fault by itself. */
export const TROUBLE = [
  'TcpRetransSegs',
  'TcpExtTCPTimeouts',
  'TcpExtTCPChallengeACK',
  'TcpExtTCPSYNChallenge',
  'TcpExtTCPDSACKOldSent',
  'TcpExtTCPDSACKOfoSent',
  'TcpExtTCPDSACKRecv',
  'TcpExtTCPDSACKOfoRecv',
  'TcpExtTCPSpuriousRTOs',
  'TcpExtTCPLostRetransmit',
  'TcpExtTCPKeepAlive',
  'TcpExtTCPFromZeroWindowAdv',
  'TcpExtTCPToZeroWindowAdv',
  'TcpExtTCPWinProbe',
] as const;

/** Reads all counters, zeros included, and leaves nstat's history alone. */
export async function readCounters(topology: Topology, place: Place): Promise<Counters> {
  return parseCounters(await topology.run(place, ['nstat', '-a', '-s', '-z', '--json']));
}

/** What `nstat --json` prints: `{"kernel": {name: value}}`. */
export function parseCounters(text: string): Counters {
  const parsed: unknown = JSON.parse(text);
  const kernel: unknown = (parsed as { kernel?: unknown } | null)?.kernel;
  if (typeof kernel !== 'object' || kernel === null)
    throw new Error(`not the output of nstat --json: ${text.slice(0, 200)}`);
  const counters: Record<string, number> = {};
  for (const [name, value] of Object.entries(kernel)) {
    if (typeof value !== 'number') throw new Error(`nstat: ${name} is not a number`);
    counters[name] = value;
  }
  return counters;
}

/** What was counted between two readings, without what did not change. */
export function difference(before: Counters, after: Counters): Record<string, number> {
  const changed: Record<string, number> = {};
  for (const [name, value] of Object.entries(after)) {
    const delta = value - (before[name] ?? 0);
    if (delta !== 0) changed[name] = delta;
  }
  return changed;
}

/** The part of a difference with these names: {} when none of it happened. */
export function pick(counters: Counters, names: readonly string[]): Record<string, number> {
  return Object.fromEntries(names.flatMap((name) => (counters[name] ? [[name, counters[name]]] : [])));
}
