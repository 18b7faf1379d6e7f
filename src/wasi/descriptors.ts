/** The guest's descriptor table: small numbers for streams, directories, files and sockets. */
import type { SocketHandle } from '../wasi-sock/handle.ts';
import { ERRNO, WasiError } from './errno.ts';

/** A directory that the host gives the guest under a name. */
export interface Preopen {
  /** The guest's name for it, e.g. `/data`. Names it in images too: the target host gives its own directory for it. */
  readonly guestPath: string;
  /** The host's directory. */
  readonly hostPath: string;
  /** Writing, creating and deleting fail with EROFS. */
  readonly readOnly?: boolean;
}

interface Common {
  rights: bigint;
  inheriting: bigint;
  /** fdflags of WASI. */
  flags: number;
}

export interface StdioDescriptor extends Common {
  readonly kind: 'stdio';
  readonly stream: 0 | 1 | 2;
}

export interface DirectoryDescriptor extends Common {
  readonly kind: 'directory';
  readonly preopen: Preopen;
  /** Relative to the preopen; empty for the preopen itself. */
  readonly path: string;
  readonly host: number;
  /** True of the descriptors that the guest starts with and asks for by `fd_prestat_get`. */
  readonly preopened: boolean;
  /** The listing that a running `fd_readdir` pages through. */
  listing: readonly DirectoryEntry[] | undefined;
}

export interface DirectoryEntry {
  readonly name: string;
  readonly type: number;
  readonly inode: bigint;
}

export interface FileDescriptor extends Common {
  readonly kind: 'file';
  readonly preopen: Preopen;
  readonly path: string;
  readonly host: number;
  /** In bytes. Ours, not the kernel's: every access names its position. */
  offset: number;
}

export interface SocketDescriptor extends Common {
  readonly kind: 'socket';
  readonly handle: SocketHandle;
}

export type Descriptor = StdioDescriptor | DirectoryDescriptor | FileDescriptor | SocketDescriptor;

/** Open descriptors of one guest at once. */
export const MAX_DESCRIPTORS = 65_536;

/** Maps descriptor numbers; a new one gets the lowest free number, as in POSIX. */
export class DescriptorTable {
  readonly #entries = new Map<number, Descriptor>();
  #lowestFree = 0;

  /** Throws EBADF. */
  get(fd: number): Descriptor {
    const found = this.#entries.get(fd >>> 0);
    if (found === undefined) {
      throw new WasiError(ERRNO.EBADF);
    }
    return found;
  }

  find(fd: number): Descriptor | undefined {
    return this.#entries.get(fd >>> 0);
  }

  /** A file; ESPIPE or EISDIR for what has no position, EBADF for what is not open. */
  file(fd: number, other: typeof ERRNO.ESPIPE | typeof ERRNO.EINVAL = ERRNO.ESPIPE): FileDescriptor {
    const found = this.get(fd);
    if (found.kind === 'file') {
      return found;
    }
    throw new WasiError(found.kind === 'directory' ? ERRNO.EISDIR : other);
  }

  /** A directory; ENOTDIR for anything else, EBADF for what is not open. */
  directory(fd: number): DirectoryDescriptor {
    const found = this.get(fd);
    if (found.kind === 'directory') {
      return found;
    }
    throw new WasiError(ERRNO.ENOTDIR);
  }

  /** EMFILE when there is no number left: for a call that is not to begin then, since what it does cannot be taken back. */
  mustHaveRoom(): void {
    if (this.#entries.size >= MAX_DESCRIPTORS) {
      throw new WasiError(ERRNO.EMFILE);
    }
  }

  /** Returns the new number. EMFILE when there are too many. */
  insert(descriptor: Descriptor): number {
    this.mustHaveRoom();
    let fd = this.#lowestFree;
    while (this.#entries.has(fd)) {
      fd += 1;
    }
    this.#entries.set(fd, descriptor);
    this.#lowestFree = fd + 1;
    return fd;
  }

  /** Puts a descriptor at a number that is free. */
  set(fd: number, descriptor: Descriptor): void {
    this.#entries.set(fd, descriptor);
  }

  /** Takes a descriptor out; closing what it stands for is the caller's. EBADF. */
  remove(fd: number): Descriptor {
    const found = this.get(fd);
    this.#entries.delete(fd >>> 0);
    this.#lowestFree = Math.min(this.#lowestFree, fd >>> 0);
    return found;
  }

  entries(): IterableIterator<[number, Descriptor]> {
    return this.#entries.entries();
  }
}
