/** `kedge agent`: starts one, and ends it at a signal. */
import { statSync } from 'node:fs';
import { enableCompileCache } from 'node:module';
import { join } from 'node:path';
import { GatewayClient } from '../gateway/admin/client.ts';
import { KedgeError } from '../errors.ts';
import { Agent } from './agent.ts';
import { checkFaults } from './faults.ts';
import { clearLeft } from './left.ts';
import { rehearseImages } from './rehearsal.ts';
import { fileRegistry, noRegistry } from './registry.ts';
import { serve } from './serve.ts';
import { MOVE_VERSION, STAGES } from './stages.ts';
import { unixTransport } from './transport.ts';

export type AgentMainOptions = {
  readonly socket: string;
  readonly gateway: string;
  readonly leg: string;
  readonly stateDir?: string | undefined;
  /** Directories of this host for guests from elsewhere, by the guest's name. */
  readonly dirs?: readonly { readonly host: string; readonly guest: string }[];
};

/** Throws KEDGE_USAGE for a name that is given twice: nobody could say which is meant. And KEDGE_PREOPEN_INVALID for what is no directory. */
function namedOnce(dirs: NonNullable<AgentMainOptions['dirs']>): ReadonlyMap<string, string> {
  const directories = new Map<string, string>();
  for (const { host, guest } of dirs) {
    const other = directories.get(guest);
    if (other !== undefined && other !== host)
      throw new KedgeError('KEDGE_USAGE', `--dir gives guests both ${other} and ${host} as ${guest}`);
    // Said now, and not when the first guest comes.
    if (statSync(host, { throwIfNoEntry: false })?.isDirectory() !== true)
      throw new KedgeError('KEDGE_PREOPEN_INVALID', `there is no directory ${host}`, {
        hint: `it was to be the ${guest} of guests from elsewhere: make it first, or name another with --dir`,
      });
    directories.set(guest, host);
  }
  return directories;
}

/** Runs an agent until SIGTERM, SIGINT or SIGHUP; prints one line when it is ready. Returns the exit code. */
export async function runAgent(options: AgentMainOptions): Promise<number> {
  const { socket, leg } = options;
  const warn = (what: string) => void process.stderr.write(`kedge agent: ${what}\n`);
  checkFaults(STAGES[MOVE_VERSION]);
  const gateway = new GatewayClient(options.gateway);
  const { legs } = await gateway.status();
  if (!legs.some(({ name }) => name === leg))
    throw new KedgeError('KEDGE_LEG_UNKNOWN', `the gateway has no leg named ${leg}`, {
      hint: `its legs are: ${legs.map(({ name }) => name).join(', ')}`,
    });
  const registry = options.stateDir === undefined ? noRegistry : fileRegistry(options.stateDir);
  const directories = namedOnce(options.dirs ?? []);
  // Loading what a guest's thread runs takes 0.3 s without what V8 made of it before, 0.1 s with it.
  if (options.stateDir !== undefined) enableCompileCache(join(options.stateDir, 'cache', 'node'));
  const agent = new Agent({ gateway, leg, transport: unixTransport, registry, directories, warn });
  const signalled = new Promise<void>((resolve) => {
    // Once: a second signal ends a process that is slow to stop, as it ends any other.
    for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP']) process.once(signal, () => resolve());
  });
  // Listening is the lock against a second agent, so what an earlier one left is cleared only after it.
  const listener = await unixTransport.listen(socket, (link) => void serve(agent, link));
  const stopping = new AbortController();
  const left = await clearLeft({ gateway, leg, registry, warn, signal: stopping.signal });
  process.stdout.write(`agent ready socket=${socket} leg=${leg}\n`);
  // A rehearsal that ends early leaves moves slower, and nothing else.
  const rehearsed = rehearseImages(stopping.signal).catch((error: unknown) => warn(String(error)));
  await signalled;
  stopping.abort();
  await rehearsed;
  await listener.close();
  await agent.close();
  await left.rest;
  gateway.close();
  return 0;
}
