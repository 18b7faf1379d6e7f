/**
 * Names of files as a guest gives them, resolved inside one directory and never outside it.
 *
 * Theory of operation: a path is walked one component at a time. Every directory on the way is opened with O_NOFOLLOW
 * relative to the one before (through /proc/self/fd, Linux's way to have openat in Node), symbolic links are read and
 * walked by us, and `..` goes back along the directories we opened. So nobody who changes the tree at the same time, and
 * no link, absolute or not, can lead the walk above the directory it began in; that is answered with ENOTCAPABLE.
 *
 * Limits: needs /proc. Names that are not UTF-8 cannot be reached.
 */
import { closeSync, constants, openSync, readlinkSync } from 'node:fs';
import { ERRNO, errnoOf, WasiError } from './errno.ts';

/** Symbolic links on one path, as in Linux. */
const MAX_LINKS = 40;

/** A directory that a walk begins in: an open descriptor of the host, and its name inside its preopen. */
export interface OpenDirectory {
  readonly host: number;
  /** Relative to the preopen; empty for the preopen itself. */
  readonly path: string;
}

/**
 * What becomes of the last component of a path, if it is a link. `follow`: goes where it leads. `keep`: the link itself is meant,
 * but with a slash behind it what it leads to. `entry`: the entry of the directory is meant, to be made, moved or deleted, and
 * never what it leads to.
 */
export type LastLink = 'follow' | 'keep' | 'entry';

/** Where a path leads: a name in an open directory. The name is one component, or `.` for the directory itself. */
export interface Place {
  /**
   * What `node:fs` takes; its last component must not be followed if it is a link. Valid inside `withPlace` only. Of an `entry` it
   * ends as the guest's path does, in a slash, `.` or `..`: the calls that take an entry never follow it, and each has its own
   * answer to such ends, which the kernel knows best.
   */
  readonly hostPath: string;
  readonly name: string;
  /** Relative to the preopen, without `.`, `..` and links. */
  readonly path: string;
  /** The path ended in a slash, or in `.` or `..`. */
  readonly mustBeDirectory: boolean;
}

/** The path of an open directory of the host itself. */
export function hostPathOf(directory: number): string {
  return `/proc/self/fd/${directory}`;
}

/** Opens a directory of the host for walks. Throws like `openSync`. */
export function openHostDirectory(path: string): number {
  return openSync(path, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
}

/**
 * Walks to the place a path names and calls `use` with it. Throws ENOENT for an empty path or a missing directory on the way,
 * ENOTCAPABLE when the path leads outside, ELOOP.
 */
export function withPlace<Result>(
  start: OpenDirectory,
  path: string,
  lastLink: LastLink,
  use: (place: Place) => Result,
): Result {
  if (path === '') {
    throw new WasiError(ERRNO.ENOENT);
  }
  const opened: OpenDirectory[] = [];
  try {
    return use(walk(start, path, lastLink, opened));
  } finally {
    for (const directory of opened) {
      closeSync(directory.host);
    }
  }
}

function walk(start: OpenDirectory, path: string, lastLink: LastLink, opened: OpenDirectory[]): Place {
  const pending = components(path);
  let slash = path.endsWith('/');
  let links = 0;
  for (;;) {
    const top = opened.at(-1) ?? start;
    const name = pending.shift() ?? '.';
    const last = pending.length === 0;
    const hostPath = `${hostPathOf(top.host)}/${name}`;
    if (name === '..') {
      const left = opened.pop();
      if (left === undefined) {
        throw new WasiError(ERRNO.ENOTCAPABLE);
      }
      if (last && lastLink === 'entry') {
        opened.push(left);
        return { hostPath, name, path: top.path, mustBeDirectory: true };
      }
      closeSync(left.host);
      // A path that ends here means the directory that is on top now.
      if (last) {
        pending.push('.');
      }
      continue;
    }
    if (name === '.') {
      if (last) {
        return { hostPath, name, path: top.path, mustBeDirectory: true };
      }
      continue;
    }
    const target =
      last && (lastLink === 'entry' || (lastLink === 'keep' && !slash)) ? undefined : readLink(hostPath, last);
    if (target !== undefined) {
      links += 1;
      if (links > MAX_LINKS) {
        throw new WasiError(ERRNO.ELOOP);
      }
      pending.unshift(...components(target));
      slash ||= last && target.endsWith('/');
    } else if (last) {
      const end = slash && lastLink === 'entry' ? '/' : '';
      return { hostPath: hostPath + end, name, path: join(top.path, name), mustBeDirectory: slash };
    } else {
      opened.push({ host: openHostDirectory(hostPath), path: join(top.path, name) });
    }
  }
}

/** The names of a path. An absolute one is refused: everything is relative to some directory. */
function components(path: string): string[] {
  if (path.startsWith('/')) {
    throw new WasiError(ERRNO.ENOTCAPABLE);
  }
  return path.split('/').filter((part) => part !== '');
}

/** Where a link leads; undefined when it is none, or when there is nothing and `mayMiss`. */
function readLink(hostPath: string, mayMiss: boolean): string | undefined {
  try {
    return readlinkSync(hostPath);
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === ERRNO.EINVAL || (mayMiss && errno === ERRNO.ENOENT)) {
      return undefined;
    }
    throw error;
  }
}

function join(directory: string, name: string): string {
  return directory === '' ? name : `${directory}/${name}`;
}
