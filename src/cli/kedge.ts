/** The command `kedge`: the agent of a host, and what its users do with guests. */
import { buildRouteMap } from '@stricli/core';
import { agent } from './kedge/agent.ts';
import { checkpoint } from './kedge/checkpoint.ts';
import { engines } from './kedge/engines.ts';
import { inspect } from './kedge/inspect.ts';
import { logs } from './kedge/logs.ts';
import { migrate } from './kedge/migrate.ts';
import { ps } from './kedge/ps.ts';
import { restore } from './kedge/restore.ts';
import { run } from './kedge/run.ts';
import { protectGuestArguments } from './kedge/run-arguments.ts';
import { stop } from './kedge/stop.ts';
import { verify } from './kedge/verify.ts';
import { watchOutput } from './output.ts';
import { runApp } from './run-app.ts';

/** Runs `kedge ARGV` and returns the exit code. */
export function kedgeCommand(argv: readonly string[]): Promise<number> {
  const root = buildRouteMap({
    routes: { agent, run, ps, logs, stop, migrate, checkpoint, restore, inspect, engines, verify },
    docs: { brief: 'Guests that move between machines with their connections' },
  });
  return runApp('kedge', root, protectGuestArguments(argv));
}

if (import.meta.main) {
  watchOutput('kedge');
  process.exitCode = await kedgeCommand(process.argv.slice(2));
}
