/** What `kedge agent` does; apart from its flags, because it loads the engine. */
import type { CommandContext } from '@stricli/core';
import { DEFAULT_GATEWAY_SOCKET } from '../../gateway/admin/client.ts';
import { runAgent } from '../../migrate/agent-main.ts';
import { goOnUnread } from '../output.ts';
import { setExitCode } from './exit-code.ts';
import { agentSocket } from './options.ts';

export type RunAgentFlags = {
  readonly socket?: string;
  readonly gateway?: string;
  readonly leg: string;
  readonly stateDir?: string;
  readonly dir?: readonly { readonly host: string; readonly guest: string }[];
};

export async function runAgentCommand(this: CommandContext, flags: RunAgentFlags): Promise<void> {
  goOnUnread();
  const { leg, stateDir, dir = [] } = flags;
  const gateway = flags.gateway ?? (process.env['KEDGE_GATEWAY'] || DEFAULT_GATEWAY_SOCKET);
  const socket = agentSocket(flags.socket === undefined ? {} : { agent: flags.socket });
  setExitCode(this, await runAgent({ socket, gateway, leg, stateDir, dirs: dir }));
}
