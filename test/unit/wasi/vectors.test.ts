/** Calls with more buffers, or larger ones, than a host should have to hold. */
import assert from 'node:assert/strict';
import { closeSync, openSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { Log, type LogPart } from '../../../src/migrate/kept.ts';
import { ERRNO } from '../../../src/wasi/errno.ts';
import { GuestMemory } from '../../../src/wasi/memory.ts';
import { SYSTEM_RANDOM } from '../../../src/wasi/process.ts';
import { readInput } from '../../../src/wasi/stdio.ts';
import { Bench, temporaryDirectory } from './support.ts';

const CREATE = 1;
const BOTH = (1n << 1n) | (1n << 6n);
/** What Linux moves in one call. */
const MOST_BYTES = 0x7fff_f000;

/** An iovec array of `count` times the same buffer; [pointer, count]. */
function same(bench: Bench, count: number, pointer: number, length: number): [number, number] {
  const at = 0;
  for (let i = 0; i < count; i += 1) {
    bench.view.setUint32(at + 8 * i, pointer, true);
    bench.view.setUint32(at + 8 * i + 4, length, true);
  }
  return [at, count];
}

test('1024 buffers are taken, and 1025 are not', () => {
  using directory = temporaryDirectory();
  using bench = new Bench({ preopens: [{ guestPath: '/d', hostPath: directory.path }] });
  const fd = bench.open('file', { flags: CREATE, rights: BOTH });
  for (const [count, errno] of [
    [1024, 0],
    [1025, ERRNO.EINVAL],
    [0xffff_ffff, ERRNO.EINVAL],
  ] as const) {
    const [iovs] = same(bench, 1025, 20_000, 1);
    assert.equal(bench.call('fd_write', fd, iovs, count, 20_008), errno);
    assert.equal(bench.call('fd_pwrite', fd, iovs, count, 0n, 20_008), errno);
    assert.equal(bench.call('fd_read', fd, iovs, count, 20_008), errno);
    assert.equal(bench.call('fd_pread', fd, iovs, count, 0n, 20_008), errno);
    assert.equal(bench.call('fd_write', 1, iovs, count, 20_008), errno);
    assert.equal(bench.call('fd_read', 0, iovs, count, 20_008), errno);
  }
  assert.equal(bench.call('fd_write', 99, 0, 1025, 20_008), ERRNO.EBADF);
});

test('buffers that overlap move no more than the memory has', () => {
  using directory = temporaryDirectory();
  using bench = new Bench({ preopens: [{ guestPath: '/d', hostPath: directory.path }] });
  const fd = bench.open('file', { flags: CREATE, rights: BOTH });
  const all = [...same(bench, 1024, 0, 65_536), 65_528] as const;
  assert.equal(bench.call('fd_write', fd, ...all), 0);
  assert.equal(bench.u32(65_528), 65_536);
  assert.equal(statSync(join(directory.path, 'file')).size, 65_536);
});

test('standard output takes 64 KiB in one call', () => {
  const pieces: Uint8Array[] = [];
  const stdio = {
    input: { kind: 'none' },
    output: (bytes: Uint8Array) => pieces.push(bytes),
    errors: () => {},
  } as const;
  // Two pages of memory: a Bench has one, which is just as much.
  using bench = new Bench({ stdio });
  const memory = new Uint8Array(131_072).fill(7);
  bench.context.bind(
    () => memory,
    () => false,
  );
  const view = new DataView(memory.buffer);
  for (let i = 0; i < 3; i += 1) {
    view.setUint32(8 * i, 0, true);
    view.setUint32(8 * i + 4, 40_000, true);
  }
  assert.equal(bench.call('fd_write', 1, 0, 3, 131_000), 0);
  assert.equal(view.getUint32(131_000, true), 65_536);
  assert.deepEqual(
    pieces.map(({ length }) => length),
    [65_536],
  );
  assert.deepEqual(pieces[0], Uint8Array.from([...memory.subarray(0, 40_000), ...memory.subarray(0, 25_536)]));
});

test('a read of 2 GiB and more is a short one', () => {
  // Never touched, so never there.
  const bytes = new Uint8Array(3 * 2 ** 30);
  const memory = new GuestMemory(bytes);
  memory.setU32(4, 0xa000_0000);
  memory.setU32(8, 16);
  memory.setU32(12, 0xa000_0000);
  const buffers = memory.buffers(0, 2);
  assert.deepEqual(
    buffers.map(({ length }) => length),
    [MOST_BYTES, 0],
  );
  const fd = openSync('/dev/null', 'r');
  try {
    assert.equal(readInput({ kind: 'descriptor', fd }, buffers), 0);
  } finally {
    closeSync(fd);
  }
  assert.throws(() => new GuestMemory(bytes).text(0, 4096), { errno: ERRNO.ENAMETOOLONG });
});

test('randomness has no largest piece', () => {
  const filled: number[] = [];
  // As long as it says, without the memory.
  const huge = {
    length: 2 ** 31 + 5,
    subarray(from: number, to: number) {
      filled.push(Math.min(to, this.length) - from);
      return new Uint8Array(1);
    },
  };
  SYSTEM_RANDOM(huge as unknown as Uint8Array);
  assert.deepEqual(filled, [2 ** 30, 2 ** 30, 5]);
});

async function logged(log: Log): Promise<LogPart[]> {
  const parts: LogPart[] = [];
  for await (const part of log.read(Promise.resolve())) parts.push(part);
  return parts;
}

test('a log keeps the end of a part that is longer than itself', async () => {
  const log = new Log();
  log.add({ stream: 'stderr', bytes: new Uint8Array(10) });
  const long = new Uint8Array(3 << 20).map((_, i) => i % 251);
  log.add({ stream: 'stdout', bytes: long });
  const [part, ...others] = await logged(log);
  assert.deepEqual(others, []);
  assert.ok(part !== undefined && part.bytes.length < 1 << 20 && part.bytes.length > 1_000_000);
  assert.equal(part.bytes.buffer.byteLength, part.bytes.length, 'and nothing of the rest');
  assert.deepEqual(part.bytes, long.subarray(-part.bytes.length));
  log.add({ stream: 'stdout', bytes: Uint8Array.of(1) });
  assert.deepEqual(
    (await logged(log)).map(({ bytes }) => bytes.length),
    [1],
  );
});
