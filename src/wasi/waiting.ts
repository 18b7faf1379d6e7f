import type { StopSignal } from '../engine/engine.ts';
import { INTERRUPTED } from '../wasi-sock/errno.ts';
import type { PollRequest } from '../wasi-sock/poll.ts';

/**
 * Blocks the guest's thread until a request is ready, the time is up, or the guest is to stop. `SocketTable` is one.
 * Returns how many are ready (and marks them), 0 when the time is up, INTERRUPTED, or a negative errno. `timeoutMs` is
 * negative for ever, 0 for a look.
 */
export interface Waiter {
  poll(requests: readonly PollRequest[], timeoutMs: number): number;
}

/**
 * Waits on the stop flag alone, for guests without sockets. It cannot watch descriptors: those of the host count as
 * ready, so that reading them may block, and a stop waits for that.
 */
export function stopFlagWaiter(stop: StopSignal): Waiter {
  const flag = new Int32Array(stop.shared, 0, 1);
  return {
    poll(requests, timeoutMs) {
      for (const request of requests) {
        request.ready = typeof request.on === 'number';
        request.bytes = 1;
      }
      const ready = requests.filter((request) => request.ready).length;
      if (ready === 0 && timeoutMs !== 0) {
        Atomics.wait(flag, 0, 0, timeoutMs < 0 ? Number.POSITIVE_INFINITY : timeoutMs);
      }
      return ready === 0 && stop.requested() ? INTERRUPTED : ready;
    },
  };
}
