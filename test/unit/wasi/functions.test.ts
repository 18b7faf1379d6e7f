import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { GuestExit } from '../../../src/engine/engine.ts';
import { ERRNO } from '../../../src/wasi/errno.ts';
import { Bench, ManualTime, temporaryDirectory } from './support.ts';

/** All that is not a socket, as WAMR registers it: name and signature. */
const PREVIEW1: Readonly<Record<string, string>> = {
  args_get: '(**)i',
  args_sizes_get: '(**)i',
  clock_res_get: '(i*)i',
  clock_time_get: '(iI*)i',
  environ_get: '(**)i',
  environ_sizes_get: '(**)i',
  fd_prestat_get: '(i*)i',
  fd_prestat_dir_name: '(i*~)i',
  fd_close: '(i)i',
  fd_datasync: '(i)i',
  fd_pread: '(i*iI*)i',
  fd_pwrite: '(i*iI*)i',
  fd_read: '(i*i*)i',
  fd_renumber: '(ii)i',
  fd_seek: '(iIi*)i',
  fd_tell: '(i*)i',
  fd_fdstat_get: '(i*)i',
  fd_fdstat_set_flags: '(ii)i',
  fd_fdstat_set_rights: '(iII)i',
  fd_sync: '(i)i',
  fd_write: '(i*i*)i',
  fd_advise: '(iIIi)i',
  fd_allocate: '(iII)i',
  path_create_directory: '(i*~)i',
  path_link: '(ii*~i*~)i',
  path_open: '(ii*~iIIi*)i',
  fd_readdir: '(i*~I*)i',
  path_readlink: '(i*~*~*)i',
  path_rename: '(i*~i*~)i',
  fd_filestat_get: '(i*)i',
  fd_filestat_set_times: '(iIIi)i',
  fd_filestat_set_size: '(iI)i',
  path_filestat_get: '(ii*~*)i',
  path_filestat_set_times: '(ii*~IIi)i',
  path_symlink: '(*~i*~)i',
  path_unlink_file: '(i*~)i',
  path_remove_directory: '(i*~)i',
  poll_oneoff: '(**i*)i',
  proc_exit: '(i)',
  proc_raise: '(i)i',
  random_get: '(*~)i',
  sched_yield: '()i',
};

test('every function of preview1 is there, with its type', () => {
  using bench = new Bench();
  assert.deepEqual([...bench.names].sort(), Object.keys(PREVIEW1).sort());
  for (const [name, signature] of Object.entries(PREVIEW1)) {
    assert.equal(bench.wasi.imports['wasi_snapshot_preview1']?.[name]?.signature, signature, name);
  }
});

test('whatever a guest passes, a function answers with an errno', () => {
  using directory = temporaryDirectory();
  using bench = new Bench({ preopens: [{ guestPath: '/', hostPath: directory.path }] });
  const number = fc.oneof(
    fc.integer(),
    fc.integer({ min: 0, max: 8 }),
    fc.integer({ min: 0, max: 65600 }),
    fc.constantFrom(-1, -(2 ** 31)),
  );
  const wide = fc.oneof(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }), fc.constantFrom(0n, 1n, -1n));
  const arbitraryCall = fc
    .constantFrom(...Object.entries(PREVIEW1).filter(([name]) => name !== 'proc_exit' && name !== 'poll_oneoff'))
    .chain(([name, signature]) => {
      const letters = [...signature.slice(1, signature.indexOf(')'))];
      return fc.tuple(fc.constant(name), fc.tuple(...letters.map((letter) => (letter === 'I' ? wide : number))));
    });
  fc.assert(
    fc.property(arbitraryCall, ([name, args]) => {
      bench.memory.fill(0x41, 1000, 1010);
      const errno = bench.call(name, ...args);
      assert.ok(errno >= 0 && errno <= 76, `${name} gave ${errno}`);
    }),
    { numRuns: 3000 },
  );
  assert.equal(bench.memory.length, 65536);
});

test('arguments and environment', () => {
  using bench = new Bench({ args: ['prog', 'käse', ''], environ: ['A=1', 'B='] });
  assert.equal(bench.call('args_sizes_get', 0, 4), 0);
  assert.deepEqual([bench.u32(0), bench.u32(4)], [3, 5 + 6 + 1]);
  assert.equal(bench.call('args_get', 100, 200), 0);
  assert.deepEqual([bench.u32(100), bench.u32(104), bench.u32(108)], [200, 205, 211]);
  assert.equal(bench.text(200, 12), 'prog\0käse\0\0');
  assert.equal(bench.call('environ_sizes_get', 0, 4), 0);
  assert.deepEqual([bench.u32(0), bench.u32(4)], [2, 7]);
  assert.equal(bench.call('environ_get', 65530, 200), ERRNO.EFAULT);
});

