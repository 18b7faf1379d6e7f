/** The functions of WASI that take a descriptor and no path. */
import { closeSync, fstatSync, fsyncSync, readdirSync, lstatSync } from 'node:fs';
import type { HostCallContext, HostFunction } from '../engine/engine.ts';
import { INTERRUPTED } from '../wasi-sock/errno.ts';
import { pollRequest } from '../wasi-sock/poll.ts';
import type { SocketTable } from '../wasi-sock/table.ts';
import { defineFunction } from './define.ts';
import type { Descriptor, DescriptorTable, DirectoryDescriptor, DirectoryEntry } from './descriptors.ts';
import { ERRNO, type Errno, WasiError } from './errno.ts';
import {
  allocateFile,
  exact,
  fileType,
  mustBeWritable,
  readAt,
  readFile,
  reopenFlags,
  resizeFile,
  seekFile,
  setFileTimes,
  syncFile,
  writeAt,
  writeFile,
} from './files.ts';
import type { GuestMemory } from './memory.ts';
import { hostPathOf } from './paths.ts';
import { ALL_FD_FLAGS, FD_FLAG, FILE_TYPE } from './rights.ts';
import { transfer } from './sockets.ts';
import { putFilestat, timesOf } from './stat.ts';
import { readInput, type Stdio, writeOutput } from './stdio.ts';
import type { Waiter } from './waiting.ts';

export interface DescriptorOptions {
  readonly descriptors: DescriptorTable;
  readonly stdio: Stdio;
  readonly sockets: SocketTable | undefined;
  readonly waiter: Waiter;
}

const DIRENT_SIZE = 24;

export function descriptorFunctions(
  context: HostCallContext,
  options: DescriptorOptions,
): Readonly<Record<string, HostFunction>> {
  const { descriptors } = options;
  return {
    ...transferFunctions(context, options),
    fd_close: defineFunction<[number]>(context, '(i)i', (_memory, fd) => {
      release(descriptors.remove(fd), options.sockets);
      return undefined;
    }),
    fd_renumber: defineFunction<[number, number]>(context, '(ii)i', (_memory, from, to) => {
      descriptors.get(from);
      descriptors.get(to);
      if (from !== to) {
        release(descriptors.remove(to), options.sockets);
        descriptors.set(to >>> 0, descriptors.remove(from));
      }
      return undefined;
    }),
    fd_prestat_get: defineFunction<[number, number]>(context, '(i*)i', (memory, fd, out) => {
      memory.setU8(out, 0);
      memory.setU32((out >>> 0) + 4, new TextEncoder().encode(preopened(descriptors, fd).preopen.guestPath).length);
      return undefined;
    }),
    fd_prestat_dir_name: defineFunction<[number, number, number]>(context, '(i*~)i', (memory, fd, pointer, length) => {
      const name = new TextEncoder().encode(preopened(descriptors, fd).preopen.guestPath);
      if (name.length > length >>> 0) {
        return ERRNO.ENAMETOOLONG;
      }
      memory.bytes(pointer, name.length).set(name);
      return undefined;
    }),
    fd_fdstat_get: defineFunction<[number, number]>(context, '(i*)i', (memory, fd, out) => {
      const descriptor = descriptors.get(fd);
      memory.bytes(out, 24).fill(0);
      memory.setU8(out, typeOf(descriptor));
      memory.setU16((out >>> 0) + 2, descriptor.flags);
      memory.setU64((out >>> 0) + 8, descriptor.rights);
      memory.setU64((out >>> 0) + 16, descriptor.inheriting);
      return undefined;
    }),
    fd_fdstat_set_flags: defineFunction<[number, number]>(context, '(ii)i', (_memory, fd, flags) => {
      const descriptor = descriptors.get(fd);
      if ((flags & ~ALL_FD_FLAGS) !== 0) {
        return ERRNO.EINVAL;
      }
      if (descriptor.kind === 'file') {
        const changed = reopenFlags(descriptor, flags);
        if (changed !== descriptor) {
          descriptors.set(fd >>> 0, changed);
        }
      } else if ((flags & ~(FD_FLAG.nonblock | FD_FLAG.append)) === 0) {
        descriptor.flags = flags;
        if (descriptor.kind === 'socket') {
          options.sockets?.setNonBlocking(descriptor.handle, (flags & FD_FLAG.nonblock) !== 0);
        }
      } else {
        return ERRNO.ENOTSUP;
      }
      return undefined;
    }),
    fd_fdstat_set_rights: defineFunction<[number, bigint, bigint]>(
      context,
      '(iII)i',
      (_memory, fd, rights, inheriting) => {
        const descriptor = descriptors.get(fd);
        const more = (BigInt.asUintN(64, rights) & ~descriptor.rights) | (inheriting & ~descriptor.inheriting);
        if (more !== 0n) {
          return ERRNO.ENOTCAPABLE;
        }
        descriptor.rights = rights;
        descriptor.inheriting = inheriting;
        return undefined;
      },
    ),
    fd_seek: defineFunction<[number, bigint, number, number]>(context, '(iIi*)i', (memory, fd, offset, whence, out) => {
      const file = descriptors.file(fd);
      memory.bytes(out, 8);
      memory.setU64(out, BigInt(seekFile(file, offset, whence)));
      return undefined;
    }),
    fd_tell: defineFunction<[number, number]>(context, '(i*)i', (memory, fd, out) => {
      memory.setU64(out, BigInt(descriptors.file(fd).offset));
      return undefined;
    }),
    fd_advise: defineFunction<[number, bigint, bigint, number]>(context, '(iIIi)i', (_memory, fd, _o, _l, advice) => {
      descriptors.file(fd);
      return advice >>> 0 > 5 ? ERRNO.EINVAL : undefined;
    }),
    fd_allocate: defineFunction<[number, bigint, bigint]>(context, '(iII)i', (_memory, fd, offset, length) => {
      const file = descriptors.file(fd);
      mustBeWritable(file.preopen);
      allocateFile(file, offset, length);
      return undefined;
    }),
    fd_datasync: syncFunction(context, descriptors, true),
    fd_sync: syncFunction(context, descriptors, false),
    fd_filestat_get: defineFunction<[number, number]>(context, '(i*)i', (memory, fd, out) => {
      const descriptor = descriptors.get(fd);
      if (descriptor.kind === 'file' || descriptor.kind === 'directory') {
        putFilestat(memory, out, fstatSync(descriptor.host, { bigint: true }));
      } else {
        memory.bytes(out, 64).fill(0);
        memory.setU8((out >>> 0) + 16, typeOf(descriptor));
      }
      return undefined;
    }),
    fd_filestat_set_size: defineFunction<[number, bigint]>(context, '(iI)i', (_memory, fd, size) => {
      const file = descriptors.file(fd, ERRNO.EINVAL);
      mustBeWritable(file.preopen);
      resizeFile(file, BigInt.asUintN(64, size));
      return undefined;
    }),
    fd_filestat_set_times: defineFunction<[number, bigint, bigint, number]>(
      context,
      '(iIIi)i',
      (_memory, fd, accessed, modified, flags) => {
        const descriptor = descriptors.get(fd);
        if (descriptor.kind !== 'file' && descriptor.kind !== 'directory') {
          return ERRNO.EBADF;
        }
        mustBeWritable(descriptor.preopen);
        setFileTimes(hostPathOf(descriptor.host), true, timesOf(accessed, modified, flags));
        return undefined;
      },
    ),
    fd_readdir: defineFunction<[number, number, number, bigint, number]>(
      context,
      '(i*~I*)i',
      (memory, fd, buffer, length, cookie, out) => {
        const directory = descriptors.directory(fd);
        memory.setU32(out, 0);
        const target = memory.bytes(buffer, length);
        memory.setU32(out, listDirectory(directory, target, BigInt.asUintN(64, cookie)));
        return undefined;
      },
    ),
  };
}

