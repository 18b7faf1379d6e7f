/** The functions of WASI that take a path. Each walks it inside the directory of its descriptor (`paths.ts`). */
import {
  type BigIntStats,
  closeSync,
  constants,
  fstatSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readlinkSync,
  renameSync,
  rmdirSync,
  symlinkSync,
  unlinkSync,
} from 'node:fs';
import type { HostCallContext, HostFunction } from '../engine/engine.ts';
import { defineFunction } from './define.ts';
import type { Descriptor, DescriptorTable, DirectoryDescriptor } from './descriptors.ts';
import { ERRNO, type Errno, WasiError } from './errno.ts';
import { hostFlags, mustBeWritable, setFileTimes } from './files.ts';
import type { GuestMemory } from './memory.ts';
import { type LastLink, type Place, withPlace } from './paths.ts';
import { ALL_FD_FLAGS, ALL_RIGHTS, LOOKUP_FOLLOW, OPEN_FLAG, WRITE_RIGHTS } from './rights.ts';
import { putFilestat, timesOf } from './stat.ts';

export interface OpenRequest {
  readonly openFlags: number;
  readonly rights: bigint;
  readonly inheriting: bigint;
  readonly flags: number;
}

export function pathFunctions(
  context: HostCallContext,
  descriptors: DescriptorTable,
): Readonly<Record<string, HostFunction>> {
  /** A function that changes the tree at one place. */
  const change = (action: (place: Place) => void): HostFunction =>
    defineFunction<[number, number, number]>(context, '(i*~)i', (memory, fd, path, length) => {
      const directory = descriptors.directory(fd);
      withPlace(directory, memory.text(path, length), 'entry', (place) => {
        mustBeWritable(directory.preopen);
        action(place);
      });
      return undefined;
    });
  return {
    path_create_directory: change((place) => mkdirSync(place.hostPath)),
    path_remove_directory: change((place) => rmdirSync(place.hostPath)),
    path_unlink_file: change((place) => unlinkSync(place.hostPath)),
    path_open: defineFunction<[number, number, number, number, number, bigint, bigint, number, number]>(
      context,
      '(ii*~iIIi*)i',
      (memory, fd, lookup, path, length, openFlags, rights, inheriting, flags, out) => {
        const directory = descriptors.directory(fd);
        memory.setU32(out, 0);
        if ((flags & ~ALL_FD_FLAGS) !== 0 || openFlags >>> 0 > 15) {
          return ERRNO.EINVAL;
        }
        descriptors.mustHaveRoom();
        const request = { openFlags, rights: rights & ALL_RIGHTS, inheriting: inheriting & ALL_RIGHTS, flags };
        const opened = openAt(directory, memory.text(path, length), lastLinkOf(lookup), request);
        memory.setU32(out, descriptors.insert(opened));
        return undefined;
      },
    ),
    path_filestat_get: defineFunction<[number, number, number, number, number]>(
      context,
      '(ii*~*)i',
      (memory, fd, lookup, path, length, out) => {
        const directory = descriptors.directory(fd);
        withPlace(directory, memory.text(path, length), lastLinkOf(lookup), (place) => {
          putFilestat(memory, out, existing(place));
        });
        return undefined;
      },
    ),
    path_filestat_set_times: defineFunction<[number, number, number, number, bigint, bigint, number]>(
      context,
      '(ii*~IIi)i',
      (memory, fd, lookup, path, length, accessed, modified, flags) => {
        const directory = descriptors.directory(fd);
        const times = timesOf(accessed, modified, flags);
        withPlace(directory, memory.text(path, length), lastLinkOf(lookup), (place) => {
          mustBeWritable(directory.preopen);
          existing(place);
          setFileTimes(place.hostPath, false, times);
        });
        return undefined;
      },
    ),
    path_readlink: defineFunction<[number, number, number, number, number, number]>(
      context,
      '(i*~*~*)i',
      (memory, fd, path, length, buffer, size, out) => {
        const directory = descriptors.directory(fd);
        const target = memory.bytes(buffer, size);
        const link = withPlace(directory, memory.text(path, length), 'keep', (place) => {
          existing(place);
          return readlinkSync(place.hostPath);
        });
        const text = new TextEncoder().encode(link).subarray(0, target.length);
        target.set(text);
        memory.setU32(out, text.length);
        return undefined;
      },
    ),
    path_symlink: defineFunction<[number, number, number, number, number]>(
      context,
      '(*~i*~)i',
      (memory, target, targetLength, fd, path, length) => {
        const directory = descriptors.directory(fd);
        const text = memory.text(target, targetLength);
        if (text.startsWith('/')) {
          return ERRNO.ENOTCAPABLE;
        }
        withPlace(directory, memory.text(path, length), 'entry', (place) => {
          mustBeWritable(directory.preopen);
          symlinkSync(text, place.hostPath);
        });
        return undefined;
      },
    ),
    ...twoPathFunctions(context, descriptors),
  };
}

