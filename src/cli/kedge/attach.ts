/** The foreground of `run` and `restore`: a guest's output and exit code as if it were a process here. */
import type { Writable } from 'node:stream';
import { setTimeout } from 'node:timers/promises';
import { coded, KedgeError } from '../../errors.ts';
import type { AgentClient, Attached, Output } from '../../migrate/client.ts';
import type { GuestInfo } from '../../migrate/protocol.ts';
import { printable } from '../table.ts';

export type Streams = { readonly stdout: Writable; readonly stderr: Writable };

/** Between two tries to stop a guest with which something else is done, milliseconds. */
const BUSY_RETRY = 100;

const SIGNALS = { SIGHUP: 1, SIGINT: 2, SIGTERM: 15 } as const;

/** Writes and waits while whoever reads is slow. */
async function write(to: Writable, bytes: Uint8Array): Promise<void> {
  if (to.write(bytes)) return;
  await new Promise<void>((resolve) => {
    to.once('drain', resolve);
  });
}

/** A line from Kedge itself, which may name what others have named. */
function say(to: Writable, what: string): void {
  to.write(`kedge: ${printable(what)}\n`);
}

/** Copies what a guest printed, and says where some is missing behind the beginning. */
export async function copy(output: Output, streams: Streams): Promise<void> {
  let begun = false;
  for await (const { stream, data, missed } of output) {
    if (begun && missed > 0)
      say(streams.stderr, `${missed} bytes of output are lost here: the guest printed faster than they were taken`);
    begun = true;
    await write(streams[stream], data);
  }
}

/**
 * Stays with a guest until its code ends here. SIGINT, SIGTERM and SIGHUP stop the guest, one that is being moved when that is over. Returns
 * the exit code: 128 + the signal, else the guest's, or 0 when it goes on elsewhere, which is said. Throws KEDGE_GUEST_CRASHED when it
 * failed.
 */
export async function stayWith(agent: AgentClient, { guest, output }: Attached, streams: Streams): Promise<number> {
  let signalled: keyof typeof SIGNALS | undefined;
  let over = false;
  const stop = (signal: keyof typeof SIGNALS) => (): void => {
    if (signalled === undefined) void stopWhenIdle(agent, guest, streams, () => over);
    signalled = signal;
  };
  const handlers = { SIGHUP: stop('SIGHUP'), SIGINT: stop('SIGINT'), SIGTERM: stop('SIGTERM') };
  for (const [signal, handler] of Object.entries(handlers)) process.on(signal, handler);
  try {
    const [end] = await Promise.all([agent.wait(guest.id), copy(output, streams)]);
    const interrupted = signalled === undefined ? undefined : 128 + SIGNALS[signalled];
    if ('exitCode' in end) return interrupted ?? end.exitCode;
    // That it was stopped needs no word when it was asked for here.
    if (interrupted !== undefined && end.gone === 'stopped') return interrupted;
    const code = wentAway(guest, end.gone, streams);
    return interrupted ?? code;
  } finally {
    over = true;
    for (const [signal, handler] of Object.entries(handlers)) process.off(signal, handler);
  }
}

/** Stops a guest, and tries again while something else is done with it. The wait for the guest ends by it, or by what was done. */
async function stopWhenIdle(
  agent: AgentClient,
  { id, name }: GuestInfo,
  { stderr }: Streams,
  over: () => boolean,
): Promise<void> {
  for (let tries = 0; !over(); tries += 1) {
    try {
      await agent.stop(id);
      return;
    } catch (error) {
      const { code, message } = coded(error);
      // It has ended, or its agent has: the wait says so.
      if (code === 'KEDGE_GUEST_ENDED' || code === 'KEDGE_GUEST_UNKNOWN' || code === 'KEDGE_AGENT_UNREACHABLE') return;
      if (code === 'KEDGE_LINK_BROKEN') return;
      if (code !== 'KEDGE_GUEST_BUSY') return say(stderr, `guest ${name} was not stopped: ${message}`);
      if (tries === 0) say(stderr, `${message}; it is stopped after that, if it is still here`);
      await setTimeout(BUSY_RETRY);
    }
  }
}

function wentAway(guest: GuestInfo, gone: string, streams: Streams): number {
  const moved = /^moved to (.+)$/.exec(gone)?.[1];
  if (moved === undefined && gone !== 'checkpointed' && gone !== 'stopped') {
    throw new KedgeError('KEDGE_GUEST_CRASHED', `guest ${guest.name} ${gone}`);
  }
  const where = moved === undefined ? '' : `; follow it there: kedge logs ${guest.name} -f --agent ${moved}`;
  say(streams.stderr, `guest ${guest.name} was ${gone}${where}`);
  return 0;
}
