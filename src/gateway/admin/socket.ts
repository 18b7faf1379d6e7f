/** The file of the admin socket: whether a gateway answers on it already, and who may use it. */
import { chmodSync, chownSync, existsSync, lstatSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { dirname } from 'node:path';
import { KedgeError } from '../../errors.ts';

/** Longest path of a Unix socket, bytes: sun_path less its zero byte. */
export const MAX_SOCKET_PATH = 107;

/** `free`: nothing there. `stale`: the socket of a gateway that is gone. */
export type SocketFile = 'free' | 'stale';

/**
 * Looks at the path and changes nothing. Throws KEDGE_GATEWAY_RUNNING when a process listens there, KEDGE_SOCKET_PATH when the path is
 * something else or cannot be looked at.
 */
export async function probeSocket(path: string): Promise<SocketFile> {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (stat === undefined) return 'free';
  if (!stat.isSocket()) {
    throw new KedgeError('KEDGE_SOCKET_PATH', `${path} is there and is no socket`, { hint: 'choose another path' });
  }
  const outcome = await tryConnect(path);
  if (outcome === 'connected') {
    throw new KedgeError('KEDGE_GATEWAY_RUNNING', `a gateway already answers at ${path}`, {
      hint: 'stop it first, or give this one another socket and network namespace',
    });
  }
  if (outcome === 'ECONNREFUSED') return 'stale';
  if (outcome === 'ENOENT') return 'free';
  throw new KedgeError('KEDGE_SOCKET_PATH', `cannot tell whether a gateway answers at ${path}: ${outcome}`);
}

function tryConnect(path: string): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.on('connect', () => {
      socket.destroy();
      resolve('connected');
    });
    socket.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? 'failed'));
  });
}

/** Makes the socket's folder where it lacks (not those above it), and removes a stale socket. */
export function prepareSocket(path: string): void {
  const folder = dirname(path);
  try {
    if (!existsSync(folder)) mkdirSync(folder, 0o755);
    rmSync(path, { force: true });
  } catch (error) {
    throw pathError(path, error);
  }
}

/**
 * Listens by `listen`, such that at no moment anyone can connect whom `mode` and `group` do not allow.
 * `group` is a name of /etc/group or a number.
 */
export async function listenPrivately(
  path: string,
  mode: number,
  group: string | undefined,
  listen: () => Promise<unknown>,
): Promise<void> {
  const gid = group === undefined ? undefined : groupId(group);
  const before = process.umask(0o777);
  try {
    await listen();
  } catch (error) {
    throw pathError(path, error);
  } finally {
    process.umask(before);
  }
  try {
    if (gid !== undefined) chownSync(path, process.geteuid?.() ?? 0, gid);
    chmodSync(path, mode);
  } catch (error) {
    throw pathError(path, error);
  }
}

/** Number of a group. Throws KEDGE_CONFIG_VALUE when there is none of that name. */
export function groupId(group: string): number {
  if (/^[0-9]{1,10}$/.test(group) && Number(group) < 2 ** 32 - 1) return Number(group);
  const line = readFileSync('/etc/group', 'utf8')
    .split('\n')
    .find((entry) => entry.startsWith(`${group}:`));
  const gid = line?.split(':')[2];
  if (gid === undefined) {
    throw new KedgeError('KEDGE_CONFIG_VALUE', `socket_group: there is no group ${group} on this machine`, {
      hint: `groupadd ${group}`,
    });
  }
  return Number(gid);
}

function pathError(path: string, error: unknown): KedgeError {
  const code = (error as NodeJS.ErrnoException).code ?? String(error);
  return new KedgeError('KEDGE_SOCKET_PATH', `cannot listen at ${path}: ${code}`, { cause: error });
}