function twoPathFunctions(
  context: HostCallContext,
  descriptors: DescriptorTable,
): Readonly<Record<string, HostFunction>> {
  /** `find`, if given, is what the source is looked for with before there is a look at the target, as Linux does it. */
  const both = (
    memory: GuestMemory,
    from: { fd: number; path: number; length: number; lastLink: LastLink; find?: (place: Place) => unknown },
    to: { fd: number; path: number; length: number },
    action: (source: Place, target: Place) => void,
  ): Errno | undefined => {
    const sourceDirectory = descriptors.directory(from.fd);
    const targetDirectory = descriptors.directory(to.fd);
    const targetPath = memory.text(to.path, to.length);
    withPlace(sourceDirectory, memory.text(from.path, from.length), from.lastLink, (source) => {
      from.find?.(source);
      withPlace(targetDirectory, targetPath, 'entry', (target) => {
        mustBeWritable(sourceDirectory.preopen);
        mustBeWritable(targetDirectory.preopen);
        action(source, target);
      });
    });
    return undefined;
  };
  return {
    path_link: defineFunction<[number, number, number, number, number, number, number]>(
      context,
      '(ii*~i*~)i',
      (memory, fd, lookup, path, length, toFd, toPath, toLength) =>
        both(
          memory,
          { fd, path, length, lastLink: lastLinkOf(lookup), find: existing },
          { fd: toFd, path: toPath, length: toLength },
          (source, target) => linkSync(source.hostPath, target.hostPath),
        ),
    ),
    path_rename: defineFunction<[number, number, number, number, number, number]>(
      context,
      '(i*~i*~)i',
      (memory, fd, path, length, toFd, toPath, toLength) =>
        both(
          memory,
          { fd, path, length, lastLink: 'entry' },
          { fd: toFd, path: toPath, length: toLength },
          (source, target) => renameSync(source.hostPath, target.hostPath),
        ),
    ),
  };
}

function lastLinkOf(lookup: number): LastLink {
  return (lookup & LOOKUP_FOLLOW) === 0 ? 'keep' : 'follow';
}

/** What is at a place; never follows a link. ENOTDIR when the path ended in a slash and it is no directory. */
function existing(place: Place): BigIntStats {
  const stats = lstatSync(place.hostPath, { bigint: true });
  if (place.mustBeDirectory && !stats.isDirectory()) {
    throw new WasiError(ERRNO.ENOTDIR);
  }
  return stats;
}

/**
 * Opens a file or a directory. Devices, pipes and sockets of the host are refused with ENOTSUP: they have no position
 * that could be saved.
 */
export function openAt(
  directory: DirectoryDescriptor,
  path: string,
  lastLink: LastLink,
  request: OpenRequest,
): Descriptor {
  const { openFlags, rights, inheriting, flags } = request;
  const creates = (openFlags & OPEN_FLAG.create) !== 0;
  const wantsDirectory = (openFlags & OPEN_FLAG.directory) !== 0;
  if (creates && wantsDirectory) {
    throw new WasiError(ERRNO.EINVAL);
  }
  // No open makes a directory, and Linux says so before it follows a link.
  const asEntry = creates && ((openFlags & OPEN_FLAG.exclusive) !== 0 || path.endsWith('/'));
  return withPlace(directory, path, asEntry ? 'entry' : lastLink, (place) => {
    if (creates && place.mustBeDirectory) {
      const there = place.name === '.' || place.name === '..';
      throw new WasiError(there && (openFlags & OPEN_FLAG.exclusive) !== 0 ? ERRNO.EEXIST : ERRNO.EISDIR);
    }
    if (creates || (openFlags & OPEN_FLAG.truncate) !== 0 || (rights & WRITE_RIGHTS) !== 0n) {
      writableUnlessDirectory(directory, place);
    }
    const host = openSync(place.hostPath, kindFlags(request, place) | creationFlags(openFlags), 0o666);
    const stats = fstatSync(host);
    const common = { preopen: directory.preopen, path: place.path, host, rights, inheriting, flags };
    if (stats.isFile()) {
      return { kind: 'file', ...common, offset: 0 };
    }
    if (stats.isDirectory()) {
      return { kind: 'directory', ...common, preopened: false, listing: undefined };
    }
    closeSync(host);
    throw new WasiError(ERRNO.ENOTSUP);
  });
}

/** What is asked for as a directory is opened for reading, whatever the rights are. */
function kindFlags({ openFlags, rights, flags }: OpenRequest, { mustBeDirectory }: Place): number {
  if ((openFlags & OPEN_FLAG.directory) !== 0) {
    return constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW;
  }
  return hostFlags(rights, flags) | (mustBeDirectory ? constants.O_DIRECTORY : 0);
}

function creationFlags(openFlags: number): number {
  return (
    ((openFlags & OPEN_FLAG.create) === 0 ? 0 : constants.O_CREAT) |
    ((openFlags & OPEN_FLAG.exclusive) === 0 ? 0 : constants.O_EXCL) |
    ((openFlags & OPEN_FLAG.truncate) === 0 ? 0 : constants.O_TRUNC)
  );
}

/** Asking for all rights is usual for a directory, so only a file in a read-only preopen is refused. */
function writableUnlessDirectory(directory: DirectoryDescriptor, place: Place): void {
  const stats = lstatSync(place.hostPath, { throwIfNoEntry: false });
  if (stats?.isDirectory() !== true) {
    mustBeWritable(directory.preopen);
  }
}
