/**
 * The guest's sockets. A state carries only what it has; `closed` is final.
 */
import type { SocketFd } from '../native.ts';
import type { SocketAddress } from './address.ts';
import type { WasiErrno } from './errno.ts';
import type { GuestOptions } from './options.ts';
import type { TcpStream } from './stream.ts';

export type TcpState =
  /** Neither listening nor connected. `error` is that of a connect that failed while nobody waited; it is told once. */
  | { readonly name: 'open'; readonly fd: SocketFd; local: SocketAddress | undefined; error: WasiErrno }
  | {
      readonly name: 'listening';
      readonly fd: SocketFd;
      readonly local: SocketAddress;
      backlog: number;
      /** Connections that a drain took from the kernel; accept gives these first, oldest first. */
      readonly pending: TcpStream[];
    }
  /** A SYN is out. */
  | {
      readonly name: 'connecting';
      readonly fd: SocketFd;
      readonly local: SocketAddress;
      readonly remote: SocketAddress;
    }
  /** `announced`: false until a connect that did not wait for it has been told that it is there. */
  | { readonly name: 'connected'; readonly stream: TcpStream; announced: boolean }
  | { readonly name: 'closed' };

interface Common {
  /** Unique in its table, also over restores. */
  readonly id: number;
  readonly options: GuestOptions;
  /** The descriptor's NONBLOCK flag. */
  nonBlocking: boolean;
}

export interface TcpSocket extends Common {
  readonly kind: 'tcp';
  state: TcpState;
}

/** A datagram that a drain took from the kernel. */
export interface Datagram {
  readonly from: SocketAddress;
  readonly bytes: Uint8Array;
}

export type UdpState =
  | {
      readonly name: 'open';
      readonly fd: SocketFd;
      local: SocketAddress | undefined;
      remote: SocketAddress | undefined;
      readonly queue: Datagram[];
      /** Shut down by the guest: 1 reading, 2 writing. */
      shut: number;
    }
  | { readonly name: 'closed' };

export interface UdpSocket extends Common {
  readonly kind: 'udp';
  state: UdpState;
}

export type SocketHandle = TcpSocket | UdpSocket;

/** The kernel's socket of a handle, if it has one. */
export function kernelFd({ state }: SocketHandle): SocketFd | undefined {
  switch (state.name) {
    case 'connected':
      return state.stream.fd;
    case 'closed':
      return undefined;
    default:
      return state.fd;
  }
}

/** The address a handle is bound to, if it is. */
export function localAddress({ state }: SocketHandle): SocketAddress | undefined {
  switch (state.name) {
    case 'connected':
      return state.stream.local;
    case 'closed':
      return undefined;
    default:
      return state.local;
  }
}
