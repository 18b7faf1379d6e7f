/** What an agent that was killed has left at the gateway: guests whose memory and sockets died with it. */
import { setTimeout as delay } from 'node:timers/promises';
import type { GatewayClient } from '../gateway/admin/client.ts';
import type { GuestSummary } from '../gateway/admin/schema.ts';
import { KedgeError } from '../errors.ts';
import type { Registry } from './registry.ts';

/**
 * How long a frozen guest is left to whoever may hold its image, milliseconds: a target that was sent it before the source died, or
 * a user whose checkpoint was written but not sealed.
 */
const FROZEN_GRACE = 60_000;
const LOOK_AGAIN = 1_000;

const NOT_SIGNED_OFF = 'guests of the agent before this one were not signed off';

export type LeftOptions = {
  readonly gateway: Pick<GatewayClient, 'guests' | 'unregister'>;
  readonly leg: string;
  readonly registry: Registry;
  readonly warn: (what: string) => void;
  /** Milliseconds; for tests. */
  readonly grace?: number;
  readonly signal: AbortSignal;
};

/**
 * Signs off what is left: guests that ran before it resolves, those that were frozen when nobody has continued them in time. A guest
 * that lives in an image or on another leg is none of ours. `rest` settles when that is done too. Never throws.
 */
export async function clearLeft(options: LeftOptions): Promise<{ readonly rest: Promise<void> }> {
  const ids: Left = new Map([...options.registry.left].map((id) => [id, undefined]));
  await attempt(options, async () => {
    const waiting = await clearOnce(options, ids, false);
    const seconds = Math.ceil((options.grace ?? FROZEN_GRACE) / 1000);
    for (const { name } of waiting)
      options.warn(
        `guest ${name} stood still when the agent before this one ended; it is given up in ${seconds} s unless its image is ` +
          `restored (kedge restore), or now by: gateway guests rm ${name}`,
      );
  });
  return { rest: attempt(options, () => clearLate(options, ids)) };
}

async function attempt({ warn, signal }: LeftOptions, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (!signal.aborted) warn(`${NOT_SIGNED_OFF}: ${String(error)}`);
  }
}

async function clearLate(options: LeftOptions, ids: Left): Promise<void> {
  const { grace = FROZEN_GRACE, signal } = options;
  const deadline = performance.now() + grace;
  for (let told = false; ids.size > 0;) {
    await delay(Math.min(LOOK_AGAIN, grace), undefined, { signal });
    try {
      await clearOnce(options, ids, performance.now() >= deadline);
    } catch (error) {
      // A gateway that is being started again is asked again, for as long as this agent lives.
      if (!(error instanceof KedgeError)) throw error;
      if (!told && !signal.aborted) options.warn(`${NOT_SIGNED_OFF}, which is tried again: ${String(error)}`);
      told = true;
    }
  }
}

/** Guests that were left, with the epoch they had at the first look. */
type Left = Map<string, number | undefined>;

/** Takes those that are settled out of `ids`, and returns those that are not. */
async function clearOnce(
  { gateway, leg, registry, warn }: LeftOptions,
  ids: Left,
  late: boolean,
): Promise<GuestSummary[]> {
  if (ids.size === 0) return [];
  const waiting: GuestSummary[] = [];
  const guests = new Map((await gateway.guests()).map((guest) => [guest.id, guest]));
  for (const [id, first] of ids) {
    const guest = guests.get(id);
    const ours = guest?.leg === leg ? guest : undefined;
    if (ours !== undefined && first !== undefined && ours.epoch !== first) {
      // Its image was continued here: it lives, and its record is that of this agent.
      ids.delete(id);
      continue;
    }
    ids.set(id, ours?.epoch);
    if (ours !== undefined && (ours.state === 'frozen' || ours.state === 'attaching') && !late) {
      waiting.push(ours);
      continue;
    }
    if (ours !== undefined && ours.state !== 'sealed') {
      await signOff(gateway, ours);
      warn(`guest ${ours.name} ended with the agent before this one`);
    }
    ids.delete(id);
    registry.remove(id);
  }
  return waiting;
}

async function signOff(gateway: LeftOptions['gateway'], { id, epoch }: GuestSummary): Promise<void> {
  try {
    await gateway.unregister(id, { epoch });
  } catch (error) {
    // Continued elsewhere just now, or gone.
    const code = error instanceof KedgeError ? error.code : undefined;
    if (code !== 'KEDGE_EPOCH_STALE' && code !== 'KEDGE_GUEST_UNKNOWN') throw error;
  }
}
