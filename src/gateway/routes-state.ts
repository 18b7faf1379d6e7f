/**
 * What the gateway changed in its network namespace, in a file beside the admin socket: written before the first change, removed after
 * the last was taken back. So a start after a SIGKILL or a power cut can take back what the first one could not.
 *
 * The file is good for one boot and one network namespace only: in another, nothing of it is true, and it is ignored.
 */
import { closeSync, fsyncSync, openSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { Type } from 'typebox';
import type { Static } from 'typebox';
import { KedgeError } from '../errors.ts';
import { matches } from '../schema.ts';
import type { Setting } from './routes-plan.ts';

const State = Type.Object({
  version: Type.Literal(1),
  bootId: Type.String(),
  /** Inode of the network namespace. */
  namespace: Type.Integer(),
  /** Kernel settings as they were. */
  settings: Type.Array(
    Type.Object({ path: Type.String({ pattern: '^net/ipv4/(?!.*\\.\\./).+$' }), value: Type.String() }),
  ),
  /** Whether the local table was moved. */
  movedLocal: Type.Boolean(),
  /** Proxy entry that was made, if there was none. */
  proxy: Type.Union([Type.Null(), Type.Object({ address: Type.String(), device: Type.String() })]),
});
export type RoutesState = Static<typeof State>;

/** The state file of a gateway with this admin socket. */
export function stateFile(socket: string): string {
  return `${socket}.routes.json`;
}

/** An empty state of this boot and this network namespace. */
export function newState(): RoutesState {
  return { version: 1, ...here(), settings: [], movedLocal: false, proxy: null };
}

function here(): { bootId: string; namespace: number } {
  return {
    bootId: readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim(),
    namespace: statSync('/proc/self/ns/net').ino,
  };
}

/** What an earlier gateway left to be taken back here; undefined when nothing. */
export function loadState(file: string): RoutesState | undefined {
  let state: unknown;
  try {
    state = JSON.parse(readFileSync(file, 'utf8'));
  } catch {
    // There is none, or its writer was killed before it changed anything: the rename had not happened.
    return undefined;
  }
  if (!matches(State, state)) return undefined;
  const { bootId, namespace } = here();
  return state.bootId === bootId && state.namespace === namespace ? state : undefined;
}

/** Writes the file so that it is whole or not there, on disk before this returns. Throws KEDGE_SOCKET_PATH, as it is beside the socket. */
export function saveState(file: string, state: RoutesState): void {
  const temporary = `${file}.new`;
  try {
    const fd = openSync(temporary, 'w', 0o600);
    try {
      writeFileSync(fd, `${JSON.stringify(state)}\n`);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    renameSync(temporary, file);
  } catch (cause) {
    const code = cause instanceof Error && 'code' in cause ? String(cause.code) : String(cause);
    throw new KedgeError('KEDGE_SOCKET_PATH', `cannot write ${file}, beside the socket: ${code}`, {
      hint: 'what is to be taken back is kept there: choose a socket in a folder that can be written, on a disk with room',
      cause,
    });
  }
}

export function removeState(file: string): void {
  rmSync(file, { force: true });
}

/** Value of a kernel setting; undefined when there is none of that name (its device is gone). */
export function readSetting(path: string): string | undefined {
  try {
    return readFileSync(`/proc/sys/${path}`, 'utf8').trim();
  } catch {
    return undefined;
  }
}

export function writeSetting(setting: Setting): void {
  writeFileSync(`/proc/sys/${setting.path}`, `${setting.value}\n`);
}