/** Reading and writing. */
function transferFunctions(
  context: HostCallContext,
  options: DescriptorOptions,
): Readonly<Record<string, HostFunction>> {
  const { descriptors, sockets, stdio } = options;
  /** Stores a byte count, unless the call was suspended. */
  const finish = (memory: GuestMemory, out: number, count: number | undefined): undefined => {
    if (count !== undefined) {
      memory.setU32(out, count);
    }
  };
  return {
    fd_read: defineFunction<[number, number, number, number]>(context, '(i*i*)i', (memory, fd, iovs, count, out) => {
      const descriptor = descriptors.get(fd);
      const buffers = memory.buffers(iovs, count);
      memory.bytes(out, 4);
      if (descriptor.kind === 'socket') {
        return finish(memory, out, transfer(context, sockets, descriptor.handle, 'receive', buffers, count));
      }
      if (descriptor.kind === 'directory') {
        return ERRNO.EISDIR;
      }
      if (descriptor.kind === 'stdio') {
        if (descriptor.stream !== 0) {
          return ERRNO.EBADF;
        }
        const ready = inputReady(options, (descriptor.flags & FD_FLAG.nonblock) !== 0);
        if (ready === INTERRUPTED) {
          context.suspend();
          return undefined;
        }
        if (ready <= 0) {
          return ready === 0 ? ERRNO.EAGAIN : (-ready as Errno);
        }
        memory.setU32(out, readInput(stdio.input, buffers));
        return undefined;
      }
      memory.setU32(out, readFile(descriptor, buffers));
      return undefined;
    }),
    fd_write: defineFunction<[number, number, number, number]>(context, '(i*i*)i', (memory, fd, iovs, count, out) => {
      const descriptor = descriptors.get(fd);
      const buffers = memory.buffers(iovs, count);
      memory.bytes(out, 4);
      if (descriptor.kind === 'socket') {
        return finish(memory, out, transfer(context, sockets, descriptor.handle, 'send', buffers, count));
      }
      if (descriptor.kind === 'directory') {
        return ERRNO.EISDIR;
      }
      if (descriptor.kind === 'stdio') {
        if (descriptor.stream === 0) {
          return ERRNO.EBADF;
        }
        const output = descriptor.stream === 1 ? stdio.output : stdio.errors;
        memory.setU32(
          out,
          writeOutput(output, buffers, () => context.stopRequested()),
        );
        return undefined;
      }
      memory.setU32(out, writeFile(descriptor, buffers));
      return undefined;
    }),
    fd_pread: defineFunction<[number, number, number, bigint, number]>(
      context,
      '(i*iI*)i',
      (memory, fd, iovs, count, offset, out) => {
        const file = descriptors.file(fd);
        const buffers = memory.buffers(iovs, count);
        memory.bytes(out, 4);
        memory.setU32(out, readAt(file, buffers, exact(BigInt.asUintN(64, offset))));
        return undefined;
      },
    ),
    fd_pwrite: defineFunction<[number, number, number, bigint, number]>(
      context,
      '(i*iI*)i',
      (memory, fd, iovs, count, offset, out) => {
        const file = descriptors.file(fd);
        const buffers = memory.buffers(iovs, count);
        memory.bytes(out, 4);
        // As in Linux, a file that appends does so whatever the position says.
        const append = (file.flags & FD_FLAG.append) !== 0;
        memory.setU32(out, writeAt(file, buffers, exact(BigInt.asUintN(64, offset)), append));
        return undefined;
      },
    ),
  };
}

