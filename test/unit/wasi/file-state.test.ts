/** Times and space of files. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { lstatSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { ERRNO } from '../../../src/wasi/errno.ts';
import { Bench, temporaryDirectory } from './support.ts';

const BOTH = (1n << 1n) | (1n << 6n);
const CREATE = 1;
const [ACCESSED, ACCESSED_NOW, MODIFIED, MODIFIED_NOW] = [1, 2, 4, 8];
/** More digits than a double of seconds has. */
const [READ_AT, CHANGED_AT] = [1_700_000_001_123_456_789n, 1_700_000_002_987_654_321n];

function times(path: string): [accessed: bigint, modified: bigint] {
  const { atimeNs, mtimeNs } = lstatSync(path, { bigint: true });
  return [atimeNs, mtimeNs];
}

function touch(path: string): void {
  for (const [option, time] of [
    ['-a', READ_AT],
    ['-m', CHANGED_AT],
  ] as const) {
    const date = `@${time / 1_000_000_000n}.${time % 1_000_000_000n}`;
    execFileSync('touch', ['--no-dereference', option, '-d', date, path]);
  }
}

test('one time is set, and the other stays to the nanosecond', () => {
  using directory = temporaryDirectory();
  const [file, link] = [join(directory.path, 'file'), join(directory.path, 'link')];
  writeFileSync(file, '');
  symlinkSync('file', link);
  using bench = new Bench({ preopens: [{ guestPath: '/d', hostPath: directory.path }] });
  const fd = bench.open('file', { rights: BOTH });
  const byPath = (path: string, follow: 0 | 1) => (flags: number) =>
    bench.call('path_filestat_set_times', 3, follow, ...bench.put(path), 5_000_000_006n, 7_000_000_008n, flags);
  const ways: [string, (flags: number) => number][] = [
    [file, (flags) => bench.call('fd_filestat_set_times', fd, 5_000_000_006n, 7_000_000_008n, flags)],
    [file, byPath('file', 0)],
    [file, byPath('link', 1)],
    [link, byPath('link', 0)],
  ];
  for (const [path, set] of ways) {
    touch(file);
    touch(link);
    assert.equal(set(0), 0);
    assert.deepEqual(times(path), [READ_AT, CHANGED_AT]);
    assert.equal(set(MODIFIED), 0);
    assert.deepEqual(times(path), [READ_AT, 7_000_000_008n]);
    touch(path);
    assert.equal(set(ACCESSED), 0);
    assert.deepEqual(times(path), [5_000_000_006n, CHANGED_AT]);
    assert.equal(set(ACCESSED | MODIFIED_NOW), 0);
    const [accessed, modified] = times(path);
    assert.equal(accessed, 5_000_000_006n);
    assert.ok(BigInt(Date.now()) - modified / 1_000_000n < 60_000n);
    assert.equal(set(ACCESSED | ACCESSED_NOW), ERRNO.EINVAL);
    const other = path === file ? link : file;
    touch(other);
    assert.equal(set(MODIFIED), 0);
    assert.equal(times(other)[1], CHANGED_AT, 'a link and what it leads to have times of their own');
  }
  assert.equal(byPath('file/', 1)(MODIFIED), ERRNO.ENOTDIR);
  assert.equal(byPath('nothing', 1)(MODIFIED), ERRNO.ENOENT);
  assert.equal(bench.call('fd_filestat_set_times', 3, 5_000_000_006n, 0n, ACCESSED), 0);
  assert.equal(times(directory.path)[0], 5_000_000_006n);
});

test('space is reserved, and a file never shrinks', () => {
  using directory = temporaryDirectory();
  using bench = new Bench({ preopens: [{ guestPath: '/d', hostPath: directory.path }] });
  const fd = bench.open('file', { flags: CREATE, rights: BOTH });
  const path = join(directory.path, 'file');
  assert.equal(bench.call('fd_allocate', fd, 0n, 0n), ERRNO.EINVAL);
  assert.equal(bench.call('fd_allocate', fd, -1n, 1n), ERRNO.EINVAL);
  assert.equal(bench.call('fd_allocate', fd, 0n, -1n), ERRNO.EINVAL);
  assert.equal(statSync(path).size, 0);
  assert.equal(bench.call('fd_allocate', fd, 1000n, 1n << 20n), 0);
  const { size, blocks } = statSync(path);
  assert.equal(size, 1000 + (1 << 20));
  // Where nothing can be reserved there is a hole, as `truncate` makes it.
  execFileSync('sh', ['-c', `fallocate -l 1048576 "$1/other" || truncate -s 1048576 "$1/other"`, 'sh', directory.path]);
  assert.ok(blocks >= statSync(join(directory.path, 'other')).blocks);
  assert.equal(bench.call('fd_allocate', fd, 0n, 1n), 0);
  assert.equal(statSync(path).size, size);
  assert.equal(bench.call('fd_allocate', fd, 0n, 1n << 52n) > 0, true, 'more than any disk has');
  const reading = bench.open('file');
  assert.equal(bench.call('fd_allocate', reading, 0n, 1n), ERRNO.EBADF);
});
