/** `gateway run --config FILE`. */
import type { CommandContext } from '@stricli/core';
import { buildCommand } from '@stricli/core';
import { parsePath } from '../parse.ts';

export const run = buildCommand<{ readonly config: string }, [], CommandContext>({
  // The daemon is loaded by this command alone: the others stay quick.
  async loader() {
    const { runDaemon } = await import('./run-daemon.ts');
    return runDaemon;
  },
  parameters: {
    flags: { config: { kind: 'parsed', parse: parsePath, brief: 'Configuration file (TOML)', placeholder: 'file' } },
  },
  docs: {
    brief: 'Runs the gateway in this network namespace until SIGTERM, SIGINT or SIGHUP',
    fullDescription: [
      'Runs the gateway in this network namespace until SIGTERM, SIGINT or SIGHUP.',
      'Needs CAP_NET_ADMIN and /dev/net/tun. Makes TUN devices (kg-…), rules of preference 20 to 23, tables 5600 to 5728, and turns',
      'ip_forward on; takes all of it back when it ends, or at its next start when it was killed.',
      'Prints one line on stdout when it is ready; logs as JSON lines go to stderr.',
    ].join('\n'),
  },
});