/** Waits until standard input can be read without blocking. As `Waiter.poll`. */
function inputReady({ stdio: { input }, waiter }: DescriptorOptions, nonblocking: boolean): number {
  return input.kind === 'descriptor' ? waiter.poll([pollRequest(input.fd, 'read')], nonblocking ? 0 : -1) : 1;
}

/** Closes what a descriptor stands for. */
export function release(descriptor: Descriptor, sockets: SocketTable | undefined): void {
  if (descriptor.kind === 'file' || descriptor.kind === 'directory') {
    closeSync(descriptor.host);
  } else if (descriptor.kind === 'socket') {
    sockets?.close(descriptor.handle);
  }
}

function typeOf(descriptor: Descriptor): number {
  switch (descriptor.kind) {
    case 'stdio':
      return FILE_TYPE.characterDevice;
    case 'directory':
      return FILE_TYPE.directory;
    case 'file':
      return FILE_TYPE.regularFile;
    case 'socket':
      return descriptor.handle.kind === 'tcp' ? FILE_TYPE.socketStream : FILE_TYPE.socketDatagram;
  }
}

function preopened(descriptors: DescriptorTable, fd: number): DirectoryDescriptor {
  const descriptor = descriptors.get(fd);
  if (descriptor.kind !== 'directory' || !descriptor.preopened) {
    throw new WasiError(ERRNO.EBADF);
  }
  return descriptor;
}

function syncFunction(context: HostCallContext, descriptors: DescriptorTable, dataOnly: boolean): HostFunction {
  return defineFunction<[number]>(context, '(i)i', (_memory, fd) => {
    const descriptor = descriptors.get(fd);
    if (descriptor.kind === 'file') {
      syncFile(descriptor, dataOnly);
    } else if (descriptor.kind === 'directory') {
      fsyncSync(descriptor.host);
    } else {
      return ERRNO.EINVAL;
    }
    return undefined;
  });
}

/**
 * Writes entries from a cookie on, as many as fit, the last one cut; returns the bytes used. Cookies count entries; the
 * order is that of the names, so that a listing goes on after a restore where it was.
 */
function listDirectory(directory: DirectoryDescriptor, target: Uint8Array, cookie: bigint): number {
  if (cookie === 0n || directory.listing === undefined) {
    directory.listing = readEntries(directory);
  }
  const { listing } = directory;
  const view = new DataView(new ArrayBuffer(DIRENT_SIZE));
  let used = 0;
  const put = (bytes: Uint8Array): void => {
    const part = bytes.subarray(0, target.length - used);
    target.set(part, used);
    used += part.length;
  };
  for (let index = cookie; index < BigInt(listing.length) && used < target.length; index += 1n) {
    const entry = listing[Number(index)];
    if (entry === undefined) {
      break;
    }
    const name = new TextEncoder().encode(entry.name);
    view.setBigUint64(0, index + 1n, true);
    view.setBigUint64(8, entry.inode, true);
    view.setUint32(16, name.length, true);
    view.setUint32(20, entry.type, true);
    put(new Uint8Array(view.buffer));
    put(name);
  }
  return used;
}

function readEntries(directory: DirectoryDescriptor): readonly DirectoryEntry[] {
  const path = hostPathOf(directory.host);
  const own = fstatSync(directory.host, { bigint: true }).ino;
  const entries = readdirSync(path)
    .sort()
    .flatMap((name): DirectoryEntry[] => {
      const stats = lstatSync(`${path}/${name}`, { bigint: true, throwIfNoEntry: false });
      return stats === undefined ? [] : [{ name, type: fileType(stats), inode: stats.ino }];
    });
  // The parent is outside, perhaps not for the guest to see: its inode is not told.
  const dots = ['.', '..'].map((name) => ({ name, type: FILE_TYPE.directory, inode: own }));
  return [...dots, ...entries];
}
