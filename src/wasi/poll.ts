/**
 * `poll_oneoff`: waiting for clocks, files, streams and sockets at once.
 *
 * An interrupted poll keeps the reading of the guest's monotonic clock at which it began. Issued again, on any host, it
 * counts its relative deadlines from there; as that clock does not run in an image, what was left is left.
 */
import type { HostCallContext, HostFunction } from '../engine/engine.ts';
import { INTERRUPTED } from '../wasi-sock/errno.ts';
import { type PollRequest, pollRequest } from '../wasi-sock/poll.ts';
import { CLOCK, type Clocks } from './clocks.ts';
import { defineFunction } from './define.ts';
import { type Descriptor, type DescriptorTable, MAX_DESCRIPTORS } from './descriptors.ts';
import { type Errno, ERRNO, WasiError } from './errno.ts';
import type { GuestMemory } from './memory.ts';
import type { Input } from './stdio.ts';
import type { Waiter } from './waiting.ts';

const SUBSCRIPTION_SIZE = 48;
const EVENT_SIZE = 32;
const EVENT_TYPE = { clock: 0, read: 1, write: 2 } as const;
/** Each descriptor twice, and as many clocks. Linux too refuses to wait for more than there can be (EINVAL). */
const MOST_SUBSCRIPTIONS = 4 * MAX_DESCRIPTORS;
const ABSOLUTE_TIME = 1;
const HANGUP = 1;
/** Waits are cut into pieces of at most a day: timeouts of system calls are 32-bit milliseconds. */
const MAX_WAIT_MS = 86_400_000;

interface Subscription {
  readonly userdata: bigint;
  readonly type: number;
  /** Of clocks. */
  readonly clock: number;
  /** Of clocks: the reading of that clock at which it fires. */
  readonly deadline: bigint;
  /** Of descriptors: what to wait for, or undefined when it never blocks. */
  readonly wait: PollRequest | undefined;
  /** Of descriptors: an errno that is known at once. */
  readonly errno: number;
}

export interface PollOptions {
  readonly clocks: Clocks;
  readonly descriptors: DescriptorTable;
  readonly input: Input;
  readonly waiter: Waiter;
}

export function pollFunctions(context: HostCallContext, options: PollOptions): Readonly<Record<string, HostFunction>> {
  return {
    poll_oneoff: defineFunction<[number, number, number, number]>(
      context,
      '(**i*)i',
      (memory, ins, outs, count, out) => {
        if (count === 0 || count >>> 0 > MOST_SUBSCRIPTIONS) {
          throw new WasiError(ERRNO.EINVAL);
        }
        memory.bytes(ins, (count >>> 0) * SUBSCRIPTION_SIZE);
        memory.bytes(outs, (count >>> 0) * EVENT_SIZE);
        memory.setU32(out, 0);
        const began = beginning(context, options.clocks);
        const subscriptions = Array.from({ length: count >>> 0 }, (_, i) =>
          readSubscription(memory, (ins >>> 0) + i * SUBSCRIPTION_SIZE, options, began),
        );
        const fired = wait(subscriptions, options);
        if (fired === 'interrupted') {
          context.pending = began.toString();
          context.suspend();
          return undefined;
        }
        fired.forEach((subscription, i) => writeEvent(memory, (outs >>> 0) + i * EVENT_SIZE, subscription));
        memory.setU32(out, fired.length);
        return undefined;
      },
    ),
  };
}

function beginning(context: HostCallContext, clocks: Clocks): bigint {
  return context.resumed && typeof context.pending === 'string' ? BigInt(context.pending) : clocks.monotonic();
}

function readSubscription(memory: GuestMemory, at: number, options: PollOptions, began: bigint): Subscription {
  const userdata = memory.u64(at);
  const type = memory.u8(at + 8);
  if (type === EVENT_TYPE.clock) {
    const clock = memory.u32(at + 16);
    const timeout = memory.u64(at + 24);
    const absolute = (memory.u16(at + 40) & ABSOLUTE_TIME) !== 0;
    options.clocks.now(clock); // EINVAL when there is no such clock
    // Relative times of every clock run on the monotonic one.
    return absolute
      ? { userdata, type, clock, deadline: timeout, wait: undefined, errno: 0 }
      : { userdata, type, clock: CLOCK.monotonic, deadline: began + timeout, wait: undefined, errno: 0 };
  }
  if (type !== EVENT_TYPE.read && type !== EVENT_TYPE.write) {
    throw new WasiError(ERRNO.EINVAL);
  }
  const descriptor = options.descriptors.find(memory.u32(at + 16));
  return {
    userdata,
    type,
    clock: 0,
    deadline: 0n,
    wait: descriptor && waitOn(descriptor, type === EVENT_TYPE.read ? 'read' : 'write', options.input),
    errno: descriptor === undefined ? ERRNO.EBADF : 0,
  };
}

/** What to wait for; undefined for what never blocks: files, directories, output, input that is not a descriptor. */
function waitOn(descriptor: Descriptor, event: 'read' | 'write', input: Input): PollRequest | undefined {
  if (descriptor.kind === 'socket') {
    return pollRequest(descriptor.handle, event);
  }
  const blocks = descriptor.kind === 'stdio' && descriptor.stream === 0 && input.kind === 'descriptor';
  return blocks && event === 'read' ? pollRequest(input.fd, event) : undefined;
}

/** The subscriptions that fire, at least one; or that the guest is to stop. */
function wait(
  subscriptions: readonly Subscription[],
  { clocks, waiter }: PollOptions,
): readonly Subscription[] | 'interrupted' {
  const waits = subscriptions.flatMap((subscription) => subscription.wait ?? []);
  for (;;) {
    const left = subscriptions.map((subscription) => remaining(subscription, clocks));
    const least = left.reduce((a, b) => (b < a ? b : a), MAX_WAIT_MS);
    const result = waits.length === 0 && least === 0 ? 0 : waiter.poll(waits, least);
    if (result < 0 && result !== INTERRUPTED) {
      throw new WasiError(-result as Errno);
    }
    const fired = subscriptions.filter((subscription) =>
      subscription.wait === undefined ? remaining(subscription, clocks) === 0 : subscription.wait.ready,
    );
    // Something to report wins over stopping: the guest stops at its next point, and nothing is lost.
    if (fired.length > 0) {
      return fired;
    }
    if (result === INTERRUPTED) {
      return 'interrupted';
    }
  }
}

/** Milliseconds until a subscription fires without anything becoming ready, rounded up. */
function remaining(subscription: Subscription, clocks: Clocks): number {
  if (subscription.type !== EVENT_TYPE.clock) {
    return subscription.wait === undefined ? 0 : MAX_WAIT_MS;
  }
  const nanoseconds = subscription.deadline - clocks.now(subscription.clock);
  return nanoseconds <= 0n ? 0 : Math.min(MAX_WAIT_MS, Number((nanoseconds + 999_999n) / 1_000_000n));
}

function writeEvent(memory: GuestMemory, at: number, subscription: Subscription): void {
  const { wait: result, errno } = subscription;
  memory.bytes(at, EVENT_SIZE).fill(0);
  memory.setU64(at, subscription.userdata);
  memory.setU16(at + 8, result?.error ?? errno);
  memory.setU8(at + 10, subscription.type);
  if (subscription.type !== EVENT_TYPE.clock) {
    memory.setU64(at + 16, BigInt(result === undefined ? 1 : result.bytes));
    memory.setU16(at + 24, result?.hangup === true ? HANGUP : 0);
  }
}
