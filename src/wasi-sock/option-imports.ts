/** The `sock_get_*` and `sock_set_*` functions of WAMR's socket extension. */
import type { HostCallContext, HostFunction } from '../engine/engine.ts';
import { WASI } from './errno.ts';
import type { SocketHandle } from './handle.ts';
import { socketFunction } from './host-function.ts';
import type { IntOptionName } from './options.ts';
import type { SocketTable } from './table.ts';

type Functions = Record<string, HostFunction>;

/** Options of one value: name in `sock_get_…`, our name, and bytes of the value in the guest's memory. */
const SIMPLE: readonly (readonly [string, IntOptionName, 1 | 4])[] = [
  ['broadcast', 'broadcast', 1],
  ['keep_alive', 'keepAlive', 1],
  ['reuse_addr', 'reuseAddr', 1],
  ['reuse_port', 'reusePort', 1],
  ['tcp_no_delay', 'noDelay', 1],
  ['tcp_quick_ack', 'quickAck', 1],
  ['ip_ttl', 'timeToLive', 1],
  ['ip_multicast_ttl', 'multicastTimeToLive', 1],
  ['recv_buf_size', 'receiveBuffer', 4],
  ['send_buf_size', 'sendBuffer', 4],
  ['tcp_keep_idle', 'keepIdle', 4],
  ['tcp_keep_intvl', 'keepInterval', 4],
];

/** Longest timeout that is kept exactly, µs; a longer one is as good as this. */
const LONGEST_TIMEOUT = BigInt(Number.MAX_SAFE_INTEGER);

export function optionFunctions(
  context: HostCallContext,
  table: SocketTable,
  socket: (fd: number) => SocketHandle,
): Functions {
  const functions: Functions = {
    ...timeoutFunctions(context, socket),
    ...multicastFunctions(context, table, socket),
    ...absentFunctions(context, socket),
    sock_get_linger: socketFunction<[number, number, number]>(context, '(i**)i', (memory, fd, on, seconds) => {
      const { linger } = socket(fd).options;
      memory.setU8(on, Number(linger.on));
      memory.setU32(seconds, linger.seconds);
      return 0;
    }),
    sock_set_linger: socketFunction<[number, number, number]>(context, '(iii)i', (_memory, fd, on, seconds) => {
      if (seconds < 0) return -WASI.EINVAL;
      table.setLinger(socket(fd), { on: on !== 0, seconds });
      return 0;
    }),
  };
  for (const [suffix, option, size] of SIMPLE) {
    functions[`sock_get_${suffix}`] = socketFunction<[number, number]>(context, '(i*)i', (memory, fd, out) => {
      const value = table.getOption(socket(fd), option);
      if (value < 0) return value;
      if (size === 1) memory.setU8(out, value);
      else memory.setU32(out, value);
      return 0;
    });
    functions[`sock_set_${suffix}`] = socketFunction<[number, number]>(context, '(ii)i', (_memory, fd, value) =>
      table.setOption(socket(fd), option, size === 1 ? value & 0xff : value),
    );
  }
  return functions;
}

function timeoutFunctions(context: HostCallContext, socket: (fd: number) => SocketHandle): Functions {
  const both = (name: 'receiveTimeoutUs' | 'sendTimeoutUs'): readonly [HostFunction, HostFunction] => [
    socketFunction<[number, number]>(context, '(i*)i', (memory, fd, out) => {
      memory.setU64(out, socket(fd).options[name]);
      return 0;
    }),
    socketFunction<[number, bigint]>(context, '(iI)i', (_memory, fd, microseconds) => {
      const wanted = BigInt.asUintN(64, microseconds);
      socket(fd).options[name] = Number(wanted < LONGEST_TIMEOUT ? wanted : LONGEST_TIMEOUT);
      return 0;
    }),
  ];
  const [getReceive, setReceive] = both('receiveTimeoutUs');
  const [getSend, setSend] = both('sendTimeoutUs');
  return {
    sock_get_recv_timeout: getReceive,
    sock_set_recv_timeout: setReceive,
    sock_get_send_timeout: getSend,
    sock_set_send_timeout: setSend,
  };
}

/**
 * Sending to a group works, with its TTL and loop. Joining one does not: a guest's socket is bound to its own address, to which
 * no group's packets are delivered, and a membership would be a property of one host's network.
 */
function multicastFunctions(
  context: HostCallContext,
  table: SocketTable,
  socket: (fd: number) => SocketHandle,
): Functions {
  const membership = socketFunction<[number, number, number]>(context, '(i*i)i', (memory, fd, group) => {
    socket(fd);
    memory.checkIp(group);
    return -WASI.ENOTSUP;
  });
  return {
    sock_get_ip_multicast_loop: socketFunction<[number, number, number]>(context, '(ii*)i', (memory, fd, v6, out) => {
      const handle = socket(fd);
      if (v6 !== 0) return -WASI.EAFNOSUPPORT;
      const value = table.getOption(handle, 'multicastLoop');
      if (value >= 0) memory.setU8(out, value);
      return value;
    }),
    sock_set_ip_multicast_loop: socketFunction<[number, number, number]>(context, '(iii)i', (_memory, fd, v6, on) => {
      const handle = socket(fd);
      return v6 !== 0 ? -WASI.EAFNOSUPPORT : table.setOption(handle, 'multicastLoop', on);
    }),
    sock_set_ip_add_membership: membership,
    sock_set_ip_drop_membership: membership,
  };
}

/** Options that no socket here has: each is off, and can only be set off. */
function absentFunctions(context: HostCallContext, socket: (fd: number) => SocketHandle): Functions {
  const functions: Functions = {};
  // Fast Open would put data into a SYN that a gateway may have to answer itself (S9); IPv6 is not there yet.
  const absent = [
    ['tcp_fastopen_connect', WASI.ENOTSUP],
    ['ipv6_only', WASI.EAFNOSUPPORT],
  ] as const;
  for (const [suffix, errno] of absent) {
    functions[`sock_get_${suffix}`] = socketFunction<[number, number]>(context, '(i*)i', (memory, fd, out) => {
      socket(fd);
      memory.setU8(out, 0);
      return 0;
    });
    functions[`sock_set_${suffix}`] = socketFunction<[number, number]>(context, '(ii)i', (_memory, fd, on) => {
      socket(fd);
      return on === 0 ? 0 : -errno;
    });
  }
  return functions;
}
