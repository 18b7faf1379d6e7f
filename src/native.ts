/**
 * The native addon with types that keep apart what are all small numbers: descriptors of devices, sockets and wake
 * signals, and failures. Except for the errors of `tunOpen`, nothing runs between a caller and the addon.
 */
import * as addon from '../native/index.js';
import { isErrorCode, KedgeError } from './errors.ts';

declare const brand: unique symbol;
type Branded<Name extends string> = number & { readonly [brand]: Name };

/** An open TUN device. */
export type TunFd = Branded<'tun'>;
/** An open TCP or UDP socket. */
export type SocketFd = Branded<'socket'>;
/** An eventfd that interrupts calls; see `wakeSignal`. */
export type WakeFd = Branded<'wake'>;
/** A failed call: `-errno`, a negative number. */
export type Failure = Branded<'failure'>;

/** For calls that nothing interrupts. */
export const NO_WAKE = -1 as WakeFd;

/** True when a call gave `-errno` instead of its result. */
export function failed<Result extends number>(result: Result | Failure): result is Failure {
  return result < 0;
}

/** Events of {@link Native.pollMany}; the last three are only reported, never asked for. */
export const POLL = { IN: 1, OUT: 4, ERR: 8, HUP: 16, NVAL: 32 } as const;

/** States of {@link Native.sockTcpState}, as the kernel numbers them. */
export const TCP_STATE = {
  ESTABLISHED: 1,
  SYN_SENT: 2,
  SYN_RECV: 3,
  FIN_WAIT1: 4,
  FIN_WAIT2: 5,
  TIME_WAIT: 6,
  CLOSE: 7,
  CLOSE_WAIT: 8,
  LAST_ACK: 9,
  LISTEN: 10,
  CLOSING: 11,
} as const;

/** Bytes before each packet of a TUN device: a little-endian `virtio_net_hdr`. */
export const VIRTIO_HEADER_LENGTH = 10;

/** Smallest slot of `readBatch` in which no packet is cut: header and the longest IPv4 packet. */
export const WHOLE_PACKET_SLOT = VIRTIO_HEADER_LENGTH + 65_535;

/**
 * What `native/index.d.ts` describes, in branded types. A plain `number` as a result is 0, a count or an amount
 * when not negative, and `-errno` when negative ({@link failed}, {@link errnoName}).
 */
export interface Native extends Omit<typeof addon, keyof Typed>, Typed {}

/** The functions whose types are narrower here than in the addon. */
interface Typed {
  tunOpen(name: string): TunFd;
  fdClose(fd: TunFd | SocketFd | WakeFd): number;

  wakeCreate(): WakeFd | Failure;
  wakeSignal(fd: WakeFd): number;
  wakeClear(fd: WakeFd): number;

  sockOpen(stream: boolean): SocketFd | Failure;
  sockBind(fd: SocketFd, addr: number, port: number): number;
  sockListen(fd: SocketFd, backlog: number): number;
  sockConnectStart(fd: SocketFd, addr: number, port: number): number;
  sockConnectWait(fd: SocketFd, wakeFd: WakeFd, timeoutMs: number): number;
  sockAccept(fd: SocketFd, wakeFd: WakeFd, timeoutMs: number, peer: Uint32Array): SocketFd | Failure;
  sockSend(fd: SocketFd, data: Uint8Array, offset: number, length: number, wakeFd: WakeFd, timeoutMs: number): number;
  sockRecv(
    fd: SocketFd,
    data: Uint8Array,
    offset: number,
    length: number,
    peek: boolean,
    wakeFd: WakeFd,
    timeoutMs: number,
  ): number;
  sockSendTo(
    fd: SocketFd,
    data: Uint8Array,
    offset: number,
    length: number,
    addr: number,
    port: number,
    wakeFd: WakeFd,
    timeoutMs: number,
  ): number;
  sockRecvFrom(
    fd: SocketFd,
    data: Uint8Array,
    offset: number,
    length: number,
    peek: boolean,
    wakeFd: WakeFd,
    timeoutMs: number,
    from: Uint32Array,
  ): number;
  sockShutdown(fd: SocketFd, how: 0 | 1 | 2): number;
  sockSetInt(fd: SocketFd, level: number, name: number, value: number): number;
  sockGetInt(fd: SocketFd, level: number, name: number): number;
  sockSetLinger(fd: SocketFd, on: boolean, seconds: number): number;
  sockLocal(fd: SocketFd, out: Uint32Array): number;
  sockRemote(fd: SocketFd, out: Uint32Array): number;
  sockOutQueue(fd: SocketFd): number;
  sockInQueue(fd: SocketFd): number;
  sockTcpState(fd: SocketFd): number;
  sockError(fd: SocketFd): number;
}

/**
 * As `native/index.d.ts` says, but the error is a KedgeError.
 * @throws KedgeError KEDGE_TUN_MISSING, KEDGE_TUN_PERMISSION, KEDGE_TUN_BUSY, KEDGE_TUN_FAILED, each with a hint.
 */
