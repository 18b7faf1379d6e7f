/**
 * Running a program without any privilege, as agents and guests must be able to.
 */
import { chown, mkdir } from 'node:fs/promises';
import { NOBODY } from './gateway.ts';
import { tryRun } from './process.ts';
import { PROJECT, type Topology } from './topology.ts';

/** No capability is left, and none can be had again. */
const WITHOUT = ['--bounding-set=-all', '--inh-caps=-all', '--ambient-caps=-all', '--no-new-privs'];

let prefix: Promise<readonly string[]> | undefined;

/**
 * What to put before a command: it runs as nobody, or, where nobody may not read the project (a clone in root's home), as root
 * without capabilities.
 */
export function unprivileged(): Promise<readonly string[]> {
  prefix ??= choose();
  return prefix;
}

async function choose(): Promise<readonly string[]> {
  const nobody = ['setpriv', '--reuid', String(NOBODY), '--regid', String(NOBODY), '--clear-groups', ...WITHOUT];
  const probe = await tryRun([...nobody, `${PROJECT}/bin/node`, '--version'], { cwd: '/' });
  return probe.code === 0 ? nobody : ['setpriv', '--regid', String(NOBODY), '--clear-groups', ...WITHOUT];
}

/** A directory of the run that an unprivileged program may write to, and nobody else. */
export async function privateDirectory(topology: Topology, name: string): Promise<string> {
  const directory = topology.path(name);
  await mkdir(directory, { mode: 0o700, recursive: true });
  const asNobody = (await unprivileged()).includes('--reuid');
  await chown(directory, asNobody ? NOBODY : 0, NOBODY);
  return directory;
}
