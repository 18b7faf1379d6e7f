import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';
import { test } from 'node:test';
import { decode, encode } from 'cborg';
import { ERRNO } from '../../../src/wasi/errno.ts';
import { MAX_DESCRIPTORS } from '../../../src/wasi/descriptors.ts';
import type { SavedWasi } from '../../../src/wasi/saved.ts';
import { Bench, temporaryDirectory } from './support.ts';

const READ = 1n << 1n;
const WRITE = 1n << 6n;
const BOTH = READ | WRITE;
const CREATE = 1;
const DIRECTORY = 2;
const EXCLUSIVE = 4;
const TRUNCATE = 8;
const APPEND = 1;

function openDescriptors(): number {
  return readdirSync('/proc/self/fd').length;
}

test('reading, writing and seeking', () => {
  using directory = temporaryDirectory();
  using bench = new Bench({ preopens: [{ guestPath: '/d', hostPath: directory.path }] });
  const fd = bench.open('file', { flags: CREATE, rights: BOTH });
  assert.equal(bench.write(fd, 'hello world'), 0);
  assert.equal(bench.read(fd), '');
  assert.equal(bench.call('fd_seek', fd, -5n, 1, 8), 0);
  assert.equal(bench.u64(8), 6n);
  assert.equal(bench.read(fd, 3), 'wor');
  assert.equal(bench.call('fd_tell', fd, 8), 0);
  assert.equal(bench.u64(8), 9n);
  assert.equal(bench.call('fd_seek', fd, -1n, 0, 8), ERRNO.EINVAL);
  assert.equal(bench.call('fd_seek', fd, 0n, 9, 8), ERRNO.EINVAL);
  assert.equal(bench.call('fd_seek', fd, 0n, 2, 8), 0);
  assert.equal(bench.u64(8), 11n);
  const [buffer] = bench.put(new Uint8Array(8));
  assert.equal(bench.call('fd_pread', fd, ...bench.iovec(buffer, 5), 0n, 24), 0);
  assert.equal(bench.text(buffer, 5), 'hello');
  assert.equal(bench.call('fd_pwrite', fd, ...bench.iovec(...bench.put('HE')), 0n, 24), 0);
  assert.equal(bench.call('fd_tell', fd, 8), 0);
  assert.equal(bench.u64(8), 11n, 'pread and pwrite leave the position');
  assert.equal(readFileSync(join(directory.path, 'file'), 'utf8'), 'HEllo world');
  assert.equal(bench.call('fd_filestat_set_size', fd, 5n), 0);
  assert.equal(bench.call('fd_allocate', fd, 4n, 4n), 0);
  assert.equal(bench.call('fd_filestat_get', fd, 64), 0);
  assert.deepEqual([bench.memory[64 + 16], bench.u64(64 + 32)], [4, 8n]);
  assert.equal(bench.call('fd_sync', fd), 0);
  assert.equal(bench.call('fd_datasync', fd), 0);
  assert.equal(bench.call('fd_advise', fd, 0n, 0n, 3), 0);
  assert.equal(bench.call('fd_advise', fd, 0n, 0n, 30), ERRNO.EINVAL);
  assert.equal(bench.call('fd_filestat_set_times', fd, 0n, 1_500_000_000_000_000_000n, 4), 0);
  assert.equal(bench.call('fd_filestat_get', fd, 64), 0);
  assert.equal(bench.u64(64 + 48), 1_500_000_000_000_000_000n);
});

test('a write that finds no more room after some buffers is a short one', () => {
  using directory = temporaryDirectory();
  const script = `trap '' XFSZ; ulimit -f 4; exec "$@"`;
  const command = [process.execPath, join(import.meta.dirname, 'full-file.ts'), join(directory.path, 'file')];
  const env = { ...process.env, NODE_DISABLE_COMPILE_CACHE: '1' };
  assert.equal(
    execFileSync('bash', ['-c', script, 'bash', ...command], { env, encoding: 'utf8' }),
    'as it should be\n',
  );
});

test('a name may begin with a byte order mark', () => {
  using directory = temporaryDirectory();
  using bench = new Bench({ preopens: [{ guestPath: '/d', hostPath: directory.path }] });
  assert.ok(bench.open('\uFEFFfile', { flags: CREATE | EXCLUSIVE, rights: BOTH }) > 0);
  assert.deepEqual(readdirSync(directory.path), ['\uFEFFfile']);
});

