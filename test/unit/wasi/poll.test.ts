import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MAX_DESCRIPTORS } from '../../../src/wasi/descriptors.ts';
import { ERRNO } from '../../../src/wasi/errno.ts';
import { INTERRUPTED } from '../../../src/wasi-sock/errno.ts';
import type { PollRequest } from '../../../src/wasi-sock/poll.ts';
import type { Waiter } from '../../../src/wasi/waiting.ts';
import { Bench, ManualTime, temporaryDirectory } from './support.ts';

const MS = 1_000_000n;
const INS = 4096;
const OUTS = 8192;
const COUNT = 8;

/** Writes a subscription to a clock. */
function clock(
  bench: Bench,
  index: number,
  userdata: bigint,
  timeout: bigint,
  options = { id: 1, absolute: false },
): void {
  const at = INS + 48 * index;
  bench.memory.fill(0, at, at + 48);
  bench.view.setBigUint64(at, userdata, true);
  bench.view.setUint32(at + 16, options.id, true);
  bench.view.setBigUint64(at + 24, timeout, true);
  bench.view.setUint16(at + 40, options.absolute ? 1 : 0, true);
}

function descriptor(bench: Bench, index: number, userdata: bigint, fd: number, write = false): void {
  const at = INS + 48 * index;
  bench.memory.fill(0, at, at + 48);
  bench.view.setBigUint64(at, userdata, true);
  bench.memory[at + 8] = write ? 2 : 1;
  bench.view.setUint32(at + 16, fd, true);
}

/** [userdata, errno, type] of each event. */
function events(bench: Bench): (bigint | number | undefined)[][] {
  return Array.from({ length: bench.u32(COUNT) }, (_, i) => {
    const at = OUTS + 32 * i;
    return [bench.u64(at), bench.view.getUint16(at + 8, true), bench.memory[at + 10]];
  });
}

/** A waiter that moves a clock instead of sleeping, and notes how long. */
function movingWaiter(time: ManualTime, waited: number[], interruptAfter = Infinity): Waiter {
  return {
    poll(_requests, timeoutMs) {
      waited.push(timeoutMs);
      if (waited.length >= interruptAfter) {
        time.advance(4n * MS);
        return INTERRUPTED;
      }
      time.advance(BigInt(timeoutMs) * MS);
      return 0;
    },
  };
}

test('the nearest clock fires, relative or absolute', () => {
  const time = new ManualTime();
  const waited: number[] = [];
  using bench = new Bench({ time, waiter: movingWaiter(time, waited) });
  clock(bench, 0, 11n, 50n * MS);
  clock(bench, 1, 12n, 20n * MS);
  clock(bench, 2, 13n, 20n * MS, { id: 1, absolute: true });
  clock(bench, 3, 14n, time.real + 30n * MS, { id: 0, absolute: true });
  assert.equal(bench.call('poll_oneoff', INS, OUTS, 4, COUNT), 0);
  assert.deepEqual(events(bench), [
    [12n, 0, 0],
    [13n, 0, 0],
  ]);
  assert.deepEqual(waited, [20]);
  clock(bench, 0, 1n, 0n);
  assert.equal(bench.call('poll_oneoff', INS, OUTS, 1, COUNT), 0);
  assert.deepEqual(events(bench), [[1n, 0, 0]]);
  clock(bench, 0, 1n, 1n);
  assert.equal(bench.call('poll_oneoff', INS, OUTS, 1, COUNT), 0);
  assert.deepEqual(waited, [20, 1], 'a part of a millisecond is waited for, not skipped');
});

