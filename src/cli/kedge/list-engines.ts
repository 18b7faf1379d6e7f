/** What `kedge engines` does; apart from its flags, because it loads the engines. */
import type { CommandContext } from '@stricli/core';
import { ENGINES } from '../../engine/engines.ts';
import { toJson } from '../format.ts';
import { renderTable } from '../table.ts';
import type { OutputFlags } from './options.ts';

export function listEngines(this: CommandContext, flags: OutputFlags): void {
  const engines = Object.values(ENGINES).map(({ name, version, features }) => ({ name, version, features }));
  const columns = ['NAME', 'VERSION', 'FEATURES'].map((title) => ({ title, align: 'left' as const }));
  const table = renderTable(
    columns,
    engines.map(({ name, version, features }) => [name, version, features.join(', ')]),
  );
  this.process.stdout.write(flags.output === 'json' ? toJson({ engines }) : table);
}
