/** `kedge agent`: starts one, and ends it at a signal. */
import { join } from 'node:path';
import { GatewayClient } from '../gateway/admin/client.ts';
import { KedgeError } from '../errors.ts';
import { Agent } from './agent.ts';
import { fileRegistry, noRegistry } from './registry.ts';
import { serve } from './serve.ts';
import { unixTransport } from './transport.ts';

export type AgentMainOptions = {
  readonly socket: string;
  readonly gateway: string;
  readonly leg: string;
  readonly stateDir?: string | undefined;
  /** Directories of this host for guests from elsewhere, by the guest's name. */
  readonly dirs?: readonly { readonly host: string; readonly guest: string }[];
};

/** Runs an agent until SIGTERM or SIGINT; prints one line when it is ready. Returns the exit code. */
export async function runAgent(options: AgentMainOptions): Promise<number> {
  const { socket, leg } = options;
  const warn = (what: string) => void process.stderr.write(`kedge agent: ${what}\n`);
  const gateway = new GatewayClient(options.gateway);
  const { legs } = await gateway.status();
  if (!legs.some(({ name }) => name === leg))
    throw new KedgeError('KEDGE_LEG_UNKNOWN', `the gateway has no leg named ${leg}`, {
      hint: `its legs are: ${legs.map(({ name }) => name).join(', ')}`,
    });
  const registry = options.stateDir === undefined ? noRegistry : fileRegistry(options.stateDir);
  const directories = new Map((options.dirs ?? []).map(({ host, guest }) => [guest, host]));
  const cacheDirectory = options.stateDir === undefined ? undefined : join(options.stateDir, 'cache');
  const agent = new Agent({ gateway, leg, transport: unixTransport, registry, directories, cacheDirectory, warn });
  // Listening is the lock against a second agent, so what an earlier one left is cleared only after it.
  const listener = await unixTransport.listen(socket, (link) => void serve(agent, link));
  await signOffLeft(gateway, leg, registry.left, warn);
  const signalled = new Promise<void>((resolve) => {
    process.once('SIGTERM', () => resolve());
    process.once('SIGINT', () => resolve());
  });
  process.stdout.write(`agent ready socket=${socket} leg=${leg}\n`);
  await signalled;
  await listener.close();
  await agent.close();
  gateway.close();
  return 0;
}

/** Signs off guests of an agent that was killed: on our leg, running, with sockets that died with it. */
async function signOffLeft(
  gateway: GatewayClient,
  leg: string,
  left: readonly string[],
  warn: (what: string) => void,
): Promise<void> {
  if (left.length === 0) return;
  for (const guest of await gateway.guests()) {
    if (!left.includes(guest.id) || guest.leg !== leg || guest.state !== 'running') continue;
    warn(`guest ${guest.name} ended with the agent before this one`);
    await gateway.unregister(guest.id, { epoch: guest.epoch });
  }
}
