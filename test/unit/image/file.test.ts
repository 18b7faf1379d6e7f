import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { afterEach, beforeEach, test } from 'node:test';
import { KedgeError } from '../../../src/errors.ts';
import { mustBeWritable, readImageFile, writeImageFile } from '../../../src/image/file.ts';
import { waitFor } from '../../support/wait.ts';

let directory = '';
let path = '';

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'kedge-image-'));
  path = join(directory, 'guest.kedge');
});

afterEach(() => {
  rmSync(directory, { recursive: true });
});

const old = Buffer.from('what was there before');
const keep = { force: false };
const replace = { force: true };

test('an image is written whole, for its owner only', async () => {
  assert.equal((await writeImageFile(path, [Buffer.from('one '), Buffer.from('two')], keep)).bytes, 7);
  assert.equal(Buffer.from(await readImageFile(path)).toString(), 'one two');
  assert.equal(statSync(path).mode & 0o777, 0o600);
  assert.deepEqual(readdirSync(directory), ['guest.kedge']);
});

test('a source that breaks off leaves what was there, and nothing else', async () => {
  writeFileSync(path, old);
  async function* broken(): AsyncGenerator<Uint8Array> {
    yield Buffer.from('half of it');
    await Promise.resolve();
    throw new KedgeError('KEDGE_LINK_BROKEN', 'gone');
  }
  await assert.rejects(writeImageFile(path, broken(), replace), { code: 'KEDGE_LINK_BROKEN' });
  assert.deepEqual(await readImageFile(path), new Uint8Array(old));
  assert.deepEqual(readdirSync(directory), ['guest.kedge']);
});

test('a file that is there is kept: it may be all that is left of a guest', async () => {
  await mustBeWritable(path, keep);
  symlinkSync('nowhere', join(directory, 'link'));
  writeFileSync(path, old);
  for (const name of [path, join(directory, 'link')]) {
    const refused = { code: 'KEDGE_IMAGE_EXISTS', hint: /name another file, or --force/ };
    await assert.rejects(mustBeWritable(name, keep), refused);
    await assert.rejects(writeImageFile(name, [Buffer.from('new')], keep), refused);
  }
  assert.deepEqual(readFileSync(path), old);
  assert.deepEqual(readdirSync(directory).toSorted(), ['guest.kedge', 'link']);
  await writeImageFile(path, [Buffer.from('new')], replace);
  assert.equal(readFileSync(path, 'utf8'), 'new');
  assert.equal(statSync(path).mode & 0o777, 0o600);
});

test('an image is removed again, but not one that took its name', async () => {
  const first = await writeImageFile(path, [Buffer.from('first')], keep);
  await first.remove();
  assert.deepEqual(readdirSync(directory), []);
  await first.remove();
  const second = await writeImageFile(path, [Buffer.from('second')], keep);
  await writeImageFile(path, [Buffer.from('third')], replace);
  await second.remove();
  assert.equal(readFileSync(path, 'utf8'), 'third');
});

test('a place that takes no file has a code and a hint', async () => {
  writeFileSync(path, old);
  await assert.rejects(writeImageFile(join(directory, 'missing', 'x'), [old], keep), {
    code: 'KEDGE_IMAGE_WRITE',
    hint: /make it first/,
  });
  await assert.rejects(writeImageFile(join(path, 'x'), [old], keep), { code: 'KEDGE_IMAGE_WRITE' });
  // The rename fails, after everything was written.
  await assert.rejects(writeImageFile(directory, [old], replace), { code: 'KEDGE_IMAGE_WRITE', hint: /name a file/ });
  await assert.rejects(mustBeWritable(directory, keep), { code: 'KEDGE_IMAGE_WRITE', hint: /name a file/ });
  assert.deepEqual(readdirSync(directory), ['guest.kedge']);
});

test('a device or a pipe is not written over, by force neither', async () => {
  execFileSync('mkfifo', [path]);
  for (const options of [keep, replace])
    await assert.rejects(mustBeWritable(path, options), { code: 'KEDGE_IMAGE_WRITE', hint: /a file only/ });
  await assert.rejects(writeImageFile(path, [old], replace), { code: 'KEDGE_IMAGE_WRITE', message: /no regular file/ });
  assert.ok(statSync(path).isFIFO());
  assert.deepEqual(readdirSync(directory), ['guest.kedge']);
});

test('a name may be as long as the file system lets it be', async () => {
  for (const name of ['n'.repeat(255), `${'é'.repeat(127)}n`]) {
    await writeImageFile(join(directory, name), [old], keep);
    assert.deepEqual(readdirSync(directory), [name]);
    rmSync(join(directory, name));
  }
  await assert.rejects(writeImageFile(join(directory, 'n'.repeat(256)), [old], keep), {
    code: 'KEDGE_IMAGE_WRITE',
    hint: /shorter name/,
  });
  assert.deepEqual(readdirSync(directory), []);
});

test('a file that cannot be read has a code', async () => {
  await assert.rejects(readImageFile(path), { code: 'KEDGE_IMAGE_READ' });
  await assert.rejects(readImageFile(directory), { code: 'KEDGE_IMAGE_READ' });
  writeFileSync(path, '');
  chmodSync(path, 0o600);
  assert.equal((await readImageFile(path)).length, 0);
});

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  test(`${signal} in the middle of it ends the process and leaves nothing`, async () => {
    const script = `
      import { writeImageFile } from ${JSON.stringify(new URL('../../../src/image/file.ts', import.meta.url).href)};
      async function* endless() {
        for (;;) {
          yield Buffer.alloc(1000, 7);
          await new Promise((resolve) => setTimeout(resolve, 5));
        }
      }
      await writeImageFile(${JSON.stringify(path)}, endless(), { force: false });`;
    const writer = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', 'ignore', 'inherit'],
    });
    const ended = once(writer, 'exit');
    await waitFor(() => readdirSync(directory).some((name) => name.endsWith('.tmp')), { what: 'a part of the image' });
    writer.kill(signal);
    assert.deepEqual(await ended, [null, signal]);
    assert.deepEqual(readdirSync(directory), []);
  });
}
