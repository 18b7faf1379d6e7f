/**
 * `sock_addr_resolve`: names to addresses. A guest gets no resolver of the host's: what a name means would differ between the
 * hosts it moves over. It knows numeric addresses, `localhost` (itself), and the names of a table that is given to it.
 */
import { parseIpv4 } from '../rewrite/numbers.ts';
import type { Ipv4 } from '../rewrite/numbers.ts';
import { FAMILY, SOCKET_TYPE } from './abi.ts';
import type { ResolveHints } from './abi.ts';
import { INADDR_ANY, socketAddress } from './address.ts';
import type { SocketAddress } from './address.ts';
import { WASI } from './errno.ts';

/** Addresses by lower-case name. */
export type HostsTable = ReadonlyMap<string, readonly Ipv4[]>;

export interface Resolved {
  readonly address: SocketAddress;
  /** SOCKET_TYPE. */
  readonly type: number;
}

/**
 * Every address of a host and a service (a port in decimal, or empty), for each socket type asked for. A negative WASI errno
 * instead: ENOENT for a name or service that is not known, EAFNOSUPPORT when only IPv6 will do.
 */
export function resolve(
  hosts: HostsTable,
  self: Ipv4,
  host: string,
  service: string,
  hints: ResolveHints | undefined,
): readonly Resolved[] | number {
  if (hints?.family === FAMILY.INET6) return -WASI.EAFNOSUPPORT;
  const port = portOf(service);
  if (port === undefined) return -WASI.ENOENT;
  const addresses = addressesOf(hosts, self, host.toLowerCase());
  if (addresses.length === 0) return -WASI.ENOENT;
  const wanted = hints?.type ?? SOCKET_TYPE.ANY;
  const types = [SOCKET_TYPE.STREAM, SOCKET_TYPE.DATAGRAM].filter((t) => wanted === SOCKET_TYPE.ANY || wanted === t);
  return addresses.flatMap((address) => types.map((type) => ({ address: socketAddress(address, port), type })));
}

function addressesOf(hosts: HostsTable, self: Ipv4, name: string): readonly Ipv4[] {
  if (name === '') return [INADDR_ANY];
  if (name === 'localhost') return [self];
  const numeric = parseIpv4(name);
  return numeric === undefined ? (hosts.get(name) ?? []) : [numeric];
}

function portOf(service: string): number | undefined {
  if (service === '') return 0;
  const port = /^\d{1,5}$/u.test(service) ? Number(service) : Infinity;
  return port <= 0xffff ? port : undefined;
}
