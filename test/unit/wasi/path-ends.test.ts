/**
 * Paths that end in a slash, `.` or `..`, and links: each call is made on one tree by us and on another like it by Node, which is
 * to say by Linux, and both must give the same answer and leave the same tree.
 */
import assert from 'node:assert/strict';
import {
  closeSync,
  constants,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readlinkSync,
  renameSync,
  rmdirSync,
  statSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { ERRNO, errnoOf } from '../../../src/wasi/errno.ts';
import { Bench, temporaryDirectory } from './support.ts';

const READ = 1n << 1n;
const WRITE = 1n << 6n;
const [CREATE, DIRECTORY, EXCLUSIVE, TRUNCATE] = [1, 2, 4, 8];

const BODIES = {
  to_dir: 'dir',
  to_dir_slash: 'dir/',
  to_file: 'file',
  to_file_slash: 'file/',
  to_file_dot: 'file/.',
  to_new: 'new',
  to_new_slash: 'new/',
  to_link: 'to_dir',
  to_here: '.',
  loop: 'loop',
} as const;

const NAMES = ['new', 'file', 'dir', 'full', 'missing/new', 'file/new', 'dir/new', 'full/file', ...Object.keys(BODIES)];
const ENDS = ['', '/', '/.', '/..'];
const PATHS = [...NAMES.flatMap((name) => ENDS.map((end) => name + end)), '.', './', 'dir//', 'dir/./', 'dir/../new/']
  // That leads out, which is for us alone to refuse.
  .filter((path) => path !== 'to_here/..');
/** For calls with two paths, where all pairs would be too many. */
const SOME = ['new', 'file', 'dir', 'full', 'missing/new', 'to_dir', 'to_file', 'to_new'].flatMap((name) =>
  ['', '/', '/.', '/..'].map((end) => name + end),
);

function plant(root: string): void {
  mkdirSync(join(root, 'dir'), { recursive: true });
  mkdirSync(join(root, 'full'));
  writeFileSync(join(root, 'full/file'), 'in full');
  writeFileSync(join(root, 'file'), 'a file');
  for (const [name, body] of Object.entries(BODIES)) symlinkSync(body, join(root, name));
}

/** Every name with what it is, with as few calls as will do: they are most of what this test takes. */
function listing(root: string): string[] {
  return readdirSync(root, { withFileTypes: true })
    .flatMap((entry) => {
      const path = `${root}/${entry.name}`;
      if (entry.isDirectory()) return [`${entry.name}/`, ...listing(path).map((below) => `${entry.name}/${below}`)];
      if (!entry.isFile()) return [`${entry.name}@`];
      const { size, nlink } = lstatSync(path);
      return [`${entry.name} ${size} ${nlink}`];
    })
    .sort();
}

function errno(call: () => unknown): number {
  try {
    call();
    return 0;
  } catch (error) {
    const found = errnoOf(error);
    assert.ok(found !== undefined, String(error));
    return found;
  }
}

interface Case {
  readonly what: string;
  readonly ours: (bench: Bench) => number;
  /** The path below the root of the other tree. */
  readonly linux: (root: string) => unknown;
}

function open(path: string, flags: number, rights: bigint, follow: boolean): Case {
  const access = rights === READ ? constants.O_RDONLY : rights === WRITE ? constants.O_WRONLY : constants.O_RDWR;
  const bits =
    access |
    (flags & CREATE ? constants.O_CREAT : 0) |
    (flags & DIRECTORY ? constants.O_DIRECTORY : 0) |
    (flags & EXCLUSIVE ? constants.O_EXCL : 0) |
    (flags & TRUNCATE ? constants.O_TRUNC : 0) |
    (follow ? 0 : constants.O_NOFOLLOW);
  return {
    what: `open ${path} ${flags} ${rights} ${follow}`,
    ours: (bench) => {
      const fd = bench.open(path, { flags, rights, follow });
      return fd < 0 ? -fd : bench.call('fd_close', fd);
    },
    linux: (root) => closeSync(openSync(`${root}/${path}`, bits, 0o666)),
  };
}

const OPENS: readonly (readonly [flags: number, rights: bigint])[] = [
  [0, READ],
  [0, READ | WRITE],
  [CREATE, READ],
  [CREATE, WRITE],
  [CREATE | EXCLUSIVE, WRITE],
  [CREATE | TRUNCATE, WRITE],
  [CREATE | DIRECTORY, READ],
  [TRUNCATE, WRITE],
  [DIRECTORY, READ],
];

function* cases(): Generator<Case> {
  for (const path of PATHS) {
    const one = (what: string, name: string, linux: (path: string) => unknown): Case => ({
      what: `${what} ${path}`,
      ours: (bench) => bench.call(name, 3, ...bench.put(path)),
      linux: (root) => linux(`${root}/${path}`),
    });
    yield one('mkdir', 'path_create_directory', (p) => mkdirSync(p));
    yield one('rmdir', 'path_remove_directory', (p) => rmdirSync(p));
    yield one('unlink', 'path_unlink_file', (p) => unlinkSync(p));
    yield {
      what: `stat ${path}`,
      ours: (bench) => bench.call('path_filestat_get', 3, 1, ...bench.put(path), 64),
      linux: (root) => statSync(`${root}/${path}`),
    };
    yield {
      what: `lstat ${path}`,
      ours: (bench) => bench.call('path_filestat_get', 3, 0, ...bench.put(path), 64),
      linux: (root) => lstatSync(`${root}/${path}`),
    };
    yield {
      what: `readlink ${path}`,
      ours: (bench) => bench.call('path_readlink', 3, ...bench.put(path), 512, 64, 24),
      linux: (root) => readlinkSync(`${root}/${path}`),
    };
    yield {
      what: `symlink ${path}`,
      ours: (bench) => bench.call('path_symlink', ...bench.put('body'), 3, ...bench.put(path)),
      linux: (root) => symlinkSync('body', `${root}/${path}`),
    };
    for (const [flags, rights] of OPENS) {
      yield open(path, flags, rights, true);
      if (rights === READ) yield open(path, flags, rights, false);
    }
  }
  for (const from of SOME) {
    for (const to of SOME) {
      yield {
        what: `rename ${from} ${to}`,
        ours: (bench) => bench.call('path_rename', 3, ...bench.put(from), 3, ...bench.put(to)),
        linux: (root) => renameSync(`${root}/${from}`, `${root}/${to}`),
      };
      yield {
        what: `link ${from} ${to}`,
        ours: (bench) => bench.call('path_link', 3, 0, ...bench.put(from), 3, ...bench.put(to)),
        linux: (root) => linkSync(`${root}/${from}`, `${root}/${to}`),
      };
    }
  }
}

/** A tree, and another when it is no longer as it was planted. */
class Tree {
  readonly #base: string;
  #count = 0;
  root = '';
  planted: readonly string[] = [];

  constructor(base: string) {
    this.#base = base;
    this.replant();
  }

  replant(): void {
    this.#count += 1;
    this.root = join(this.#base, String(this.#count));
    plant(this.root);
    this.planted = listing(this.root);
  }
}

test('paths end as in Linux', () => {
  using directory = temporaryDirectory();
  const [mine, theirs] = [new Tree(join(directory.path, 'a')), new Tree(join(directory.path, 'b'))];
  const differences: string[] = [];
  let count = 0;
  let bench = new Bench({ preopens: [{ guestPath: '/d', hostPath: mine.root }] });
  try {
    for (const { what, ours, linux } of cases()) {
      count += 1;
      // Arguments are put into 32 KiB of memory that are never given back.
      if (count % 100 === 0) {
        bench[Symbol.dispose]();
        bench = new Bench({ preopens: [{ guestPath: '/d', hostPath: mine.root }] });
      }
      const [here, there] = [ours(bench), errno(() => linux(theirs.root))];
      if (here !== there) differences.push(`${what}: ${called(here)}, Linux ${called(there)}`);
      // What failed has changed nothing, except, perhaps, an open.
      if (here !== 0 && there !== 0 && !what.startsWith('open')) continue;
      const [left, right] = [listing(mine.root), listing(theirs.root)];
      if (left.join() !== right.join()) differences.push(`${what}: another tree is left`);
      if (left.join() !== mine.planted.join() || right.join() !== theirs.planted.join()) {
        mine.replant();
        theirs.replant();
        bench[Symbol.dispose]();
        bench = new Bench({ preopens: [{ guestPath: '/d', hostPath: mine.root }] });
      }
    }
  } finally {
    bench[Symbol.dispose]();
  }
  assert.deepEqual(differences, []);
  assert.ok(count > 2000);
});

function called(value: number): string {
  return Object.entries(ERRNO).find(([, number]) => number === value)?.[0] ?? String(value);
}
