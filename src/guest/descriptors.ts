/**
 * Which sockets a guest's worker thread has open, in memory that its keeper sees too. A thread that dies closes nothing: descriptors
 * belong to the process. Its keeper then closes them, connections by RST, as the end of a process would.
 */
import type { Native, SocketFd } from '../native.ts';

/** Descriptors at or above are not kept account of: no process has so many. */
const MOST = 1 << 20;
const BITS = 32;

/** A new account, to be posted to the worker. */
export function createAccount(): SharedArrayBuffer {
  return new SharedArrayBuffer(MOST / 8);
}

function mark(words: Int32Array, fd: number, open: boolean): void {
  if (fd < 0 || fd >= MOST) return;
  const bit = 1 << (fd % BITS);
  if (open) Atomics.or(words, Math.floor(fd / BITS), bit);
  else Atomics.and(words, Math.floor(fd / BITS), ~bit);
}

/** The addon as the worker uses it: what opens and closes sockets keeps the account. */
export function accounted(native: Native, account: SharedArrayBuffer): Native {
  const words = new Int32Array(account);
  return {
    ...native,
    sockOpen: (stream) => {
      const fd = native.sockOpen(stream);
      mark(words, fd, true);
      return fd;
    },
    sockAccept: (listener, wake, timeoutMs, peer) => {
      const fd = native.sockAccept(listener, wake, timeoutMs, peer);
      mark(words, fd, true);
      return fd;
    },
    fdClose: (fd) => {
      // Before it is closed: from then on the number may be another's.
      mark(words, fd, false);
      return native.fdClose(fd);
    },
  };
}

/** Closes what a worker that runs no more has left open. Returns how many that were. */
export function closeLeft(native: Native, account: SharedArrayBuffer): number {
  let count = 0;
  new Int32Array(account).forEach((word, index) => {
    for (let bit = 0; word !== 0 && bit < BITS; bit += 1) {
      if ((word & (1 << bit)) === 0) continue;
      const fd = (index * BITS + bit) as SocketFd;
      native.sockSetLinger(fd, true, 0);
      native.fdClose(fd);
      count += 1;
    }
  });
  new Int32Array(account).fill(0);
  return count;
}