function tunOpen(name: string): TunFd {
  try {
    return addon.tunOpen(name) as TunFd;
  } catch (cause) {
    if (!(cause instanceof Error && 'code' in cause && 'hint' in cause)) throw cause;
    const code = String(cause.code);
    if (!isErrorCode(code)) throw cause;
    throw new KedgeError(code, cause.message, { hint: String(cause.hint), cause });
  }
}

/** The addon. Importing this module fails with code KEDGE_NATIVE_MISSING when it was not built. */
export const native: Native = { ...(addon as unknown as Omit<Native, 'tunOpen'>), tunOpen };

/** Linux error numbers by name (asm-generic: the same on x64 and arm64). */
export const ERRNO = {
  EPERM: 1,
  ENOENT: 2,
  ESRCH: 3,
  EINTR: 4,
  EIO: 5,
  ENXIO: 6,
  E2BIG: 7,
  ENOEXEC: 8,
  EBADF: 9,
  ECHILD: 10,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCES: 13,
  EFAULT: 14,
  ENOTBLK: 15,
  EBUSY: 16,
  EEXIST: 17,
  EXDEV: 18,
  ENODEV: 19,
  ENOTDIR: 20,
  EISDIR: 21,
  EINVAL: 22,
  ENFILE: 23,
  EMFILE: 24,
  ENOTTY: 25,
  ETXTBSY: 26,
  EFBIG: 27,
  ENOSPC: 28,
  ESPIPE: 29,
  EROFS: 30,
  EMLINK: 31,
  EPIPE: 32,
  EDOM: 33,
  ERANGE: 34,
  EDEADLK: 35,
  ENAMETOOLONG: 36,
  ENOLCK: 37,
  ENOSYS: 38,
  ENOTEMPTY: 39,
  ELOOP: 40,
  ENOMSG: 42,
  EIDRM: 43,
  ECHRNG: 44,
  EL2NSYNC: 45,
  EL3HLT: 46,
  EL3RST: 47,
  ELNRNG: 48,
  EUNATCH: 49,
  ENOCSI: 50,
  EL2HLT: 51,
  EBADE: 52,
  EBADR: 53,
  EXFULL: 54,
  ENOANO: 55,
  EBADRQC: 56,
  EBADSLT: 57,
  EBFONT: 59,
  ENOSTR: 60,
  ENODATA: 61,
  ETIME: 62,
  ENOSR: 63,
  ENONET: 64,
  ENOPKG: 65,
  EREMOTE: 66,
  ENOLINK: 67,
  EADV: 68,
  ESRMNT: 69,
  ECOMM: 70,
  EPROTO: 71,
  EMULTIHOP: 72,
  EDOTDOT: 73,
  EBADMSG: 74,
  EOVERFLOW: 75,
  ENOTUNIQ: 76,
  EBADFD: 77,
  EREMCHG: 78,
  ELIBACC: 79,
  ELIBBAD: 80,
  ELIBSCN: 81,
  ELIBMAX: 82,
  ELIBEXEC: 83,
  EILSEQ: 84,
  ERESTART: 85,
  ESTRPIPE: 86,
  EUSERS: 87,
  ENOTSOCK: 88,
  EDESTADDRREQ: 89,
  EMSGSIZE: 90,
  EPROTOTYPE: 91,
  ENOPROTOOPT: 92,
  EPROTONOSUPPORT: 93,
  ESOCKTNOSUPPORT: 94,
  EOPNOTSUPP: 95,
  EPFNOSUPPORT: 96,
  EAFNOSUPPORT: 97,
  EADDRINUSE: 98,
  EADDRNOTAVAIL: 99,
  ENETDOWN: 100,
  ENETUNREACH: 101,
  ENETRESET: 102,
  ECONNABORTED: 103,
  ECONNRESET: 104,
  ENOBUFS: 105,
  EISCONN: 106,
  ENOTCONN: 107,
  ESHUTDOWN: 108,
  ETOOMANYREFS: 109,
  ETIMEDOUT: 110,
  ECONNREFUSED: 111,
  EHOSTDOWN: 112,
  EHOSTUNREACH: 113,
  EALREADY: 114,
  EINPROGRESS: 115,
  ESTALE: 116,
  EUCLEAN: 117,
  ENOTNAM: 118,
  ENAVAIL: 119,
  EISNAM: 120,
  EREMOTEIO: 121,
  EDQUOT: 122,
  ENOMEDIUM: 123,
  EMEDIUMTYPE: 124,
  ECANCELED: 125,
  ENOKEY: 126,
  EKEYEXPIRED: 127,
  EKEYREVOKED: 128,
  EKEYREJECTED: 129,
  EOWNERDEAD: 130,
  ENOTRECOVERABLE: 131,
  ERFKILL: 132,
  EHWPOISON: 133,
} as const;

/** The name of a Linux error number. */
export type ErrnoName = keyof typeof ERRNO;

const NAMES: ReadonlyMap<number, string> = new Map(Object.entries(ERRNO).map(([name, number]) => [number, name]));

/** The name of an error number or of a negative result (`errnoName(-11)` is `EAGAIN`); `errno <n>` when there is none. */
export function errnoName(result: number): string {
  const number = Math.abs(result);
  return NAMES.get(number) ?? `errno ${number}`;
}
