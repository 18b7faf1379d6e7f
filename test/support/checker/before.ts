/**
 * Before the first move the gateway is a NAT and nothing else: the same segments with the same options on both sides; only
 * addresses and ports differ. Kernels with several CPUs may swap neighbours on their way, so the order may differ a little.
 */
import type { TcpRow } from '../fields.ts';
import { describe, type Conversation, type Segment, type Violation } from './conversation.ts';

const CHECK = 'same before the first move';

/** What must not be changed; the window is looked at apart. */
const SAME = [
  'seq',
  'ack',
  'flags',
  'len',
  'mss',
  'wscale',
  'sackPermitted',
  'urgent',
] as const satisfies readonly (keyof TcpRow)[];

/** What came in so shortly before the move may have been caught by the freeze, milliseconds; machines can be busy. */
const TRANSIT_MS = 500;

/** Among so many segments that came in and have not left yet, the one that left is looked for. */
const REORDER = 64;

/** @param until time of the first move, milliseconds since 1970; Infinity when there is none. */
export function sameBefore({ peerSide, guestSide }: Conversation, until: number): Violation[] {
  const out = (segment: Segment): boolean => segment.outbound;
  const back = (segment: Segment): boolean => !segment.outbound;
  return [
    ...compare(guestSide.filter(out), peerSide.filter(out), until),
    ...compare(peerSide.filter(back), guestSide.filter(back), until),
  ];
}

function compare(entering: readonly Segment[], leaving: readonly Segment[], until: number): Violation[] {
  const open = [...entering];
  for (const segment of leaving) {
    if (segment.time >= until) break;
    const at = open.slice(0, REORDER).findIndex((original) => difference(original, segment) === undefined);
    if (at >= 0) {
      open.splice(at, 1);
      continue;
    }
    const [original] = open;
    const fault = original === undefined ? 'nothing like it came in' : difference(original, segment);
    const message = `${fault}: in ${original === undefined ? '-' : describe(original)}; out ${describe(segment)}`;
    // Once the rows are out of step every later one differs too.
    return [{ check: CHECK, message, time: segment.time }];
  }
  const late = leaving.filter((segment) => segment.time >= until);
  const lost = open.find(
    (segment) => segment.time < until - TRANSIT_MS && !late.some((copy) => difference(segment, copy) === undefined),
  );
  return lost === undefined ? [] : [{ check: CHECK, message: `never left: ${describe(lost)}`, time: lost.time }];
}

function difference(original: Segment, copy: Segment): string | undefined {
  const changed = SAME.find((name) => original[name] !== copy[name]);
  if (changed !== undefined) return `${changed} ${original[changed] ?? 'absent'} became ${copy[changed] ?? 'absent'}`;
  if (original.ts?.value !== copy.ts?.value || original.ts?.echo !== copy.ts?.echo) return 'timestamps differ';
  const blocks = (segment: Segment): string => segment.sack.map((block) => `${block.left}-${block.right}`).join();
  if (blocks(original) !== blocks(copy)) return 'SACK blocks differ';
  // A window towards the peer may be less than the guest's: never more is promised than can be kept through a freeze.
  const kept = original.outbound ? copy.window <= original.window : copy.window === original.window;
  return kept ? undefined : `window ${original.window} became ${copy.window}`;
}