test('opening: create, exclusive, truncate, append, missing, a directory', () => {
  using directory = temporaryDirectory();
  using bench = new Bench({ preopens: [{ guestPath: '/d', hostPath: directory.path }] });
  assert.equal(bench.open('file'), -ERRNO.ENOENT);
  const first = bench.open('file', { flags: CREATE | EXCLUSIVE, rights: WRITE });
  assert.equal(bench.write(first, 'abc'), 0);
  assert.equal(bench.open('file', { flags: CREATE | EXCLUSIVE, rights: WRITE }), -ERRNO.EEXIST);
  const appending = bench.open('file', { rights: WRITE, fdflags: APPEND });
  assert.equal(bench.write(appending, 'def'), 0);
  assert.equal(bench.call('fd_tell', appending, 8), 0);
  assert.equal(bench.u64(8), 6n);
  assert.equal(bench.read(bench.open('file')), 'abcdef');
  // fcntl(F_SETFL) takes O_APPEND away and gives it back.
  assert.equal(bench.call('fd_fdstat_set_flags', appending, 0), 0);
  assert.equal(bench.call('fd_seek', appending, 0n, 0, 8), 0);
  assert.equal(bench.write(appending, 'X'), 0);
  assert.equal(bench.call('fd_fdstat_set_flags', appending, APPEND), 0);
  assert.equal(bench.write(appending, 'Y'), 0);
  assert.equal(bench.read(bench.open('file')), 'XbcdefY');
  bench.open('file', { flags: TRUNCATE, rights: WRITE });
  assert.equal(bench.read(bench.open('file')), '');
  assert.equal(bench.open('file', { flags: DIRECTORY }), -ERRNO.ENOTDIR);
  assert.equal(bench.open('file/'), -ERRNO.ENOTDIR);
  assert.equal(bench.call('path_create_directory', 3, ...bench.put('sub')), 0);
  assert.equal(bench.open('sub', { rights: WRITE }), -ERRNO.EISDIR);
  const here = bench.open('.', { flags: DIRECTORY });
  assert.ok(here > 3);
  assert.equal(bench.read(here), -ERRNO.EISDIR);
  assert.equal(bench.open('file', { fd: here }) > here, true);
  assert.equal(bench.open('file', { fd: first }), -ERRNO.ENOTDIR);
  assert.equal(bench.open('file', { fd: 99 }), -ERRNO.EBADF);
  execFileSync('mkfifo', [join(directory.path, 'fifo')]);
  assert.equal(bench.open('fifo'), -ERRNO.ENOTSUP, 'and it does not wait for a writer');
});

test('directories: make, list in pages, rename, link, remove', () => {
  using directory = temporaryDirectory();
  using bench = new Bench({ preopens: [{ guestPath: '/d', hostPath: directory.path }] });
  assert.equal(bench.call('path_create_directory', 3, ...bench.put('sub')), 0);
  assert.equal(bench.call('path_create_directory', 3, ...bench.put('sub/')), ERRNO.EEXIST);
  bench.open('sub/one', { flags: CREATE, rights: WRITE });
  assert.equal(bench.call('path_link', 3, 0, ...bench.put('sub/one'), 3, ...bench.put('two')), 0);
  assert.equal(bench.call('path_rename', 3, ...bench.put('two'), 3, ...bench.put('sub/three')), 0);
  assert.equal(bench.call('path_symlink', ...bench.put('one'), 3, ...bench.put('sub/link')), 0);
  assert.equal(bench.call('path_readlink', 3, ...bench.put('sub/link'), 512, 2, 24), 0);
  assert.deepEqual([bench.u32(24), bench.text(512, 2)], [2, 'on']);

  const sub = bench.open('sub', { flags: DIRECTORY });
  const names: string[] = [];
  let cookie = 0n;
  for (;;) {
    // Room for one entry and a half at a time.
    assert.equal(bench.call('fd_readdir', sub, 1024, 40, cookie, 24), 0);
    const used = bench.u32(24);
    const length = bench.u32(1024 + 16);
    if (used < 24 + length) {
      break;
    }
    names.push(bench.text(1024 + 24, length));
    cookie = bench.u64(1024);
  }
  assert.deepEqual(names, ['.', '..', 'link', 'one', 'three']);
  assert.equal(bench.call('fd_readdir', sub, 1024, 40, 99n, 24), 0);
  assert.equal(bench.u32(24), 0);

  assert.equal(bench.call('path_filestat_get', 3, 0, ...bench.put('sub/link'), 64), 0);
  assert.equal(bench.memory[64 + 16], 7);
  assert.equal(bench.call('path_filestat_get', 3, 1, ...bench.put('sub/link'), 64), 0);
  assert.equal(bench.memory[64 + 16], 4);
  assert.equal(bench.u64(64 + 24), 2n, 'two names');
  assert.equal(bench.call('path_filestat_set_times', 3, 1, ...bench.put('sub/one'), 5_000_000_000n, 0n, 1), 0);
  assert.equal(bench.call('path_filestat_get', 3, 1, ...bench.put('sub/one'), 64), 0);
  assert.equal(bench.u64(64 + 40), 5_000_000_000n);
  assert.equal(bench.call('path_filestat_set_times', 3, 1, ...bench.put('sub/one'), 0n, 0n, 3), ERRNO.EINVAL);

  assert.equal(bench.call('path_remove_directory', 3, ...bench.put('sub')), ERRNO.ENOTEMPTY);
  assert.equal(bench.call('path_unlink_file', 3, ...bench.put('sub')), ERRNO.EISDIR);
  for (const name of ['link', 'one', 'three']) {
    assert.equal(bench.call('path_unlink_file', 3, ...bench.put(`sub/${name}`)), 0);
  }
  assert.equal(bench.call('path_remove_directory', 3, ...bench.put('sub')), 0);
  assert.equal(bench.call('path_unlink_file', 3, ...bench.put('sub')), ERRNO.ENOENT);
});

