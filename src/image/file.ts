/** Images on disk. */
import { randomBytes } from 'node:crypto';
import { rmSync } from 'node:fs';
import { link, lstat, open, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import process from 'node:process';
import { KedgeError } from '../errors.ts';
import { MAX_IMAGE } from './format.ts';

/** One read of a file asks for at most so many bytes. */
const READ_SIZE = 64 * 1024 * 1024;

/** Bytes of an image's name that are in the name of its first form. */
const LONGEST_NAME = 200;

const WRITE_HINTS: Readonly<Record<string, string>> = {
  ENOSPC: 'the disk is full: make room, or name a file elsewhere',
  EDQUOT: 'the quota is used up: make room, or name a file elsewhere',
  EACCES: 'this user may not write there: name a file elsewhere',
  EROFS: 'the file system is read-only: name a file elsewhere',
  ENOENT: 'the directory does not exist: make it first',
  EISDIR: 'that is a directory: name a file',
  EPERM: 'the file is another user’s, or cannot be changed: name another',
  ENAMETOOLONG: 'give the file a shorter name',
  EFBIG: 'files of this user may not be so large (ulimit -f)',
};

/** Of the link by which a file gets its name. */
const LINK_HINTS: Readonly<Record<string, string>> = {
  EPERM: 'the file system may have no hard links: name a file elsewhere, or --force',
  EOPNOTSUPP: 'the file system has no hard links: name a file elsewhere, or --force',
  ENOSYS: 'the file system has no hard links: name a file elsewhere, or --force',
};

export type WriteOptions = {
  /** Takes the place of a file that is there. Unless it is true that file is kept, for it may be the only life of a guest. */
  readonly force: boolean;
};

export type WrittenImage = {
  /** Its length. */
  readonly bytes: number;
  /** Removes it, unless another file has its name by now. */
  remove(): Promise<void>;
};

/**
 * Says that a name is taken before anything is done for an image of that name. Throws KEDGE_IMAGE_EXISTS, unless it may be written over,
 * and KEDGE_IMAGE_WRITE for what never may: a directory, a device, a pipe.
 */
export async function mustBeWritable(path: string, { force }: WriteOptions): Promise<void> {
  // A name that cannot be looked at cannot be written either, and the write says why. A link counts, wherever it leads.
  const there = await lstat(path).catch(() => undefined);
  if (there === undefined) return;
  if (there.isDirectory())
    throw new KedgeError('KEDGE_IMAGE_WRITE', `cannot write the image ${path}: EISDIR: it is a directory`, {
      hint: WRITE_HINTS['EISDIR'],
    });
  // The image takes its place, so that root would turn /dev/null into a file.
  if (!there.isFile() && !there.isSymbolicLink())
    throw new KedgeError('KEDGE_IMAGE_WRITE', `cannot write the image ${path}: it is no regular file`, {
      hint: 'an image takes the place of a file only: name one, or a name that is free',
    });
  if (!force) throw taken(path);
}

function taken(path: string, cause?: unknown): KedgeError {
  return new KedgeError('KEDGE_IMAGE_EXISTS', `${path} is there already`, {
    hint: 'name another file, or --force to write over it: a guest that is sealed in it would be lost',
    cause,
  });
}

/**
 * Writes an image to a temporary name in the same directory, syncs, gives it its name, and syncs the directory: it is there whole,
 * or not at all. Readable by its owner only, because it holds the guest's memory. On any failure (a full disk, chunks that break
 * off) nothing is left, and KEDGE_IMAGE_WRITE is thrown, KEDGE_IMAGE_EXISTS, or what the chunks threw as a KedgeError.
 */
export async function writeImageFile(
  path: string,
  chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  { force }: WriteOptions,
): Promise<WrittenImage> {
  const directory = dirname(path);
  // A name may be as long as it can be, and this one is longer.
  const hidden = Buffer.from(basename(path)).subarray(0, LONGEST_NAME).toString();
  const temporary = join(directory, `.${hidden}.${randomBytes(6).toString('hex')}.tmp`);
  let bytes = 0;
  let remove: (() => Promise<void>) | undefined;
  try {
    using _ = removedBySignals(temporary);
    let inode: bigint;
    {
      await using file = await open(temporary, 'wx', 0o600);
      ({ ino: inode } = await file.stat({ bigint: true }));
      for await (const chunk of chunks) {
        for (let at = 0; at < chunk.length;) at += (await file.write(chunk, at)).bytesWritten;
        bytes += chunk.length;
      }
      await file.sync();
    }
    if (force) {
      await mustBeWritable(path, { force });
      await rename(temporary, path);
    }
    // Unlike a rename it fails when the name was taken in the meantime.
    else await link(temporary, path);
    remove = () => removeFile(path, inode);
    if (!force) await rm(temporary);
    await using parent = await open(directory, 'r');
    await parent.sync();
    return { bytes, remove };
  } catch (cause) {
    await rm(temporary, { force: true }).catch(() => undefined);
    await remove?.().catch(() => undefined);
    if (cause instanceof KedgeError) throw cause;
    const code = cause instanceof Error && 'code' in cause ? String(cause.code) : '';
    if (code === 'EEXIST') throw taken(path, cause);
    const linking = cause instanceof Error && 'syscall' in cause && cause.syscall === 'link';
    const hint = (linking ? LINK_HINTS[code] : undefined) ?? WRITE_HINTS[code];
    throw new KedgeError('KEDGE_IMAGE_WRITE', `cannot write the image ${path}: ${reason(cause)}`, { hint, cause });
  }
}

const SIGNALS = ['SIGHUP', 'SIGINT', 'SIGTERM'] as const;

/** Removes a file when a signal ends this process: it holds a guest's memory, and nobody would look for it. */
function removedBySignals(path: string): Disposable {
  const leave = (): void => {
    for (const signal of SIGNALS) process.off(signal, removed);
  };
  const removed = (signal: NodeJS.Signals): void => {
    rmSync(path, { force: true });
    leave();
    // What a signal does without a listener; where somebody else listens, that is theirs to decide.
    if (process.listenerCount(signal) === 0) process.kill(process.pid, signal);
  };
  for (const signal of SIGNALS) process.on(signal, removed);
  return { [Symbol.dispose]: leave };
}

/** Removes a file if it is still the one that is meant. */
async function removeFile(path: string, inode: bigint): Promise<void> {
  const there = await lstat(path, { bigint: true }).catch(() => undefined);
  if (there?.ino === inode) await rm(path, { force: true });
}

/** Reads a file whole. Throws KEDGE_IMAGE_READ. */
export async function readImageFile(path: string): Promise<Uint8Array> {
  try {
    await using file = await open(path, 'r');
    const { size } = await file.stat();
    if (size > MAX_IMAGE) throw new KedgeError('KEDGE_IMAGE_INVALID', `${path} is larger than any image`);
    const bytes = new Uint8Array(size);
    let at = 0;
    while (at < size) {
      const { bytesRead } = await file.read(bytes, at, Math.min(size - at, READ_SIZE), at);
      if (bytesRead === 0) break;
      at += bytesRead;
    }
    return bytes.subarray(0, at);
  } catch (cause) {
    if (cause instanceof KedgeError) throw cause;
    throw new KedgeError('KEDGE_IMAGE_READ', `cannot read the image ${path}: ${reason(cause)}`, { cause });
  }
}

function reason(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}
