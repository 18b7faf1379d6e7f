/** Open files: reading, writing, positions, sizes, times. Every call on `node:fs` or of the addon may throw what `errnoOf` understands. */
import {
  type BigIntStats,
  closeSync,
  constants,
  fdatasyncSync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  openSync,
  readSync,
  writeSync,
} from 'node:fs';
import { ERRNO as LINUX, native } from '../native.ts';
import type { FileDescriptor, Preopen } from './descriptors.ts';
import { ERRNO, errnoOfLinux, WasiError } from './errno.ts';
import { FD_FLAG, FILE_TYPE, READ_RIGHTS, WRITE_RIGHTS } from './rights.ts';

/** `node:fs` takes at most 2 GiB at once; more is a short read or write. */
const MAX_TRANSFER = 2 ** 30;

/** Opening flags of the host for a file with these rights and fdflags; never follows a link, never blocks. */
export function hostFlags(rights: bigint, flags: number): number {
  const reads = (rights & READ_RIGHTS) !== 0n;
  const writes = (rights & WRITE_RIGHTS) !== 0n;
  const access = writes ? (reads ? constants.O_RDWR : constants.O_WRONLY) : constants.O_RDONLY;
  return (
    access |
    constants.O_NOFOLLOW |
    constants.O_NONBLOCK |
    ((flags & FD_FLAG.append) === 0 ? 0 : constants.O_APPEND) |
    ((flags & FD_FLAG.dsync) === 0 ? 0 : constants.O_DSYNC) |
    ((flags & (FD_FLAG.sync | FD_FLAG.rsync)) === 0 ? 0 : constants.O_SYNC)
  );
}

/** Fills buffers from a position; returns how many bytes there were. */
export function readAt(file: FileDescriptor, buffers: readonly Uint8Array[], position: number): number {
  let total = 0;
  for (const buffer of buffers) {
    const wanted = Math.min(buffer.length, MAX_TRANSFER);
    const count = wanted === 0 ? 0 : unlessFirst(total, () => readSync(file.host, buffer, 0, wanted, position + total));
    total += count;
    if (count < buffer.length) {
      break;
    }
  }
  return total;
}

/** Writes buffers at a position, or at the end with `append`; returns how many bytes the file took. */
export function writeAt(
  file: FileDescriptor,
  buffers: readonly Uint8Array[],
  position: number,
  append: boolean,
): number {
  let total = 0;
  for (const buffer of buffers) {
    const wanted = Math.min(buffer.length, MAX_TRANSFER);
    const write = (): number => writeSync(file.host, buffer, 0, wanted, append ? null : position + total);
    const count = wanted === 0 ? 0 : unlessFirst(total, write);
    total += count;
    if (count < buffer.length) {
      break;
    }
  }
  return total;
}

/** A transfer that fails after bytes have passed is a short one, as in Linux: what is done is not to be done again. */
function unlessFirst(passed: number, transfer: () => number): number {
  try {
    return transfer();
  } catch (error) {
    if (passed === 0) throw error;
    return 0;
  }
}

/** `fd_read` and `fd_write`: at the file's own position, which moves. */
export function readFile(file: FileDescriptor, buffers: readonly Uint8Array[]): number {
  const count = readAt(file, buffers, file.offset);
  file.offset += count;
  return count;
}

export function writeFile(file: FileDescriptor, buffers: readonly Uint8Array[]): number {
  const append = (file.flags & FD_FLAG.append) !== 0;
  const count = writeAt(file, buffers, file.offset, append);
  file.offset = append ? fstatSync(file.host).size : file.offset + count;
  return count;
}

/** Moves the position; whence: 0 start, 1 current, 2 end. EINVAL when it would be negative or beyond 2^53. */
export function seekFile(file: FileDescriptor, offset: bigint, whence: number): number {
  let base: number;
  if (whence === 0) {
    base = 0;
  } else if (whence === 1) {
    base = file.offset;
  } else if (whence === 2) {
    base = fstatSync(file.host).size;
  } else {
    throw new WasiError(ERRNO.EINVAL);
  }
  file.offset = exact(BigInt(base) + offset);
  return file.offset;
}

