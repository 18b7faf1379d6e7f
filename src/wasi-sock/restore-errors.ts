/** Why a guest's sockets cannot be there on a host, and what its administrator can do about it (docs/hosts.md). */
import { KedgeError } from '../errors.ts';
import { ERRNO, errnoName } from '../native.ts';
import { formatAddress } from './address.ts';
import type { SocketAddress } from './address.ts';

const TOO_MANY = 'too many files are open: a higher limit for the agent (ulimit -n), or fewer guests';
const OF_THIS_HOST = (port: number): string =>
  `a service of this host has the port, perhaps on all addresses: ss -tulpn 'sport = :${port}' names it; stop it, or bind it to addresses of its own`;
const RECIPE = 'this host is not ready for guests: netns-scripts/host-recipe.sh up POOL VIA DEV';
const LEG =
  'the gateway answers only on the leg that the agent names: see to its --leg, and to the leg of this host in gateway status';

const BIND_HINTS: Readonly<Record<number, (port: number) => string>> = {
  [ERRNO.EADDRNOTAVAIL]: () => 'the guest pool is not local to this host: ip route add local POOL dev lo',
  [ERRNO.EADDRINUSE]: OF_THIS_HOST,
  [ERRNO.EACCES]: (port) => `this user may not bind the port: sysctl net.ipv4.ip_unprivileged_port_start=${port}`,
};

const CONNECT_HINTS: Readonly<Record<number, string>> = {
  [ERRNO.ENETUNREACH]: RECIPE,
  [ERRNO.EHOSTUNREACH]: RECIPE,
  [ERRNO.EACCES]: 'a firewall of this host forbids it',
  [ERRNO.EPERM]: 'a firewall of this host forbids it',
};

/** `result` is a negated error number, as native functions return it. */
export function openError(result: number): KedgeError {
  const hint =
    result === -ERRNO.EMFILE || result === -ERRNO.ENFILE
      ? TOO_MANY
      : 'the system has no room for another socket: try again with fewer guests on this host';
  return new KedgeError('KEDGE_RESTORE_BIND', `no socket could be opened: ${errnoName(result)}`, hint);
}

/** Of a bind and of a listen: the kernel may find out only then that somebody else listens. */
export function bindError(what: 'bind' | 'listen at', local: SocketAddress, result: number): KedgeError {
  const hint = BIND_HINTS[-result]?.(local.port);
  const message = `cannot ${what} ${formatAddress(local)}: ${errnoName(result)}`;
  return new KedgeError('KEDGE_RESTORE_BIND', message, { hint });
}

/** Why there was no answer when the guest is ended meanwhile: nothing is to be done about that. */
export const INTERRUPTED = 'interrupted';

/** `why` is a negated error number, or says in words why there was no answer. */
export function connectError(local: SocketAddress, remote: SocketAddress, why: number | string): KedgeError {
  const known = typeof why === 'number' ? CONNECT_HINTS[-why] : undefined;
  const reason = typeof why === 'number' ? errnoName(why) : why;
  return new KedgeError(
    'KEDGE_RESTORE_CONNECT',
    `cannot connect ${formatAddress(local)} to ${formatAddress(remote)}: ${reason}`,
    { hint: why === INTERRUPTED ? undefined : (known ?? LEG) },
  );
}