test('an interrupted poll keeps its deadline over a restore', () => {
  const time = new ManualTime();
  const waited: number[] = [];
  using bench = new Bench({ time, waiter: movingWaiter(time, waited, 1) });
  clock(bench, 0, 7n, 100n * MS);
  time.advance(33n);
  bench.call('poll_oneoff', INS, OUTS, 1, COUNT);
  assert.equal(bench.context.suspended, true);
  assert.equal(bench.u32(COUNT), 0);
  const pending = bench.context.pending;
  assert.equal(pending, '33');
  const saved = bench.wasi.save();

  const later = new ManualTime();
  later.mono = 1n;
  using restored = new Bench({ saved, time: later, waiter: movingWaiter(later, waited) });
  restored.memory.set(bench.memory);
  restored.context.pending = pending;
  assert.equal(restored.again('poll_oneoff', INS, OUTS, 1, COUNT), 0);
  assert.deepEqual(events(restored), [[7n, 0, 0]]);
  assert.deepEqual(waited, [100, 96], 'four milliseconds had passed before the stop');
});

test('files and output are always ready; bad descriptors are reported by event', () => {
  using directory = temporaryDirectory();
  using bench = new Bench({ preopens: [{ guestPath: '/d', hostPath: directory.path }] });
  const file = bench.open('x', { flags: 1, rights: 1n << 6n });
  descriptor(bench, 0, 1n, file);
  descriptor(bench, 1, 2n, 1, true);
  descriptor(bench, 2, 3n, 44);
  descriptor(bench, 3, 4n, 0);
  clock(bench, 4, 5n, 1000n * MS);
  assert.equal(bench.call('poll_oneoff', INS, OUTS, 5, COUNT), 0);
  assert.deepEqual(events(bench), [
    [1n, 0, 1],
    [2n, 0, 2],
    [3n, ERRNO.EBADF, 1],
    [4n, 0, 1],
  ]);
});

test('standard input that is a descriptor is waited for', () => {
  const seen: PollRequest[] = [];
  const waiter: Waiter = {
    poll(requests) {
      seen.push(...requests);
      for (const request of requests) {
        request.ready = true;
        request.bytes = 3;
        request.hangup = true;
      }
      return requests.length;
    },
  };
  const stdio = { input: { kind: 'descriptor', fd: 99 } as const, output: () => {}, errors: () => {} };
  using bench = new Bench({ stdio, waiter });
  descriptor(bench, 0, 9n, 0);
  assert.equal(bench.call('poll_oneoff', INS, OUTS, 1, COUNT), 0);
  assert.deepEqual(events(bench), [[9n, 0, 1]]);
  assert.deepEqual([bench.u64(OUTS + 16), bench.view.getUint16(OUTS + 24, true)], [3n, 1]);
  assert.deepEqual(
    seen.map((request) => request.on),
    [99],
  );
});

test('bad subscriptions', () => {
  using bench = new Bench();
  assert.equal(bench.call('poll_oneoff', INS, OUTS, 0, COUNT), ERRNO.EINVAL);
  assert.equal(bench.call('poll_oneoff', INS, OUTS, 4 * MAX_DESCRIPTORS + 1, COUNT), ERRNO.EINVAL);
  assert.equal(bench.call('poll_oneoff', 65536 - 47, OUTS, 1, COUNT), ERRNO.EFAULT);
  assert.equal(bench.call('poll_oneoff', INS, 65536 - 31, 1, COUNT), ERRNO.EFAULT);
  assert.equal(bench.call('poll_oneoff', INS, OUTS, 1, 65533), ERRNO.EFAULT);
  assert.equal(bench.call('poll_oneoff', INS, OUTS, 2000, COUNT), ERRNO.EFAULT);
  clock(bench, 0, 1n, 1n, { id: 77, absolute: false });
  assert.equal(bench.call('poll_oneoff', INS, OUTS, 1, COUNT), ERRNO.EINVAL);
  bench.memory[INS + 8] = 9;
  assert.equal(bench.call('poll_oneoff', INS, OUTS, 1, COUNT), ERRNO.EINVAL);
});

test('the stop flag ends a sleep at once', () => {
  using bench = new Bench();
  bench.stop.request();
  clock(bench, 0, 1n, 3_600_000n * MS);
  assert.equal(bench.call('poll_oneoff', INS, OUTS, 1, COUNT), 0);
  assert.equal(bench.context.suspended, true);
});
