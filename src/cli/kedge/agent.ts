/** `kedge agent`. */
import type { CommandContext } from '@stricli/core';
import { buildCommand } from '@stricli/core';
import { DEFAULT_GATEWAY_SOCKET } from '../../gateway/admin/client.ts';
import { DEFAULT_AGENT_SOCKET } from '../../migrate/client.ts';
import { parsePath } from '../parse.ts';
import { parseDirectory } from './options.ts';
import type { RunAgentFlags } from './run-agent.ts';

export const agent = buildCommand<RunAgentFlags, [], CommandContext>({
  // Engine and instrumentation are loaded by this command alone: the others stay quick.
  async loader() {
    const { runAgentCommand } = await import('./run-agent.ts');
    return runAgentCommand;
  },
  parameters: {
    flags: {
      socket: {
        kind: 'parsed',
        parse: parsePath,
        brief: `Where to listen [default: $KEDGE_AGENT, else ${DEFAULT_AGENT_SOCKET}]`,
        optional: true,
        placeholder: 'path',
      },
      gateway: {
        kind: 'parsed',
        parse: parsePath,
        brief: `Admin socket of the gateway [default: $KEDGE_GATEWAY, else ${DEFAULT_GATEWAY_SOCKET}]`,
        optional: true,
        placeholder: 'path',
      },
      leg: { kind: 'parsed', parse: String, brief: "The gateway's leg that leads to this host", placeholder: 'name' },
      stateDir: {
        kind: 'parsed',
        parse: parsePath,
        brief: 'Remembers guests here, to sign them off after a crash',
        optional: true,
        placeholder: 'directory',
      },
      dir: {
        kind: 'parsed',
        parse: parseDirectory,
        brief: 'A directory of this host for guests that come from elsewhere and have one of that name',
        optional: true,
        variadic: true,
        placeholder: 'host:guest',
      },
    },
  },
  docs: {
    brief: 'Runs the agent of this host until SIGTERM, SIGINT or SIGHUP',
    fullDescription: [
      'Runs the agent of this host until SIGTERM, SIGINT or SIGHUP, which also end its guests.',
      'Needs no privilege: the guest pool must be local to the host (ip route add local POOL dev lo) and the gateway’s socket open to',
      'this user. Its own socket is for its owner only: whoever may speak to an agent owns its guests.',
      'Prints one line on stdout when it is ready.',
    ].join('\n'),
  },
});
