/**
 * The `sock_*` functions of preview1 and of WAMR's socket extension, over the guest's table of sockets.
 *
 * A call that the wake descriptor interrupts leaves the milliseconds it had left in the call's context and suspends; issued
 * again, here or after a restore, it waits for no longer than that.
 *
 * Where we differ from WAMR: `sock_recv` honours its flags and writes `ro_flags`, `sock_shutdown` honours its direction,
 * `sock_accept` its NONBLOCK flag, and sizes are written as the 4 bytes the header declares. IPv6 is EAFNOSUPPORT.
 */
import type { HostCallContext, HostFunction } from '../engine/engine.ts';
import { ADDRESS_INFO_SIZE, FAMILY, FD_NONBLOCK, RECEIVED_TRUNCATED, SOCKET_TYPE, SocketFault } from './abi.ts';
import type { AbiMemory } from './abi.ts';
import { socketAddress } from './address.ts';
import type { SocketAddress } from './address.ts';
import { WASI } from './errno.ts';
import type { SocketHandle } from './handle.ts';
import { issue, socketFunction } from './host-function.ts';
import { optionFunctions } from './option-imports.ts';
import { resolve } from './resolve.ts';
import type { HostsTable } from './resolve.ts';
import type { SocketTable } from './table.ts';
import type { DatagramInfo } from './udp.ts';

/** What the guest's descriptor table lets these functions do with it. */
export interface SocketDescriptors {
  /** Undefined when the number is not open, or is no socket. */
  get(fd: number): SocketHandle | undefined;
  /** True when the number is open, whatever it is: tells ENOTSOCK from EBADF. */
  has(fd: number): boolean;
  /** 0 while there is a number for one more descriptor, else a negative WASI errno. */
  room(): number;
  /** The number of a new socket, which is not blocking when its handle says so, or a negative WASI errno. */
  insert(handle: SocketHandle): number;
}

/** All 52 `sock_*` functions. `hosts`: names that `sock_addr_resolve` knows. */
export function socketFunctions(
  context: HostCallContext,
  table: SocketTable,
  descriptors: SocketDescriptors,
  hosts: HostsTable = new Map(),
): Readonly<Record<string, HostFunction>> {
  const socket = (fd: number): SocketHandle => {
    const handle = descriptors.get(fd);
    if (handle !== undefined) return handle;
    throw new SocketFault(descriptors.has(fd) ? WASI.ENOTSOCK : WASI.EBADF);
  };
  const scope: Scope = { context, table, descriptors, hosts, socket };
  return {
    ...connectionFunctions(scope),
    ...nameFunctions(scope),
    ...transferFunctions(scope),
    ...optionFunctions(context, table, socket),
  };
}

interface Scope {
  readonly context: HostCallContext;
  readonly table: SocketTable;
  readonly descriptors: SocketDescriptors;
  readonly hosts: HostsTable;
  /** Throws EBADF or ENOTSOCK. */
  readonly socket: (fd: number) => SocketHandle;
}

type Functions = Readonly<Record<string, HostFunction>>;

function connectionFunctions(scope: Scope): Functions {
  const { context, table, descriptors, socket } = scope;
  return {
    sock_open: socketFunction<[number, number, number, number]>(
      context,
      '(iii*)i',
      (memory, _pool, family, type, out) => {
        memory.setU32(out, 0);
        if (family !== FAMILY.INET4 && family !== FAMILY.UNSPECIFIED) return -WASI.EAFNOSUPPORT;
        if (type !== SOCKET_TYPE.STREAM && type !== SOCKET_TYPE.DATAGRAM) return -WASI.EPROTONOSUPPORT;
        return insert(scope, memory, table.open(type === SOCKET_TYPE.STREAM ? 'tcp' : 'udp'), out);
      },
    ),
    sock_bind: socketFunction<[number, number]>(context, '(i*)i', (memory, fd, address) =>
      table.bind(socket(fd), memory.address(address)),
    ),
    sock_listen: socketFunction<[number, number]>(context, '(ii)i', (_memory, fd, backlog) =>
      table.listen(socket(fd), backlog),
    ),
    sock_accept: socketFunction<[number, number, number]>(context, '(ii*)i', (memory, fd, flags, out) => {
      memory.setU32(out, 0);
      const listener = socket(fd);
      // Before it is taken from the queue: it could not be put back there.
      const room = descriptors.room();
      if (room < 0) return room;
      let accepted: SocketHandle | number = -WASI.EAGAIN;
      const result = issue(context, table, listener, 'receive', (ms) => {
        accepted = table.accept(listener, ms);
        return typeof accepted === 'number' ? accepted : 0;
      });
      if (typeof accepted === 'number') return result;
      table.setNonBlocking(accepted, (flags & FD_NONBLOCK) !== 0);
      return insert(scope, memory, accepted, out);
    }),
    sock_connect: socketFunction<[number, number]>(context, '(i*)i', (memory, fd, address) => {
      const handle = socket(fd);
      const remote = memory.address(address);
      return issue(context, table, handle, 'send', (ms) => table.connect(handle, remote, ms));
    }),
    sock_shutdown: socketFunction<[number, number]>(context, '(ii)i', (_memory, fd, how) =>
      table.shutdown(socket(fd), how),
    ),
    // As in WAMR: a socket is closed by fd_close.
    sock_close: socketFunction<[number]>(context, '(i)i', () => -WASI.ENOSYS),
  };
}

