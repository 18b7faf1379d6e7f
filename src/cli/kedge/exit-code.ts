import type { CommandContext } from '@stricli/core';

/** Makes the command end with a code of its own, as a guest's; only the low 8 bits reach a shell. */
export function setExitCode(context: CommandContext, code: number): void {
  const own = context.process as { exitCode?: number };
  own.exitCode = code & 0xff;
}
