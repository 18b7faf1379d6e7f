/** `kedge engines`: what can execute guests here. */
import type { CommandContext } from '@stricli/core';
import { buildCommand } from '@stricli/core';
import type { OutputFlags } from './options.ts';
import { outputFlag } from './options.ts';

export const engines = buildCommand<OutputFlags, [], CommandContext>({
  // Engines are loaded by this command alone.
  async loader() {
    const { listEngines } = await import('./list-engines.ts');
    return listEngines;
  },
  parameters: { flags: { output: outputFlag }, aliases: { o: 'output' } },
  docs: { brief: 'Lists what can execute guests: name, version, and what their modules may use' },
});
