/** An image on disk: there whole, or not at all. */
import { randomBytes } from 'node:crypto';
import { open, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { KedgeError } from '../errors.ts';

/**
 * Writes the chunks to a temporary name in the same directory, syncs, renames, and syncs the directory. On any failure (a full disk,
 * a source that breaks off) nothing is left and KEDGE_IMAGE_WRITE is thrown. Returns the number of bytes.
 */
export async function writeImageFile(
  path: string,
  chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
): Promise<number> {
  const directory = dirname(path);
  const temporary = join(directory, `.${basename(path)}.${randomBytes(6).toString('hex')}.tmp`);
  let bytes = 0;
  try {
    await using file = await open(temporary, 'wx', 0o600);
    for await (const chunk of chunks) {
      for (let at = 0; at < chunk.length;) at += (await file.write(chunk, at)).bytesWritten;
      bytes += chunk.length;
    }
    await file.sync();
    await rename(temporary, path);
    await using parent = await open(directory, 'r');
    await parent.sync();
    return bytes;
  } catch (cause) {
    await rm(temporary, { force: true });
    if (cause instanceof KedgeError) throw cause;
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new KedgeError('KEDGE_IMAGE_WRITE', `cannot write the image ${path}: ${why}`, {
      hint: 'the guest goes on running; choose a place with room that you may write to',
      cause,
    });
  }
}
