/**
 * Error numbers as socket operations give them. Inside this room a result is a number: not negative for success, and a
 * negative WASI errno for a failure, so that nothing is allocated on the way of a byte.
 */
import { ERRNO, type ErrnoName } from '../native.ts';

/** Error numbers of WASI preview1 (`__WASI_ERRNO_*`) that a socket call can give. */
export const WASI = {
  SUCCESS: 0,
  E2BIG: 1,
  EACCES: 2,
  EADDRINUSE: 3,
  EADDRNOTAVAIL: 4,
  EAFNOSUPPORT: 5,
  EAGAIN: 6,
  EALREADY: 7,
  EBADF: 8,
  EBUSY: 10,
  ECONNABORTED: 13,
  ECONNREFUSED: 14,
  ECONNRESET: 15,
  EDESTADDRREQ: 17,
  EEXIST: 20,
  EFAULT: 21,
  EHOSTUNREACH: 23,
  EINPROGRESS: 26,
  EINTR: 27,
  EINVAL: 28,
  EIO: 29,
  EISCONN: 30,
  EMFILE: 33,
  EMSGSIZE: 35,
  ENETDOWN: 38,
  ENETRESET: 39,
  ENETUNREACH: 40,
  ENFILE: 41,
  ENOBUFS: 42,
  ENODEV: 43,
  ENOENT: 44,
  ENOMEM: 48,
  ENOPROTOOPT: 50,
  ENOSYS: 52,
  ENOTCONN: 53,
  ENOTSOCK: 57,
  ENOTSUP: 58,
  EPERM: 63,
  EPIPE: 64,
  EPROTO: 65,
  EPROTONOSUPPORT: 66,
  EPROTOTYPE: 67,
  ERANGE: 68,
  ESTALE: 72,
  ETIMEDOUT: 73,
} as const;

/** A WASI errno, positive as the guest sees it. */
export type WasiErrno = (typeof WASI)[keyof typeof WASI];

/**
 * Result of a call that the wake descriptor cut short. Nothing was consumed: the call is to be issued again, in this
 * process or after a restore, with what was left of its time. Distinct from every error number.
 */
export const INTERRUPTED = -0x1_0000;

/** Linux names that WASI has no number for, and the number that says the same. */
const ALIASES: Partial<Record<ErrnoName, WasiErrno>> = {
  EOPNOTSUPP: WASI.ENOTSUP,
  EPFNOSUPPORT: WASI.EAFNOSUPPORT,
  ESOCKTNOSUPPORT: WASI.EPROTONOSUPPORT,
  EHOSTDOWN: WASI.EHOSTUNREACH,
  ESHUTDOWN: WASI.EPIPE,
  ENONET: WASI.ENETUNREACH,
  ENOTTY: WASI.ENOTSUP,
  ECOMM: WASI.EIO,
  ENOSR: WASI.ENOBUFS,
  EUSERS: WASI.ENOBUFS,
};

const FROM_LINUX: ReadonlyMap<number, WasiErrno> = new Map(
  Object.entries(ERRNO).map(([name, linux]) => [linux, wasiOfName(name)]),
);

function wasiOfName(name: string): WasiErrno {
  const same: Partial<Record<string, WasiErrno>> = WASI;
  const alias: Partial<Record<string, WasiErrno>> = ALIASES;
  return same[name] ?? alias[name] ?? WASI.EIO;
}

/** The WASI errno (positive) for a Linux errno of either sign; EIO for one that sockets do not give. */
export function wasiErrno(linux: number): WasiErrno {
  return FROM_LINUX.get(Math.abs(linux)) ?? WASI.EIO;
}

/** A result of the addon as a result of this room: amounts stay, EINTR (only a wake gives it) becomes INTERRUPTED. */
export function resultOf(native: number): number {
  if (native >= 0) return native;
  return native === -ERRNO.EINTR ? INTERRUPTED : -wasiErrno(native);
}