test('preopened directories are told by name', () => {
  using directory = temporaryDirectory();
  using bench = new Bench({ preopens: [{ guestPath: '/data', hostPath: directory.path }] });
  assert.equal(bench.call('fd_prestat_get', 3, 8), 0);
  assert.deepEqual([bench.memory[8], bench.u32(12)], [0, 5]);
  assert.equal(bench.call('fd_prestat_dir_name', 3, 100, 5), 0);
  assert.equal(bench.text(100, 5), '/data');
  assert.equal(bench.call('fd_prestat_dir_name', 3, 100, 4), ERRNO.ENAMETOOLONG);
  assert.equal(bench.call('fd_prestat_get', 4, 8), ERRNO.EBADF);
  assert.equal(bench.call('fd_prestat_get', 1, 8), ERRNO.EBADF);
  const twice = [directory.path, '/'].map((hostPath) => ({ guestPath: '/data', hostPath }));
  assert.throws(() => new Bench({ preopens: twice }), {
    code: 'KEDGE_PREOPEN_INVALID',
    message: `${directory.path} and / are both to be the guest's /data`,
  });
  assert.throws(() => new Bench({ preopens: [{ guestPath: '/x', hostPath: '/does/not/exist' }] }), {
    code: 'KEDGE_PREOPEN_INVALID',
  });
});

