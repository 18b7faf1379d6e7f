import { createHash, randomUUID } from 'node:crypto';
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

const DIGEST_SIZE = 32;

/** Reads one cached module. A file that is missing, torn or altered is no error: it is just not there. */
export async function readCached(directory: string, key: string): Promise<Uint8Array | undefined> {
  let file: Uint8Array;
  try {
    file = await readFile(pathOf(directory, key));
  } catch {
    return undefined;
  }
  const bytes = file.subarray(DIGEST_SIZE);
  return digest(bytes).equals(file.subarray(0, DIGEST_SIZE)) ? bytes : undefined;
}

/** Writes one module under its key, by renaming. A disk that cannot take it is no error: the cache only saves time. */
export async function writeCached(directory: string, key: string, bytes: Uint8Array): Promise<void> {
  const temporary = join(directory, `.${randomUUID()}.tmp`);
  try {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    await writeFile(temporary, Buffer.concat([digest(bytes), bytes]), { mode: 0o600 });
    await rename(temporary, pathOf(directory, key));
  } catch {
    await rm(temporary, { force: true }).catch(() => undefined);
  }
}

function pathOf(directory: string, key: string): string {
  return join(directory, `${key}.wasm`);
}

function digest(bytes: Uint8Array): Buffer {
  return createHash('sha256').update(bytes).digest();
}
