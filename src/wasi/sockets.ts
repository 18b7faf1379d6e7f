/** What `fd_*` functions do on descriptors that are sockets. */
import type { HostCallContext } from '../engine/engine.ts';
import { INTERRUPTED } from '../wasi-sock/errno.ts';
import type { SocketHandle } from '../wasi-sock/handle.ts';
import { issue } from '../wasi-sock/host-function.ts';
import type { SocketTable } from '../wasi-sock/table.ts';
import { type Errno, ERRNO, WasiError } from './errno.ts';

/**
 * Issues a transfer on a socket; `count` is how many buffers the guest has named. Returns its bytes, or undefined when the call was suspended because the guest is to
 * stop. Failures throw.
 */
export function transfer(
  context: HostCallContext,
  table: SocketTable | undefined,
  handle: SocketHandle,
  direction: 'receive' | 'send',
  buffers: readonly Uint8Array[],
  count: number,
): number | undefined {
  if (table === undefined) {
    throw new WasiError(ERRNO.EBADF);
  }
  // A datagram goes whole or not at all.
  if (handle.kind === 'udp' && count >>> 0 !== buffers.length) {
    throw new WasiError(ERRNO.EINVAL);
  }
  const result = issue(context, table, handle, direction, (timeoutMs) =>
    direction === 'receive'
      ? table.receive(handle, buffers, 0, timeoutMs)
      : table.send(handle, buffers, undefined, timeoutMs),
  );
  if (result === INTERRUPTED) {
    context.suspend();
    return undefined;
  }
  if (result < 0) {
    // Both rooms count errors by the same numbers.
    throw new WasiError(-result as Errno);
  }
  return result;
}