/** Gives a new handle a descriptor and writes its number. */
function insert({ descriptors, table }: Scope, memory: AbiMemory, handle: SocketHandle | number, out: number): number {
  if (typeof handle === 'number') return handle;
  const fd = descriptors.insert(handle);
  if (fd < 0) table.close(handle);
  else memory.setU32(out, fd);
  return fd;
}

function nameFunctions({ context, table, hosts, socket }: Scope): Functions {
  return {
    sock_addr_local: socketFunction<[number, number]>(context, '(i*)i', (memory, fd, out) => {
      memory.setAddress(out, table.localName(socket(fd)));
      return 0;
    }),
    sock_addr_remote: socketFunction<[number, number]>(context, '(i*)i', (memory, fd, out) => {
      const remote = table.remoteName(socket(fd));
      if (typeof remote === 'number') return remote;
      memory.setAddress(out, remote);
      return 0;
    }),
    sock_addr_resolve: socketFunction<[number, number, number, number, number, number]>(
      context,
      '($$**i*)i',
      (memory, host, service, hints, out, room, count) => {
        memory.setU32(count, 0);
        const wanted = memory.hints(hints);
        const found = resolve(hosts, table.guestAddress, memory.text(host), memory.text(service), wanted);
        if (typeof found === 'number') return found;
        found.slice(0, room >>> 0).forEach(({ address, type }, i) => {
          memory.setAddressInfo((out >>> 0) + i * ADDRESS_INFO_SIZE, address, type);
        });
        memory.setU32(count, found.length);
        return 0;
      },
    ),
  };
}

function transferFunctions({ context, table, socket }: Scope): Functions {
  const receive = (handle: SocketHandle, buffers: readonly Uint8Array[], flags: number, info: DatagramInfo): number =>
    issue(context, table, handle, 'receive', (ms) => table.receive(handle, buffers, flags, ms, info));
  const send = (
    memory: AbiMemory,
    handle: SocketHandle,
    buffers: readonly Uint8Array[],
    flags: number,
    to: SocketAddress | undefined,
    outLength: number,
  ): number => {
    if (flags !== 0) return -WASI.ENOTSUP;
    const result = issue(context, table, handle, 'send', (ms) => table.send(handle, buffers, to, ms));
    if (result >= 0) memory.setU32(outLength, result);
    return result;
  };
  return {
    sock_recv: socketFunction<[number, number, number, number, number, number]>(
      context,
      '(i*ii**)i',
      (memory, fd, data, count, flags, outLength, outFlags) => {
        memory.setU32(outLength, 0);
        memory.setU16(outFlags, 0);
        const info = { from: NOWHERE, truncated: false };
        const result = receive(socket(fd), memory.buffers(data, count), flags, info);
        if (result < 0) return result;
        memory.setU32(outLength, result);
        memory.setU16(outFlags, info.truncated ? RECEIVED_TRUNCATED : 0);
        return 0;
      },
    ),
    sock_recv_from: socketFunction<[number, number, number, number, number, number]>(
      context,
      '(i*ii**)i',
      (memory, fd, data, count, flags, outAddress, outLength) => {
        memory.setU32(outLength, 0);
        const handle = socket(fd);
        const remote = table.remoteName(handle);
        const info = { from: typeof remote === 'number' ? NOWHERE : remote, truncated: false };
        memory.setAddress(outAddress, info.from);
        const result = receive(handle, memory.buffers(data, count), flags, info);
        if (result < 0) return result;
        memory.setAddress(outAddress, info.from);
        memory.setU32(outLength, result);
        return 0;
      },
    ),
    sock_send: socketFunction<[number, number, number, number, number]>(
      context,
      '(i*ii*)i',
      (memory, fd, data, count, flags, outLength) => {
        memory.setU32(outLength, 0);
        return send(memory, socket(fd), memory.buffers(data, count), flags, undefined, outLength);
      },
    ),
    sock_send_to: socketFunction<[number, number, number, number, number, number]>(
      context,
      '(i*ii**)i',
      (memory, fd, data, count, flags, address, outLength) => {
        memory.setU32(outLength, 0);
        const handle = socket(fd);
        return send(memory, handle, memory.buffers(data, count), flags, memory.address(address), outLength);
      },
    ),
  };
}

const NOWHERE = socketAddress(0, 0);
