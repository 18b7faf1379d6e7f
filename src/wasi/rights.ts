/** Bits of WASI rights, flags and types that more than one file uses. */
export const RIGHT = {
  fdDatasync: 1n << 0n,
  fdRead: 1n << 1n,
  fdSeek: 1n << 2n,
  fdFdstatSetFlags: 1n << 3n,
  fdSync: 1n << 4n,
  fdTell: 1n << 5n,
  fdWrite: 1n << 6n,
  fdAllocate: 1n << 8n,
  fdReaddir: 1n << 14n,
  fdFilestatGet: 1n << 21n,
  fdFilestatSetSize: 1n << 22n,
  pollFdReadwrite: 1n << 27n,
} as const;

/** Every right that preview1 defines. */
export const ALL_RIGHTS = (1n << 30n) - 1n;

/** A stream that is neither seekable nor has a position: wasi-libc takes a character device with these for a terminal. */
export const STREAM_RIGHTS =
  RIGHT.fdRead | RIGHT.fdWrite | RIGHT.fdFdstatSetFlags | RIGHT.fdFilestatGet | RIGHT.pollFdReadwrite;

/** Rights that mean that a file is opened for reading, or for writing. */
export const READ_RIGHTS = RIGHT.fdRead | RIGHT.fdReaddir;
export const WRITE_RIGHTS = RIGHT.fdDatasync | RIGHT.fdWrite | RIGHT.fdAllocate | RIGHT.fdFilestatSetSize;

export const FILE_TYPE = {
  unknown: 0,
  blockDevice: 1,
  characterDevice: 2,
  directory: 3,
  regularFile: 4,
  socketDatagram: 5,
  socketStream: 6,
  symbolicLink: 7,
} as const;

export const FD_FLAG = { append: 1, dsync: 2, nonblock: 4, rsync: 8, sync: 16 } as const;
export const ALL_FD_FLAGS = 31;
export const OPEN_FLAG = { create: 1, directory: 2, exclusive: 4, truncate: 8 } as const;
export const LOOKUP_FOLLOW = 1;
