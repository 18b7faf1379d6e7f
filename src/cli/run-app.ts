/** What both commands share: how failures are printed, and exit codes. 0 done, 1 failed, 2 called wrongly. */
import type { CommandContext, RouteMap } from '@stricli/core';
import { buildApplication, help, run, text_en, version } from '@stricli/core';
import { KedgeError } from '../errors.ts';
import { VERSION } from '../version.ts';
import { printable } from './table.ts';

/** Two lines, where nothing of ours went wrong: what happened with its stable code, and what to do. */
export function formatFailure(error: unknown): string {
  if (error instanceof KedgeError) {
    if (error.code === 'KEDGE_INTERNAL') return trace(error);
    const hint = error.hint === undefined ? '' : `\n  hint: ${printable(error.hint)}`;
    return `${error.code}: ${printable(error.message)}${hint}`;
  }
  // No failure of the world around us comes as another kind of error: a fault of ours, with its trace.
  return error instanceof Error ? trace(error) : printable(String(error));
}

function trace(error: Error): string {
  return (error.stack ?? error.message).split('\n').map(printable).join('\n');
}

/** A command may throw it where stricli's own checks do not reach: exit code 2. */
export function usageError(message: string): KedgeError {
  return new KedgeError('KEDGE_USAGE', message);
}

const FORMATTING = {
  useAliasInUsageLine: true,
  onlyRequiredInUsageLine: false,
  caseStyle: 'convert-camel-to-kebab',
} as const;

/** Runs a command line and returns its exit code. `argv` is without the program's name. */
export async function runApp(name: string, root: RouteMap<CommandContext>, argv: readonly string[]): Promise<number> {
  const app = buildApplication(
    root,
    {
      name,
      scanner: { caseStyle: 'allow-kebab-for-camel', allowArgumentEscapeSequence: true },
      localization: {
        text: {
          ...text_en,
          exceptionWhileRunningCommand: (error) => `${name}: ${formatFailure(error)}`,
          commandErrorResult: (error) => `${name}: ${formatFailure(error)}`,
        },
      },
      determineExitCode: (error) => (error instanceof KedgeError && error.code === 'KEDGE_USAGE' ? 2 : 1),
    },
    {
      help: help({ brief: 'Prints this', defaultForRouteMap: true, formatting: FORMATTING }),
      version: version({ brief: 'Prints the version', info: { currentVersion: VERSION } }),
    },
  );
  // A proxy of the streams, so that the exit code is returned and not set: stricli has negative ones of its own.
  const { stdout, stderr, env } = process;
  const own: { exitCode?: number | string | null } & Pick<typeof process, 'stdout' | 'stderr' | 'env'> = {
    stdout,
    stderr,
    env,
  };
  // No command at all is called wrongly; the help says how.
  await run(app, argv.length === 0 ? ['--help'] : argv, { process: own });
  const code = Number(own.exitCode ?? 0);
  if (argv.length === 0) return 2;
  return code < -1 ? 2 : code === -1 ? 1 : code;
}
