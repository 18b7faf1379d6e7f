/** Images on disk. */
import { randomBytes } from 'node:crypto';
import { open, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { KedgeError } from '../errors.ts';
import { MAX_IMAGE } from './format.ts';

/** One read of a file asks for at most so many bytes. */
const READ_SIZE = 64 * 1024 * 1024;

const WRITE_HINTS: Readonly<Record<string, string>> = {
  ENOSPC: 'the disk is full: make room, or name a file elsewhere',
  EDQUOT: 'the quota is used up: make room, or name a file elsewhere',
  EACCES: 'this user may not write there: name a file elsewhere',
  EROFS: 'the file system is read-only: name a file elsewhere',
  ENOENT: 'the directory does not exist: make it first',
  EISDIR: 'that is a directory: name a file',
};

/**
 * Writes an image to a temporary name in the same directory, syncs, renames, and syncs the directory: it is there whole, or not at
 * all. Readable by its owner only, because it holds the guest's memory. On any failure (a full disk, chunks that break off) nothing
 * is left, and KEDGE_IMAGE_WRITE is thrown, or what the chunks threw as a KedgeError. Returns the number of bytes.
 */
export async function writeImageFile(
  path: string,
  chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
): Promise<number> {
  const directory = dirname(path);
  const temporary = join(directory, `.${basename(path)}.${randomBytes(6).toString('hex')}.tmp`);
  let bytes = 0;
  try {
    {
      await using file = await open(temporary, 'wx', 0o600);
      for await (const chunk of chunks) {
        for (let at = 0; at < chunk.length;) at += (await file.write(chunk, at)).bytesWritten;
        bytes += chunk.length;
      }
      await file.sync();
    }
    await rename(temporary, path);
    await using parent = await open(directory, 'r');
    await parent.sync();
    return bytes;
  } catch (cause) {
    await rm(temporary, { force: true }).catch(() => undefined);
    if (cause instanceof KedgeError) throw cause;
    const code = cause instanceof Error && 'code' in cause ? String(cause.code) : '';
    const hint = WRITE_HINTS[code];
    throw new KedgeError('KEDGE_IMAGE_WRITE', `cannot write the image ${path}: ${reason(cause)}`, { hint, cause });
  }
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
