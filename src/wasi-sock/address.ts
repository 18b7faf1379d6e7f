/** Addresses of sockets, in host byte order. */
import { formatIpv4 } from '../rewrite/numbers.ts';
import type { Ipv4, Port } from '../rewrite/numbers.ts';

/** An IPv4 address and a port. Port 0 stands for "any" where a socket is being bound. */
export interface SocketAddress {
  readonly address: Ipv4;
  readonly port: Port;
}

export const INADDR_ANY = 0 as Ipv4;
export const ANY_PORT = 0 as Port;

export function socketAddress(address: number, port: number): SocketAddress {
  return { address: (address >>> 0) as Ipv4, port: (port & 0xffff) as Port };
}

/** `a.b.c.d:port` */
export function formatAddress({ address, port }: SocketAddress): string {
  return `${formatIpv4(address)}:${port}`;
}

/** Names one TCP connection of a guest, whose address is known. */
export function connectionKey(local: SocketAddress, remote: SocketAddress): string {
  return `${local.port}/${formatAddress(remote)}`;
}