/** A position or size that a double holds exactly; EINVAL for another. */
export function exact(value: bigint): number {
  if (value < 0n || value > BigInt(Number.MAX_SAFE_INTEGER)) {
    throw new WasiError(ERRNO.EINVAL);
  }
  return Number(value);
}

export function resizeFile(file: FileDescriptor, size: bigint): void {
  ftruncateSync(file.host, exact(size));
}

/**
 * Reserves the space of a part of the file, which is at least as long as that afterwards. Where the file system reserves nothing
 * it only becomes as long, and a write may still find no room. EINVAL for a part without a byte, as `posix_fallocate` has it.
 */
export function allocateFile(file: FileDescriptor, offset: bigint, length: bigint): void {
  const [from, size] = [exact(BigInt.asUintN(64, offset)), exact(BigInt.asUintN(64, length))];
  const end = exact(BigInt(from) + BigInt(size));
  if (size === 0) {
    throw new WasiError(ERRNO.EINVAL);
  }
  const result = native.fileAllocate(file.host, from, size);
  if (result === -LINUX.EOPNOTSUPP) {
    if (fstatSync(file.host).size < end) {
      ftruncateSync(file.host, end);
    }
  } else {
    check(result);
  }
}

/** Throws the error that a result of the addon is. */
function check(result: number): void {
  if (result < 0) {
    throw new WasiError(errnoOfLinux(result));
  }
}

export function syncFile(file: FileDescriptor, dataOnly: boolean): void {
  if (dataOnly) {
    fdatasyncSync(file.host);
  } else {
    fsyncSync(file.host);
  }
}

/** fdflags that can change while a file is open: only `append` and `nonblock`, which is ours alone. */
export function reopenFlags(file: FileDescriptor, flags: number): FileDescriptor {
  const changeable = FD_FLAG.append | FD_FLAG.nonblock;
  if (((file.flags ^ flags) & ~changeable) !== 0) {
    throw new WasiError(ERRNO.ENOTSUP);
  }
  if (((file.flags ^ flags) & FD_FLAG.append) === 0) {
    file.flags = flags;
    return file;
  }
  // Node has no fcntl: the same file is opened once more with the other flag.
  const host = openSync(`/proc/self/fd/${file.host}`, hostFlags(file.rights, flags) & ~constants.O_NOFOLLOW);
  closeSync(file.host);
  return { ...file, host, flags };
}

/** What becomes of one of a file's times; a number is nanoseconds since 1970. */
export type NewTime = bigint | 'keep' | 'now';

export interface NewTimes {
  readonly accessed: NewTime;
  readonly modified: NewTime;
}

/** Sets times to the nanosecond. With `follow` a link at the end of the path is followed. */
export function setFileTimes(path: string, follow: boolean, { accessed, modified }: NewTimes): void {
  check(native.fileSetTimes(path, follow, ...parts(accessed), ...parts(modified)));
}

const SECOND = 1_000_000_000n;

/** A time as the addon takes it: seconds and nanoseconds. */
function parts(time: NewTime): [seconds: number, nanoseconds: number] {
  if (time === 'keep') {
    return [0, -1];
  }
  return time === 'now' ? [0, -2] : [Number(time / SECOND), Number(time % SECOND)];
}

/** WASI's number for the type of a file. */
export function fileType(stats: BigIntStats): number {
  if (stats.isFile()) {
    return FILE_TYPE.regularFile;
  }
  if (stats.isDirectory()) {
    return FILE_TYPE.directory;
  }
  if (stats.isSymbolicLink()) {
    return FILE_TYPE.symbolicLink;
  }
  if (stats.isCharacterDevice()) {
    return FILE_TYPE.characterDevice;
  }
  return stats.isBlockDevice() ? FILE_TYPE.blockDevice : FILE_TYPE.unknown;
}

/** EROFS when the directory was given to be read only. */
export function mustBeWritable(preopen: Preopen): void {
  if (preopen.readOnly === true) {
    throw new WasiError(ERRNO.EROFS);
  }
}
