/**
 * Faults of tests. KEDGE_FAULT is a list of them, `ROLE.STAGE:fail` or `ROLE.STAGE:kill` with commas between: the stage fails before
 * it does anything, or the agent ends there by SIGKILL. Each fires once, so one agent can go through a list. See docs/migration.md.
 */
import { KedgeError } from '../errors.ts';

const VARIABLE = 'KEDGE_FAULT';

function wanted(): string[] {
  return (process.env[VARIABLE] ?? '').split(',').filter((fault) => fault !== '');
}

/** Throws KEDGE_USAGE for a fault that could never fire: a test that relies on it would show nothing. */
export function checkFaults(table: Readonly<Record<string, readonly string[]>>): void {
  for (const fault of wanted()) {
    const [, role = '', stage = ''] = /^([a-z]+)\.([a-z]+):(?:fail|kill)$/.exec(fault) ?? [];
    if (Object.hasOwn(table, role) && table[role]?.includes(stage) === true) continue;
    throw new KedgeError('KEDGE_USAGE', `${VARIABLE}: "${fault}" is not ROLE.STAGE:fail or ROLE.STAGE:kill of a stage`);
  }
}

/** Throws KEDGE_FAULT_INJECTED, or does not return, when a fault of this stage is due. */
export function injectFault(role: string, stage: string): void {
  const faults = wanted();
  const at = faults.findIndex((fault) => fault.startsWith(`${role}.${stage}:`));
  const fault = faults[at];
  if (fault === undefined) return;
  process.env[VARIABLE] = faults.toSpliced(at, 1).join(',');
  if (fault.endsWith(':kill')) process.kill(process.pid, 'SIGKILL');
  throw new KedgeError('KEDGE_FAULT_INJECTED', `${VARIABLE} asked for ${fault}`);
}
