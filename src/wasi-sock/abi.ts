/**
 * The layouts of WAMR's socket extension in the guest's memory (`wasi_socket_ext.h`): little-endian, whatever the host is. Ports
 * are in host order there too. Every access is checked: a pointer outside the memory gives the guest EFAULT.
 */
import type { MemoryWatch } from '../engine/engine.ts';
import { socketAddress } from './address.ts';
import type { SocketAddress } from './address.ts';
import { WASI } from './errno.ts';
import type { WasiErrno } from './errno.ts';
import { MOST_IOVECS, withinOneCall } from './iovecs.ts';

/** `__wasi_addr_type_t`: the first word of an address. */
export const ADDRESS_KIND = { IPV4: 0, IPV6: 1 } as const;
/** `__wasi_address_family_t` */
export const FAMILY = { INET4: 0, INET6: 1, UNSPECIFIED: 2 } as const;
/** `__wasi_sock_type_t` */
export const SOCKET_TYPE = { ANY: -1, DATAGRAM: 0, STREAM: 1 } as const;
/** `ro_flags` of `sock_recv`. */
export const RECEIVED_TRUNCATED = 1;
/** The one flag of `sock_accept`: descriptor flag NONBLOCK. */
export const FD_NONBLOCK = 4;

/** Sizes in bytes: `__wasi_addr_t`, `__wasi_addr_ip_t`, `__wasi_addr_info_t`. */
export const ADDRESS_SIZE = 24;
export const ADDRESS_INFO_SIZE = 28;

/** NI_MAXHOST: a host's name with its NUL. */
const LONGEST_NAME = 1025;

const IP_AT = 4;
const PORT_AT = 8;
const INFO_TYPE_AT = 24;
const HINT_FAMILY_AT = 4;
const HINTS_ENABLED_AT = 8;

/** Ends a host function with an error number. */
export class SocketFault extends Error {
  readonly errno: WasiErrno;

  constructor(errno: WasiErrno) {
    super(`WASI errno ${errno}`);
    this.name = 'SocketFault';
    this.errno = errno;
  }
}

/** `__wasi_addr_info_hints_t` */
export interface ResolveHints {
  readonly type: number;
  readonly family: number;
}

/** The guest's memory during one host call. Pointers may be signed, as they arrive. Throws SocketFault. */
export class AbiMemory {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #watch: MemoryWatch | undefined;

  constructor(bytes: Uint8Array, watch?: MemoryWatch) {
    this.#bytes = bytes;
    this.#watch = watch;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  #at(pointer: number, length: number): number {
    const at = pointer >>> 0;
    if (at + length > this.#bytes.length) throw new SocketFault(WASI.EFAULT);
    this.#watch?.touch(at, length);
    return at;
  }

  u32(pointer: number): number {
    return this.#view.getUint32(this.#at(pointer, 4), true);
  }

  setU8(pointer: number, value: number): void {
    this.#view.setUint8(this.#at(pointer, 1), value);
  }

  setU16(pointer: number, value: number): void {
    this.#view.setUint16(this.#at(pointer, 2), value, true);
  }

  setU32(pointer: number, value: number): void {
    this.#view.setUint32(this.#at(pointer, 4), value, true);
  }

  setU64(pointer: number, value: number): void {
    this.#view.setBigUint64(this.#at(pointer, 8), BigInt(value), true);
  }

  /** The buffers of an iovec array, as live views, cut to what one call may move. EINVAL when there are too many. */
  buffers(pointer: number, count: number): readonly Uint8Array[] {
    const entries = count >>> 0;
    if (entries > MOST_IOVECS) throw new SocketFault(WASI.EINVAL);
    const first = this.#at(pointer, entries * 8);
    return withinOneCall(entries, this.#bytes.length, (i) => {
      const length = this.u32(first + 8 * i + 4);
      const at = this.#at(this.u32(first + 8 * i), length);
      return this.#bytes.subarray(at, at + length);
    });
  }

  /** A name up to a NUL. EFAULT when the memory has none; ENOENT when it is longer than any name, and so of nobody. */
  text(pointer: number): string {
    const at = this.#at(pointer, 1);
    const beginning = this.#bytes.subarray(at, at + LONGEST_NAME);
    const length = beginning.indexOf(0);
    if (length < 0) throw new SocketFault(beginning.length < LONGEST_NAME ? WASI.EFAULT : WASI.ENOENT);
    this.#watch?.touch(at, length);
    return Buffer.from(beginning.subarray(0, length)).toString('utf8');
  }

  /** `__wasi_addr_t`; EAFNOSUPPORT for IPv6. */
  address(pointer: number): SocketAddress {
    const at = this.#at(pointer, ADDRESS_SIZE);
    this.#requireIpv4(at);
    return socketAddress(this.#view.getUint32(at + IP_AT), this.#view.getUint16(at + PORT_AT, true));
  }

  #requireIpv4(at: number): void {
    const kind = this.u32(at);
    if (kind === ADDRESS_KIND.IPV6) throw new SocketFault(WASI.EAFNOSUPPORT);
    if (kind !== ADDRESS_KIND.IPV4) throw new SocketFault(WASI.EINVAL);
  }

  /** Writes `__wasi_addr_t`, all 24 bytes. */
  setAddress(pointer: number, { address, port }: SocketAddress): void {
    const at = this.#at(pointer, ADDRESS_SIZE);
    this.#bytes.fill(0, at, at + ADDRESS_SIZE);
    this.#view.setUint32(at + IP_AT, address);
    this.#view.setUint16(at + PORT_AT, port, true);
  }

  /** Writes `__wasi_addr_info_t`. */
  setAddressInfo(pointer: number, address: SocketAddress, type: number): void {
    const at = this.#at(pointer, ADDRESS_INFO_SIZE);
    this.setAddress(at, address);
    this.#view.setInt32(at + INFO_TYPE_AT, type, true);
  }

  /** `__wasi_addr_info_hints_t`; undefined when it is not enabled, or there is none. */
  hints(pointer: number): ResolveHints | undefined {
    if (pointer === 0) return undefined;
    const at = this.#at(pointer, 12);
    if (this.#view.getUint8(at + HINTS_ENABLED_AT) === 0) return undefined;
    return { type: this.#view.getInt32(at, true), family: this.#view.getInt32(at + HINT_FAMILY_AT, true) };
  }

  /** Checks a `__wasi_addr_ip_t`; EAFNOSUPPORT for IPv6. */
  checkIp(pointer: number): void {
    this.#requireIpv4(this.#at(pointer, 20));
  }
}