test('clocks: monotonic starts at zero and goes on after a restore', () => {
  const time = new ManualTime();
  using bench = new Bench({ time });
  const now = (clock: number): bigint => {
    assert.equal(bench.call('clock_time_get', clock, 0n, 8), 0);
    return bench.u64(8);
  };
  assert.equal(now(1), 0n);
  time.advance(1_000n);
  assert.equal(now(1), 1_000n);
  assert.equal(now(0), time.real);
  assert.equal(bench.call('clock_time_get', 9, 0n, 8), ERRNO.EINVAL);
  assert.equal(bench.call('clock_res_get', 1, 8), 0);
  assert.equal(bench.u64(8), 1n);
  const saved = bench.wasi.save();
  // Another host, later, whose clock is behind.
  const other = new ManualTime();
  other.mono = 3n;
  using restored = new Bench({ time: other, saved });
  assert.equal(restored.call('clock_time_get', 1, 0n, 8), 0);
  assert.equal(restored.u64(8), 1_000n);
  other.advance(500n);
  restored.wasi.continueClock(saved);
  other.advance(7n);
  restored.call('clock_time_get', 1, 0n, 8);
  assert.equal(restored.u64(8), 1_007n);
});

test('randomness, yield, raise, exit', () => {
  using bench = new Bench({ random: (bytes) => void bytes.fill(7) });
  assert.equal(bench.call('random_get', 10, 3), 0);
  assert.deepEqual([...bench.memory.subarray(9, 14)], [0, 7, 7, 7, 0]);
  assert.equal(bench.call('random_get', 65535, 2), ERRNO.EFAULT);
  assert.equal(bench.call('sched_yield'), 0);
  assert.equal(bench.call('proc_raise', 6), ERRNO.ENOSYS);
  assert.throws(
    () => bench.call('proc_exit', 300),
    (error) => error instanceof GuestExit && error.exitCode === 300,
  );
});

test('standard streams', () => {
  const pieces = ['hello ', 'world'];
  using bench = new Bench({
    stdio: {
      input: { kind: 'callback', read: () => new TextEncoder().encode(pieces.shift() ?? '') },
      output: (bytes) => void bench.out.push(Buffer.from(bytes).toString()),
      errors: (bytes) => void bench.out.push(`!${Buffer.from(bytes).toString()}`),
    },
  });
  assert.equal(bench.write(1, 'to the log'), 0);
  assert.equal(bench.u32(24), 10);
  assert.equal(bench.write(2, 'oops'), 0);
  assert.deepEqual(bench.out, ['to the log', '!oops']);
  assert.equal(bench.read(0), 'hello ');
  assert.equal(bench.read(0), 'world');
  assert.equal(bench.read(0), '');
  assert.equal(bench.write(0, 'x'), ERRNO.EBADF);
  assert.equal(bench.read(1), -ERRNO.EBADF);
  assert.equal(bench.write(9, 'x'), ERRNO.EBADF);
  assert.equal(bench.call('fd_seek', 1, 0n, 0, 8), ERRNO.ESPIPE);
  assert.equal(bench.call('fd_fdstat_get', 1, 40), 0);
  assert.equal(bench.memory[40], 2, 'a character device, so that wasi-libc flushes lines');
  assert.equal(bench.u64(48) & 0b100100n, 0n, 'neither seek nor tell');
});

test('descriptors are the lowest free ones; renumber moves', () => {
  using directory = temporaryDirectory();
  using bench = new Bench({ preopens: [{ guestPath: '/d', hostPath: directory.path }] });
  const create = { flags: 1, rights: 1n << 6n };
  const a = bench.open('a', create);
  const b = bench.open('b', create);
  assert.deepEqual([a, b], [4, 5]);
  assert.equal(bench.call('fd_close', a), 0);
  assert.equal(bench.call('fd_close', a), ERRNO.EBADF);
  assert.equal(bench.open('a', create), 4);
  assert.equal(bench.call('fd_renumber', 5, 4), 0);
  assert.equal(bench.call('fd_tell', 5, 8), ERRNO.EBADF);
  assert.equal(bench.call('fd_tell', 4, 8), 0);
  assert.equal(bench.call('fd_renumber', 77, 4), ERRNO.EBADF);
  assert.equal(bench.call('fd_close', 1), 0);
  assert.equal(bench.write(1, 'x'), ERRNO.EBADF);
});

test('rights can only become fewer', () => {
  using bench = new Bench();
  assert.equal(bench.call('fd_fdstat_get', 1, 0), 0);
  const rights = bench.u64(8);
  assert.equal(bench.call('fd_fdstat_set_rights', 1, rights | (1n << 13n), 0n), ERRNO.ENOTCAPABLE);
  assert.equal(bench.call('fd_fdstat_set_rights', 1, -1n, -1n), ERRNO.ENOTCAPABLE);
  assert.equal(bench.call('fd_fdstat_set_rights', 1, 1n << 6n, 0n), 0);
  bench.call('fd_fdstat_get', 1, 0);
  assert.equal(bench.u64(8), 1n << 6n);
});
