/**
 * A worker thread that blocks in calls, and the handle by which the main thread of the test starts and watches them.
 * The two share three words: how many calls were asked for, how many are done, the last result.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { once } from 'node:events';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { native, type SocketFd, type WakeFd } from '../../../src/native.ts';

const ASKED = 0;
const DONE = 1;
const RESULT = 2;

interface Setup {
  readonly words: Int32Array;
  readonly call: Call;
}

/** A call for the worker to make each time it is asked. */
export type Call =
  | {
      readonly kind: 'accept' | 'send' | 'recv' | 'recvFrom' | 'poll' | 'connectWait';
      readonly fd: number;
      readonly wake: number;
    }
  /** A new socket that tries to connect to a listener on loopback that does not answer, closed afterwards. */
  | { readonly kind: 'connect'; readonly port: number; readonly wake: number };

const scratch = new Uint8Array(64);
const peer = new Uint32Array(2);

function perform(call: Call): number {
  const wake = call.wake as WakeFd;
  if (call.kind === 'connect') {
    const fd = native.sockOpen(true) as SocketFd;
    native.sockConnectStart(fd, 0x7f000001, call.port);
    const result = native.sockConnectWait(fd, wake, -1);
    native.fdClose(fd);
    return result;
  }
  const fd = call.fd as SocketFd;
  switch (call.kind) {
    case 'accept':
      return native.sockAccept(fd, wake, -1, peer);
    case 'send':
      return native.sockSend(fd, scratch, 0, 64, wake, -1);
    case 'recv':
      return native.sockRecv(fd, scratch, 0, 64, false, wake, -1);
    case 'recvFrom':
      return native.sockRecvFrom(fd, scratch, 0, 64, false, wake, -1, peer);
    case 'poll':
      return native.pollMany(Int32Array.of(fd, 1, 0), 1, wake, -1);
    case 'connectWait':
      return native.sockConnectWait(fd, wake, -1);
  }
}

if (!isMainThread) {
  const { words, call } = workerData as Setup;
  parentPort?.postMessage('ready');
  for (let done = 0; ; done++) {
    Atomics.wait(words, ASKED, done);
    Atomics.store(words, RESULT, perform(call));
    Atomics.store(words, DONE, done + 1);
    Atomics.notify(words, DONE);
  }
}

/** Number of the ppoll system call, in which all blocking calls sleep. */
const PPOLL = process.arch === 'arm64' ? '73' : '271';

/** True when some thread of this process sleeps in ppoll (those of Node itself use epoll and futex). */
function sleeping(): boolean {
  return readdirSync('/proc/self/task').some((id) => {
    try {
      return readFileSync(`/proc/self/task/${id}/syscall`, 'utf8').startsWith(`${PPOLL} `);
    } catch {
      return false; // the thread has ended
    }
  });
}

export class Blocker {
  readonly #words = new Int32Array(new SharedArrayBuffer(12));
  readonly #worker: Worker;
  #asked = 0;

  private constructor(call: Call) {
    this.#worker = new Worker(new URL(import.meta.url), { workerData: { words: this.#words, call } satisfies Setup });
  }

  static async start(call: Call): Promise<Blocker> {
    const blocker = new Blocker(call);
    await once(blocker.#worker, 'message');
    return blocker;
  }

  /** Asks the worker to make its call once more. */
  begin(): void {
    Atomics.store(this.#words, ASKED, ++this.#asked);
    Atomics.notify(this.#words, ASKED);
  }

  /** Asks, and returns when the worker sleeps in its call. */
  beginBlocked(): void {
    this.begin();
    const deadline = performance.now() + 10_000;
    while (!sleeping())
      if (performance.now() > deadline)
        throw new Error(`the worker does not block, it returned ${Atomics.load(this.#words, RESULT)}`);
  }

  /** Waits (synchronously: the main thread may) for the call's result. */
  result(): number {
    const outcome = Atomics.wait(this.#words, DONE, this.#asked - 1, 10_000);
    if (outcome === 'timed-out') throw new Error('the call does not return');
    return Atomics.load(this.#words, RESULT);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#worker.terminate();
  }
}