test('no path leads out of a directory', () => {
  using directory = temporaryDirectory();
  const inside = join(directory.path, 'inside');
  mkdirSync(join(inside, 'a/b'), { recursive: true });
  writeFileSync(join(directory.path, 'secret'), 'outside');
  writeFileSync(join(inside, 'public'), 'inside');
  symlinkSync('../secret', join(inside, 'up'));
  symlinkSync('/etc/passwd', join(inside, 'absolute'));
  symlinkSync('a/../../secret', join(inside, 'around'));
  symlinkSync('..', join(inside, 'parent'));
  symlinkSync('../../public', join(inside, 'a/b/fine'));
  symlinkSync('loop', join(inside, 'loop'));
  symlinkSync('a/', join(inside, 'slash'));
  using bench = new Bench({ preopens: [{ guestPath: '/d', hostPath: inside }] });
  const before = openDescriptors();
  const escapes = [
    '..',
    '../secret',
    '/etc/passwd',
    'a/../../secret',
    'a/b/../../../secret',
    'up',
    'absolute',
    'around',
  ];
  escapes.push('parent', 'parent/secret', 'a/b/../../parent/secret', './../inside/public', '../inside/public', 'up/');
  for (const path of escapes) {
    assert.equal(bench.open(path), -ERRNO.ENOTCAPABLE, path);
    assert.equal(bench.call('path_filestat_get', 3, 1, ...bench.put(path), 64), ERRNO.ENOTCAPABLE, path);
  }
  assert.equal(bench.open('up', { follow: false }), -ERRNO.ELOOP, 'a link itself cannot be opened');
  assert.equal(bench.open('loop'), -ERRNO.ELOOP);
  assert.equal(bench.open('loop/x'), -ERRNO.ELOOP);
  assert.equal(bench.open(''), -ERRNO.ENOENT);
  assert.equal(bench.open('a/x/../../public'), -ERRNO.ENOENT);
  assert.equal(bench.open('public/x'), -ERRNO.ENOTDIR);
  assert.equal(bench.open('bad\0name'), -ERRNO.EILSEQ);
  assert.equal(bench.call('path_unlink_file', 3, ...bench.put(Uint8Array.of(0xff, 0xfe))), ERRNO.EILSEQ);
  assert.equal(bench.call('path_symlink', ...bench.put('/etc'), 3, ...bench.put('etc')), ERRNO.ENOTCAPABLE);
  assert.equal(bench.call('path_rename', 3, ...bench.put('public'), 3, ...bench.put('../stolen')), ERRNO.ENOTCAPABLE);
  assert.equal(bench.call('path_link', 3, 0, ...bench.put('../secret'), 3, ...bench.put('s')), ERRNO.ENOTCAPABLE);
  assert.equal(openDescriptors(), before, 'no descriptor of the host was left open');
  for (const path of ['a/b/fine', 'a/b/../../public', './public', 'a//b/./fine', 'slash/b/fine']) {
    const fd = bench.open(path);
    assert.equal(bench.read(fd), 'inside', path);
    assert.equal(bench.call('fd_close', fd), 0);
  }
  // `..` is bounded by the descriptor that a walk begins at, not only by the preopen.
  const a = bench.open('a', { flags: DIRECTORY });
  assert.equal(bench.open('../public', { fd: a }), -ERRNO.ENOTCAPABLE);
  assert.equal(bench.open('public', { follow: false }) > 0, true);
});

test('a read-only directory', () => {
  using directory = temporaryDirectory();
  writeFileSync(join(directory.path, 'file'), 'x');
  using bench = new Bench({ preopens: [{ guestPath: '/d', hostPath: directory.path, readOnly: true }] });
  assert.equal(bench.open('file', { rights: BOTH }), -ERRNO.EROFS);
  assert.equal(bench.open('new', { flags: CREATE }), -ERRNO.EROFS);
  assert.equal(bench.open('file', { flags: TRUNCATE }), -ERRNO.EROFS);
  assert.equal(bench.call('path_unlink_file', 3, ...bench.put('file')), ERRNO.EROFS);
  assert.equal(bench.call('path_create_directory', 3, ...bench.put('sub')), ERRNO.EROFS);
  assert.equal(bench.call('path_rename', 3, ...bench.put('file'), 3, ...bench.put('other')), ERRNO.EROFS);
  assert.equal(bench.call('path_symlink', ...bench.put('file'), 3, ...bench.put('other')), ERRNO.EROFS);
  assert.equal(bench.read(bench.open('file')), 'x');
  assert.deepEqual(readdirSync(directory.path), ['file']);
});

/** As an image carries it. */
function carry(saved: SavedWasi): SavedWasi {
  return decode(encode(saved)) as SavedWasi;
}

