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

/** A command line that stricli's own checks have refused. */
function misused(name: string, what: string, [command = '']: readonly string[]): string {
  const hint =
    /^[a-z]+$/.test(command) && !what.startsWith('No command') ? `${name} ${command} --help` : `${name} --help`;
  return `${name}: ${formatFailure(new KedgeError('KEDGE_USAGE', what, { hint }))}`;
}

/** Whether the words lead to several commands, and name none of them. */
function isIncomplete(root: RouteMap<CommandContext>, argv: readonly string[]): boolean {
  const [group, ...rest] = argv;
  if (group === undefined) return true;
  const target = root.getRoutingTargetForInput(group);
  return rest.length === 0 && target !== undefined && 'getAllEntries' in target;
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
          noCommandRegisteredForInput: (found) => misused(name, text_en.noCommandRegisteredForInput(found), argv),
          exceptionWhileParsingArguments: (error, ansi) =>
            misused(name, text_en.exceptionWhileParsingArguments(error, ansi), argv),
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
  const incomplete = isIncomplete(root, argv);
  const own: {
    exitCode?: number | string | null;
    readonly stdout: typeof stdout | typeof stderr;
  } & Pick<typeof process, 'stderr' | 'env'> = {
    stdout: incomplete ? stderr : stdout,
    stderr,
    env,
  };
  // No command at all is called wrongly; the help says how, and no program takes it for an answer.
  await run(app, incomplete ? [...argv, '--help'] : argv, { process: own });
  const code = Number(own.exitCode ?? 0);
  if (incomplete) return 2;
  return code < -1 ? 2 : code === -1 ? 1 : code;
}
