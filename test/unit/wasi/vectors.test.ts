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

test('1024 buffers are taken of however many there are', () => {
  using directory = temporaryDirectory();
  using bench = new Bench({ preopens: [{ guestPath: '/d', hostPath: directory.path }] });
  const fd = bench.open('file', { flags: CREATE, rights: BOTH });
  for (const count of [1024, 1025, 8000]) {
    const [iovs] = same(bench, 1025, 20_000, 1);
    const moved = (name: string, ...args: readonly (number | bigint)[]): number => {
      assert.equal(bench.call(name, ...args, 20_008), 0);
      return bench.u32(20_008);
    };
    assert.equal(moved('fd_write', fd, iovs, count), 1024);
    assert.equal(moved('fd_pwrite', fd, iovs, count, 0n), 1024);
    assert.equal(moved('fd_pread', fd, iovs, count, 0n), 1024);
    assert.equal(moved('fd_write', 1, iovs, count), 1024);
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

test('standard output takes everything, in pieces, until the guest is to stop', () => {
  const pieces: Uint8Array[] = [];
  const stdio = {
    input: { kind: 'none' },
    output: (bytes: Uint8Array) => pieces.push(bytes),
    errors: () => {},
  } as const;
  for (const stopsAfter of [Infinity, 2]) {
    pieces.length = 0;
    using bench = new Bench({ stdio });
    // A Bench has one page of memory.
    const memory = new Uint8Array(196_608).map((_, i) => i % 251);
    bench.context.bind(
      () => memory,
      () => pieces.length >= stopsAfter,
    );
    const view = new DataView(memory.buffer);
    const buffers = [0, 10, 20_000, 0, 160_000];
    for (const [i, length] of buffers.entries()) {
      view.setUint32(8 * i, 1000 * i, true);
      view.setUint32(8 * i + 4, length, true);
    }
    const expected = Buffer.concat(buffers.map((length, i) => memory.slice(1000 * i, 1000 * i + length)));
    assert.equal(bench.call('fd_write', 1, 0, buffers.length, 196_000), 0);
    const written = view.getUint32(196_000, true);
    assert.equal(written, stopsAfter === 2 ? 2 * 65_536 : expected.length);
    assert.ok(pieces.every(({ length }) => length <= 65_536));
    assert.equal(Buffer.compare(Buffer.concat(pieces), expected.subarray(0, written)), 0);
  }
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
  void log.add({ stream: 'stderr', bytes: new Uint8Array(10) });
  const long = new Uint8Array(3 << 20).map((_, i) => i % 251);
  void log.add({ stream: 'stdout', bytes: long });
  const [part, ...others] = await logged(log);
  assert.deepEqual(others, []);
  assert.ok(part !== undefined && part.bytes.length < 1 << 20 && part.bytes.length > 1_000_000);
  assert.equal(part.bytes.buffer.byteLength, part.bytes.length, 'and nothing of the rest');
  assert.deepEqual(part.bytes, long.subarray(-part.bytes.length));
  void log.add({ stream: 'stdout', bytes: Uint8Array.of(1) });
  assert.deepEqual(
    (await logged(log)).map(({ bytes }) => bytes.length),
    [1],
  );
});