test('open files go on where they were, on a host with other directories', () => {
  using directory = temporaryDirectory();
  const [here, there] = [join(directory.path, 'here'), join(directory.path, 'there')];
  mkdirSync(join(here, 'sub'), { recursive: true });
  const before = openDescriptors();
  let saved: SavedWasi;
  {
    using bench = new Bench({ args: ['prog'], environ: ['A=1'], preopens: [{ guestPath: '/d', hostPath: here }] });
    const written = bench.open('sub/log', { flags: CREATE | EXCLUSIVE | TRUNCATE, rights: BOTH, fdflags: APPEND });
    bench.write(written, 'line 1\n');
    const read = bench.open('sub/../sub/log');
    assert.equal(bench.read(read, 5), 'line ');
    const sub = bench.open('sub', { flags: DIRECTORY });
    assert.deepEqual([written, read, sub], [4, 5, 6]);
    bench.call('fd_close', 2);
    saved = carry(bench.wasi.save());
  }
  assert.equal(openDescriptors(), before);
  execFileSync('cp', ['-r', here, there]);
  {
    using bench = new Bench({ saved, args: ['other'], preopens: [{ guestPath: '/d', hostPath: there }] });
    assert.equal(bench.write(2, 'closed before'), ERRNO.EBADF);
    assert.equal(bench.read(5, 10), '1\n');
    assert.equal(bench.write(4, 'line 2\n'), 0);
    assert.equal(bench.read(5, 10), 'line 2\n');
    assert.equal(bench.read(bench.open('log', { fd: 6 })), 'line 1\nline 2\n');
    assert.equal(bench.call('args_sizes_get', 0, 4), 0);
    assert.deepEqual([bench.u32(0), bench.u32(4)], [1, 5]);
    assert.equal(bench.call('fd_prestat_get', 3, 8), 0);
    assert.equal(bench.call('fd_prestat_get', 6, 8), ERRNO.EBADF);
  }
  assert.equal(readFileSync(join(here, 'sub/log'), 'utf8'), 'line 1\n');
  const restore =
    (hostPath: string, guestPath: string, readOnly = false) =>
    (): unknown =>
      new Bench({ saved, preopens: [{ guestPath, hostPath, readOnly }] });
  assert.throws(restore(there, '/other'), {
    code: 'KEDGE_RESTORE_FILE',
    message: /\/d/u,
    hint: /--dir HOST-DIRECTORY:\/d/u,
  });
  assert.throws(restore(there, '/d', true), { code: 'KEDGE_RESTORE_FILE', message: /\/d\/sub\/log.*read only/u });
  assert.throws(restore(directory.path, '/d'), {
    code: 'KEDGE_RESTORE_FILE',
    message: /^cannot open \/d\/sub\/log again: ENOENT: no such file or directory$/u,
  });
  assert.throws(restore(join(directory.path, 'nowhere'), '/d'), { code: 'KEDGE_RESTORE_FILE' });
  assert.equal(openDescriptors(), before, 'a failed restore leaves nothing open');
  assert.equal(existsSync(join(directory.path, 'sub')), false);
});

test('a file that was deleted or renamed cannot move', () => {
  using directory = temporaryDirectory();
  using bench = new Bench({ preopens: [{ guestPath: '/d', hostPath: directory.path }] });
  bench.open('file', { flags: CREATE, rights: WRITE });
  bench.wasi.save();
  bench.call('path_unlink_file', 3, ...bench.put('file'));
  assert.throws(() => bench.wasi.save(), { code: 'KEDGE_FILE_DELETED', message: /\/d\/file/u });
  // Another file of the same name is not the one that is open, and neither is one that was renamed.
  writeFileSync(join(directory.path, 'file'), 'another');
  assert.throws(() => bench.wasi.save(), { code: 'KEDGE_FILE_DELETED' });
  bench.call('fd_close', 4);
  bench.open('file');
  bench.wasi.save();
  bench.call('path_rename', 3, ...bench.put('file'), 3, ...bench.put('renamed'));
  assert.throws(() => bench.wasi.save(), { code: 'KEDGE_FILE_DELETED' });
});

test('an open that there is no descriptor for makes no file', () => {
  using directory = temporaryDirectory();
  writeFileSync(join(directory.path, 'file'), 'kept');
  using bench = new Bench({ preopens: [{ guestPath: '/d', hostPath: directory.path }] });
  const saved = bench.wasi.save();
  const [stream] = saved.descriptors;
  assert.ok(stream !== undefined);
  const descriptors = Array.from({ length: MAX_DESCRIPTORS }, (_, fd) => saved.descriptors[fd] ?? { ...stream, fd });
  using full = new Bench({
    saved: { ...saved, descriptors },
    preopens: [{ guestPath: '/d', hostPath: directory.path }],
  });
  assert.equal(full.open('new', { flags: CREATE, rights: BOTH }), -ERRNO.EMFILE);
  assert.equal(full.open('file', { flags: TRUNCATE, rights: BOTH }), -ERRNO.EMFILE);
  assert.deepEqual(readdirSync(directory.path), ['file']);
  assert.equal(readFileSync(join(directory.path, 'file'), 'utf8'), 'kept');
  assert.equal(full.call('fd_close', 2), 0);
  assert.equal(full.open('new', { flags: CREATE, rights: BOTH }), 2);
});
