/**
 * Socket options. What the guest set is remembered here, apart from what the kernel's socket has: it is set again on the
 * socket of a restore, and SO_REUSEADDR, which every TCP socket of ours needs (S14), stays the guest's own business.
 */
import { failed } from '../native.ts';
import type { Failure, Native, SocketFd } from '../native.ts';
import { WASI, wasiErrno } from './errno.ts';

const SOL_SOCKET = 1;
const SO_OOBINLINE = 10;
const IPPROTO_IP = 0;
const IPPROTO_TCP = 6;

type Transport = 'tcp' | 'udp';

interface IntOption {
  readonly level: number;
  readonly name: number;
  /** The transports whose sockets have it. */
  readonly of: readonly Transport[];
  readonly flag: boolean;
  /** What a socket without a kernel's answers when the guest has not set it. */
  readonly initial: number;
  /** Answered from the guest's view, never from the kernel. */
  readonly own?: true;
  /** Transports on whose kernel sockets it is not set, since Kedge decides it there. */
  readonly withheld?: readonly Transport[];
}

const BOTH: readonly Transport[] = ['tcp', 'udp'];
const TCP_ONLY: readonly Transport[] = ['tcp'];
const UDP_ONLY: readonly Transport[] = ['udp'];

/**
 * A kernel socket as all of a guest's are made. Bytes that a TCP peer marks urgent stay where they are in the stream (RFC 6093 §4), also
 * in connections that a listener accepts: a guest has no call that would read them aside, and a byte the kernel keeps back is missing
 * when a drain counts what was read (S22).
 */
export function openKernelSocket(native: Native, transport: Transport): SocketFd | Failure {
  const fd = native.sockOpen(transport === 'tcp');
  if (transport === 'tcp' && !failed(fd)) native.sockSetInt(fd, SOL_SOCKET, SO_OOBINLINE, 1);
  return fd;
}

/** Options whose value is an int (Linux numbers, asm-generic). */
export const INT_OPTIONS = {
  reuseAddr: { level: SOL_SOCKET, name: 2, of: BOTH, flag: true, initial: 0, own: true, withheld: TCP_ONLY },
  reusePort: { level: SOL_SOCKET, name: 15, of: BOTH, flag: true, initial: 0, own: true },
  broadcast: { level: SOL_SOCKET, name: 6, of: BOTH, flag: true, initial: 0 },
  /** Bytes; the kernel answers with twice what was set, for its own needs. */
  sendBuffer: { level: SOL_SOCKET, name: 7, of: BOTH, flag: false, initial: 0 },
  receiveBuffer: { level: SOL_SOCKET, name: 8, of: BOTH, flag: false, initial: 0 },
  keepAlive: { level: SOL_SOCKET, name: 9, of: BOTH, flag: true, initial: 0 },
  noDelay: { level: IPPROTO_TCP, name: 1, of: TCP_ONLY, flag: true, initial: 0 },
  /** Seconds. */
  keepIdle: { level: IPPROTO_TCP, name: 4, of: TCP_ONLY, flag: false, initial: 7200 },
  keepInterval: { level: IPPROTO_TCP, name: 5, of: TCP_ONLY, flag: false, initial: 75 },
  quickAck: { level: IPPROTO_TCP, name: 12, of: TCP_ONLY, flag: true, initial: 1 },
  timeToLive: { level: IPPROTO_IP, name: 2, of: BOTH, flag: false, initial: 64 },
  multicastTimeToLive: { level: IPPROTO_IP, name: 33, of: UDP_ONLY, flag: false, initial: 1 },
  multicastLoop: { level: IPPROTO_IP, name: 34, of: UDP_ONLY, flag: true, initial: 1 },
} as const satisfies Record<string, IntOption>;

export type IntOptionName = keyof typeof INT_OPTIONS;

export const INT_OPTION_NAMES = Object.keys(INT_OPTIONS) as readonly IntOptionName[];

/** SO_LINGER. */
export interface Linger {
  readonly on: boolean;
  readonly seconds: number;
}

export const NO_LINGER: Linger = { on: false, seconds: 0 };

/** What the guest has set on one socket. */
export interface GuestOptions {
  /** Only those that were set. */
  readonly ints: Map<IntOptionName, number>;
  /** For each close: `on` with 0 seconds resets the connection. Other values change nothing: see `linger.ts`. */
  linger: Linger;
  /** Microseconds; 0 is for ever. */
  receiveTimeoutUs: number;
  sendTimeoutUs: number;
}

export function defaultOptions(): GuestOptions {
  return { ints: new Map(), linger: NO_LINGER, receiveTimeoutUs: 0, sendTimeoutUs: 0 };
}

/** An accepted socket begins with what its listener had, as in the kernel. */
export function inheritedOptions(listener: GuestOptions): GuestOptions {
  return { ...listener, ints: new Map(listener.ints) };
}

function lookUp(name: IntOptionName): IntOption {
  return INT_OPTIONS[name];
}

/**
 * Sets an option for the guest and on its kernel socket, if there is one. Returns 0 or a negative WASI errno: ENOPROTOOPT
 * when this transport does not have it, else the kernel's (EINVAL for a value out of range).
 */
export function setIntOption(
  native: Native,
  transport: Transport,
  fd: SocketFd | undefined,
  options: GuestOptions,
  name: IntOptionName,
  value: number,
): number {
  const option = lookUp(name);
  if (!option.of.includes(transport)) return -WASI.ENOPROTOOPT;
  const wanted = option.flag ? Number(value !== 0) : Math.min(value >>> 0, 0x7fff_ffff);
  const error = applyOption(native, transport, fd, name, wanted);
  if (error === 0) options.ints.set(name, wanted);
  return error;
}

/** The value of an option, or a negative WASI errno. */
export function getIntOption(
  native: Native,
  transport: Transport,
  fd: SocketFd | undefined,
  options: GuestOptions,
  name: IntOptionName,
): number {
  const option = lookUp(name);
  if (!option.of.includes(transport)) return -WASI.ENOPROTOOPT;
  const own = options.ints.get(name) ?? option.initial;
  if (option.own === true || fd === undefined) return own;
  const value = native.sockGetInt(fd, option.level, option.name);
  return value < 0 ? -wasiErrno(value) : value;
}

function applyOption(
  native: Native,
  transport: Transport,
  fd: SocketFd | undefined,
  name: IntOptionName,
  value: number,
): number {
  const option = lookUp(name);
  if (fd === undefined || option.withheld?.includes(transport) === true) return 0;
  const result = native.sockSetInt(fd, option.level, option.name, value);
  return result < 0 ? -wasiErrno(result) : 0;
}

/** Sets on a fresh kernel socket what the guest had set. What this kernel refuses is left at the kernel's own value. */
export function applyOptions(native: Native, transport: Transport, fd: SocketFd, options: GuestOptions): void {
  for (const [name, value] of options.ints) applyOption(native, transport, fd, name, value);
}

/** SO_REUSEADDR on the kernel's socket, whatever the guest wants. */
export function setKernelReuse(native: Native, fd: SocketFd): void {
  native.sockSetInt(fd, SOL_SOCKET, INT_OPTIONS.reuseAddr.name, 1);
}
