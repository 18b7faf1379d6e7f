/** Run where files can have no more than 4 KiB: writes two buffers, of which the second has no room, and then one more. */
import assert from 'node:assert/strict';
import { openSync } from 'node:fs';
import process from 'node:process';
import type { FileDescriptor } from '../../../src/wasi/descriptors.ts';
import { writeFile } from '../../../src/wasi/files.ts';

const path = process.argv[2] ?? '';
const host = openSync(path, 'w+');
const file: FileDescriptor = {
  kind: 'file',
  preopen: { guestPath: '/d', hostPath: '/' },
  path: 'file',
  host,
  rights: 0n,
  inheriting: 0n,
  flags: 0,
  offset: 0,
};
assert.equal(writeFile(file, [new Uint8Array(4096), new Uint8Array(10)]), 4096);
assert.equal(file.offset, 4096);
assert.throws(() => writeFile(file, [new Uint8Array(10)]), { code: 'EFBIG' });
assert.equal(file.offset, 4096);
process.stdout.write('as it should be\n');
