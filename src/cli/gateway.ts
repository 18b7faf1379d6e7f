/** The command `gateway`: the daemon and what shows its state. */
import { buildRouteMap } from '@stricli/core';
import { flows } from './gateway/flows.ts';
import { guests } from './gateway/guests.ts';
import { run } from './gateway/run.ts';
import { status } from './gateway/status.ts';
import { watchOutput } from './output.ts';
import { runApp } from './run-app.ts';

/** Runs `gateway ARGV` and returns the exit code. */
export function gatewayCommand(argv: readonly string[]): Promise<number> {
  const root = buildRouteMap({
    routes: { run, flows, guests, status },
    docs: { brief: 'Gateway that holds the outside end of guests’ connections' },
  });
  return runApp('gateway', root, argv);
}

if (import.meta.main) {
  watchOutput('gateway');
  process.exitCode = await gatewayCommand(process.argv.slice(2));
}
