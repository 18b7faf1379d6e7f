/**
 * The checker of the end-to-end tests: says from captures of both sides of the gateway alone whether a connection was moved as it
 * should be. It uses none of Kedge's code, only tshark's fields.
 *
 * Captures must hold the connection from its handshake on, whole frames, with offload off (`Topology.up({offload: 'off'})`,
 * `BothSidesCapture.start(topology, {full: true})`). Limits: less than 2 GiB in each direction in an epoch.
 */
import type { BothSides } from './capture.ts';
import { readTcp, type TcpRow } from './fields.ts';
import { sameBefore } from './checker/before.ts';
import {
  conversation,
  endpoint,
  type CapturedRows,
  type Conversation,
  type Tuple,
  type Violation,
} from './checker/conversation.ts';
import { findEpochs, type Epoch } from './checker/epochs.ts';
import { constantDeltas, handover, handshakes, type Delta } from './checker/splice.ts';
import {
  acksWithinSent,
  checksums,
  honestAcks,
  noReset,
  oneFin,
  rightEdge,
  timestampsToGuest,
  timestampsToPeer,
} from './checker/wire.ts';

export interface CheckOptions {
  /** When the first move began, milliseconds since 1970 (`Date.now()` before the command); without: there was none. */
  readonly firstMove?: number;
  /** How many handshakes the guest's side must show beyond the first; without: any number. */
  readonly moves?: number;
  /** Captures without whole frames, or with offload on, cannot show checksums. Default true. */
  readonly checksums?: boolean;
}

export interface CheckReport {
  readonly violations: readonly Violation[];
  readonly epochs: readonly Epoch[];
  readonly deltas: readonly Delta[];
  readonly conversation: Conversation;
}

export async function readBothSides(files: BothSides): Promise<CapturedRows> {
  const [peer, a, b] = await Promise.all([readTcp(files.peer), readTcp(files.a), readTcp(files.b)]);
  return { peer, legs: { a, b } };
}

/** Tuple of a flow as `gateway flows` shows it: "address:port" each. */
export function tupleOf(flow: { readonly peer: string; readonly outside: string; readonly guest: string }): Tuple {
  return { peer: endpoint(flow.peer), outside: endpoint(flow.outside), guest: endpoint(flow.guest) };
}

/** All checks over one conversation. */
export function checkConversation(rows: CapturedRows, tuple: Tuple, options: CheckOptions = {}): CheckReport {
  const talk = conversation(rows, tuple);
  const epochs = findEpochs(talk);
  const { deltas, violations } = constantDeltas(talk, epochs);
  const missing: Violation[] =
    talk.peerSide.length > 0 && talk.guestSide.length > 0
      ? []
      : [
          {
            check: 'captured',
            message: `${talk.peerSide.length} segments on the peer's side, ${talk.guestSide.length} on the guest's`,
          },
        ];
  return {
    violations: [
      ...missing,
      ...sameBefore(talk, options.firstMove ?? Infinity),
      ...handshakes(talk, epochs, options.firstMove === undefined ? 0 : options.moves),
      ...violations,
      ...handover(talk, epochs),
      ...honestAcks(talk),
      ...acksWithinSent(epochs),
      ...rightEdge(talk),
      ...timestampsToPeer(talk),
      ...timestampsToGuest(epochs),
      ...noReset(talk),
      ...oneFin(talk),
      ...(options.checksums === false ? [] : checksums(talk)),
    ],
    epochs,
    deltas,
    conversation: talk,
  };
}

/** Throws an error that lists the violations (the first few of each check) when there are any. */
export function assertClean(report: CheckReport): void {
  if (report.violations.length === 0) return;
  const byCheck = Map.groupBy(report.violations, (violation) => violation.check);
  const start = report.conversation.peerSide[0]?.time ?? 0;
  const lines = [...byCheck].flatMap(([check, found]) => [
    `${check}: ${found.length}`,
    ...found
      .slice(0, 5)
      .map(({ message, time }) => `    ${time === undefined ? '' : `${(time - start).toFixed(3)} ms `}${message}`),
  ]);
  throw new Error(`${report.violations.length} violations on the wire\n${lines.join('\n')}`);
}

export interface Gap {
  readonly ms: number;
  /** Times of the rows around it, milliseconds since 1970. */
  readonly from: number;
  readonly to: number;
}

/**
 * The longest time without a row among `rows` (in order of time), of all gaps that touch the window. The blackout of a move is
 * this over the peer's rows around the move, less the same over a run without a move.
 */
export function longestGap(rows: readonly Pick<TcpRow, 'time'>[], window: { from?: number; to?: number } = {}): Gap {
  const { from = -Infinity, to = Infinity } = window;
  let longest: Gap = { ms: 0, from: 0, to: 0 };
  let previous: number | undefined;
  for (const { time } of rows) {
    if (previous !== undefined && time >= from && previous <= to && time - previous > longest.ms) {
      longest = { ms: time - previous, from: previous, to: time };
    }
    previous = time;
  }
  return longest;
}
