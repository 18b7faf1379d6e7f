/** `kedge stop`. */
import type { CommandContext } from '@stricli/core';
import { buildCommand } from '@stricli/core';
import { printable } from '../table.ts';
import type { AgentFlags } from './options.ts';
import { agentFlag, guestArgument, withAgent } from './options.ts';

export const stop = buildCommand<AgentFlags, [string], CommandContext>({
  async func(flags, name) {
    const elsewhere = await withAgent(flags, (agent) => agent.stop(name));
    if (elsewhere !== undefined)
      this.process.stderr.write(
        `kedge: ${printable(`guest ${name} was ${elsewhere}; it is only off this agent's list`)}\n`,
      );
    this.process.stdout.write(`${name}\n`);
  },
  parameters: { flags: { agent: agentFlag }, positional: guestArgument },
  docs: { brief: 'Ends a guest and its connections; one that has ended already is taken off the list' },
});
