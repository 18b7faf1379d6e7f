/** The foreground of `run` and `restore`: a guest's output and exit code as if it were a process here. */
import type { Writable } from 'node:stream';
import { KedgeError } from '../../errors.ts';
import type { AgentClient } from '../../migrate/client.ts';
import type { GuestInfo } from '../../migrate/protocol.ts';

export type Streams = { readonly stdout: Writable; readonly stderr: Writable };

const SIGNALS = { SIGINT: 2, SIGTERM: 15 } as const;

/** Writes and waits while whoever reads is slow. */
async function write(to: Writable, bytes: Uint8Array): Promise<void> {
  if (to.write(bytes)) return;
  await new Promise<void>((resolve) => {
    to.once('drain', resolve);
  });
}

/** Copies what a guest printed; with `follow` until its code ends. */
export async function copyLogs(agent: AgentClient, guest: string, follow: boolean, streams: Streams): Promise<void> {
  for await (const { stream, data } of agent.logs(guest, { follow })) await write(streams[stream], data);
}

/**
 * Stays with a guest until its code ends here. SIGINT and SIGTERM stop the guest. Returns the exit code: the guest's, 128 + the signal,
 * or 0 when it goes on elsewhere. Throws KEDGE_GUEST_CRASHED when it failed.
 */
export async function stayWith(agent: AgentClient, guest: GuestInfo, streams: Streams): Promise<number> {
  let signalled: keyof typeof SIGNALS | undefined;
  const stop = (signal: keyof typeof SIGNALS) => (): void => {
    signalled ??= signal;
    // The wait below ends by it; when the agent is gone, by that.
    agent.stop(guest.id).catch(() => undefined);
  };
  const handlers = { SIGINT: stop('SIGINT'), SIGTERM: stop('SIGTERM') };
  process.on('SIGINT', handlers.SIGINT);
  process.on('SIGTERM', handlers.SIGTERM);
  try {
    const [end] = await Promise.all([agent.wait(guest.id), copyLogs(agent, guest.id, true, streams)]);
    if (signalled !== undefined) return 128 + SIGNALS[signalled];
    return 'exitCode' in end ? end.exitCode : wentAway(guest, end.gone, streams);
  } finally {
    process.off('SIGINT', handlers.SIGINT);
    process.off('SIGTERM', handlers.SIGTERM);
  }
}

function wentAway(guest: GuestInfo, gone: string, streams: Streams): number {
  const moved = /^moved to (.+)$/.exec(gone)?.[1];
  if (moved === undefined && gone !== 'checkpointed' && gone !== 'stopped') {
    throw new KedgeError('KEDGE_GUEST_CRASHED', `guest ${guest.name} ${gone}`);
  }
  const where = moved === undefined ? '' : `; follow it there: kedge logs ${guest.name} -f --agent ${moved}`;
  streams.stderr.write(`kedge: guest ${guest.name} was ${gone}${where}\n`);
  return 0;
}
