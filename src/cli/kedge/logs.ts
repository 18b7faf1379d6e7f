/** `kedge logs`. */
import type { CommandContext } from '@stricli/core';
import { buildCommand } from '@stricli/core';
import { copy } from './attach.ts';
import type { AgentFlags } from './options.ts';
import { agentFlag, guestArgument, withAgent } from './options.ts';

export const logs = buildCommand<AgentFlags & { readonly follow: boolean }, [string], CommandContext>({
  async func(flags, name) {
    await withAgent(flags, (agent) => copy(agent.logs(name, { follow: flags.follow }), process));
  },
  parameters: {
    flags: {
      follow: { kind: 'boolean', brief: 'Go on until the guest has ended here', default: false },
      agent: agentFlag,
    },
    aliases: { f: 'follow' },
    positional: guestArgument,
  },
  docs: { brief: 'Shows what a guest has printed: its stdout on stdout, its stderr on stderr' },
});
