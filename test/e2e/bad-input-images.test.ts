/**
 * Images that are damaged in every part, cut off anywhere, or of a newer version: `kedge inspect` and `kedge restore` say what is
 * wrong, nothing happens, and the good image still continues its guest with its connections. The layout is that of docs/image.md.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Busy } from '../support/busy.ts';
import { Hosts, PATIENCE } from '../support/hosts.ts';
import { PeerDriver } from '../support/peer-driver.ts';
import type { Finished } from '../support/process.ts';
import { privateDirectory } from '../support/unprivileged.ts';

const SECTIONS = ['?', 'module', 'memory', 'frames', 'globals', 'handles', 'flows'];

/** A part of an image by its place. */
interface Part {
  readonly name: string;
  readonly from: number;
  readonly to: number;
}

function sha256(bytes: Uint8Array): Buffer {
  return createHash('sha256').update(bytes).digest();
}

/** All parts of an image, in order and without gaps. */
function parts(image: Buffer): Part[] {
  const count = image.readUInt32LE(16);
  const manifest = 32 + 48 * count;
  const digest = manifest + image.readUInt32LE(20);
  const all: Part[] = [
    { name: 'magic', from: 0, to: 8 },
    { name: 'version', from: 8, to: 16 },
    { name: 'sizes', from: 16, to: 32 },
  ];
  const sections: Part[] = [];
  let at = digest + 32;
  for (let n = 0; n < count; n++) {
    const entry = 32 + 48 * n;
    const name = SECTIONS[image.readUInt32LE(entry)] ?? '?';
    const length = Number(image.readBigUInt64LE(entry + 8));
    all.push({ name: `entry of ${name}`, from: entry, to: entry + 48 });
    sections.push({ name: `section ${name}`, from: at, to: at + length });
    at += length;
  }
  all.push({ name: 'manifest', from: manifest, to: digest }, { name: 'digest', from: digest, to: digest + 32 });
  assert.equal(at, image.length);
  return [...all, ...sections];
}

/** Parts of one kind, which both commands read alike: what the agent says of them is enough. */
function isEntry(name: string): boolean {
  return name.startsWith('entry of');
}

function flipped(image: Buffer, at: number): Buffer {
  const copy = Buffer.from(image);
  copy[at] = (copy[at] ?? 0) ^ 0x10;
  return copy;
}

/** The same image as a later version of Kedge would write it: all digests are right. */
function newer(image: Buffer): Buffer {
  const copy = Buffer.from(image);
  copy.writeUInt32LE(copy.readUInt32LE(8) + 1, 8);
  copy.writeUInt32LE(~copy.readUInt32LE(8) >>> 0, 12);
  copy.set(sha256(copy.subarray(0, 24)).subarray(0, 8), 24);
  const digest = 32 + 48 * copy.readUInt32LE(16) + copy.readUInt32LE(20);
  copy.set(sha256(copy.subarray(0, digest)), digest);
  return copy;
}

describe('bad images', { timeout: 300_000 }, () => {
  let hosts: Hosts;
  let busy: Busy;
  let image: Buffer;
  let directory: string;
  before(async () => {
    hosts = await Hosts.up();
    busy = await Busy.start(hosts, new PeerDriver(hosts.topology));
    image = await readFile(await busy.guest.checkpoint());
    directory = await privateDirectory(hosts.topology, 'images');
  });
  after(() => hosts[Symbol.asyncDispose]());

  function kedge(...args: string[]): Promise<Finished> {
    return hosts.agents.b.tryCli(args, { timeout: PATIENCE });
  }

  /** Both commands refuse the file with this code, and the agent refuses the bytes. */
  async function refused(bytes: Uint8Array, code: RegExp, what: string): Promise<void> {
    const file = join(directory, 'bad.kedge');
    await writeFile(file, bytes);
    const said = new RegExp(`^kedge: ${code.source}: [^\\n]+(\\n {2}hint: [^\\n]+)?\\n$`);
    for (const ended of await Promise.all([kedge('inspect', file), kedge('restore', '--detach', file)])) {
      assert.equal(ended.code, 1, what);
      assert.equal(ended.stdout, '', what);
      assert.match(ended.stderr, said, what);
    }
    await refusedByAgent(bytes, code, what);
  }

  async function refusedByAgent(bytes: Uint8Array, code: RegExp, what: string): Promise<void> {
    await assert.rejects(
      hosts.clients.b.restore(bytes, { withoutFlows: false }),
      (error: { code?: string }) => new RegExp(`^${code.source}$`).test(error.code ?? ''),
      what,
    );
  }

  /** Nothing of it runs anywhere, and its connections still wait. */
  async function isSealed(): Promise<void> {
    assert.deepEqual(await busy.livesAt(), []);
    const { body } = await hosts.gateway.get('/v1/guests');
    const { guests } = body as { guests: { name: string; state: string; flows: number }[] };
    assert.deepEqual(
      guests.map(({ name, state, flows }) => [name, state, flows]),
      [[busy.guest.name, 'sealed', 3]],
    );
  }

  test('a bit is flipped in each part', async () => {
    for (const { name, from, to } of parts(image)) {
      const code = name === 'magic' ? /KEDGE_IMAGE_NOT_AN_IMAGE/ : /KEDGE_IMAGE_CORRUPT/;
      const middle = Math.floor((from + to) / 2);
      await (isEntry(name) ? refusedByAgent : refused)(flipped(image, middle), code, name);
      for (const at of [from, to - 1]) await refusedByAgent(flipped(image, at), code, `${name} at ${at - from}`);
    }
    await isSealed();
  });

  test('the message names the part', async () => {
    const memory = parts(image).find(({ name }) => name === 'section memory');
    assert.ok(memory !== undefined);
    await writeFile(join(directory, 'bad.kedge'), flipped(image, memory.from));
    assert.match((await kedge('inspect', join(directory, 'bad.kedge'))).stderr, /section memory is damaged/);
  });

  test('it is cut off within each part, and at the end of each', async () => {
    for (const { name, from, to } of parts(image)) {
      const half = image.subarray(0, Math.floor((from + to) / 2));
      await (isEntry(name) ? refusedByAgent : refused)(half, /KEDGE_IMAGE_TRUNCATED/, name);
      if (to < image.length) await refusedByAgent(image.subarray(0, to), /KEDGE_IMAGE_TRUNCATED/, `after ${name}`);
    }
    await refused(image.subarray(0, -1), /KEDGE_IMAGE_TRUNCATED/, 'the last byte');
    await refused(new Uint8Array(), /KEDGE_IMAGE_(TRUNCATED|NOT_AN_IMAGE)/, 'empty');
    await isSealed();
  });

  test('it is of a newer version, has a byte too many, or is something else', async () => {
    await refused(newer(image), /KEDGE_IMAGE_VERSION/, 'newer');
    await refused(Buffer.concat([image, Buffer.from('x')]), /KEDGE_IMAGE_CORRUPT/, 'longer');
    await refused(Buffer.from('#!/bin/sh\necho hello\n'), /KEDGE_IMAGE_NOT_AN_IMAGE/, 'a script');
    await refused(Buffer.alloc(4096), /KEDGE_IMAGE_NOT_AN_IMAGE/, 'zeros');
    const missing = await kedge('restore', join(directory, 'missing.kedge'));
    assert.match(missing.stderr, /^kedge: KEDGE_IMAGE_READ: /);
    assert.equal((await kedge('inspect', directory)).code, 1);
    await isSealed();
  });

  test('its name on the target is taken: the guest stays in its image', async () => {
    await hosts.run('compute', { name: busy.guest.name, on: 'b', args: ['4000000000', '1000000'] });
    await refusedByAgent(image, /KEDGE_GUEST_EXISTS/, 'name taken');
    await hosts.agents.b.cli(['stop', busy.guest.name]);
    await isSealed();
  });

  test('the good one continues the guest with its connections', async () => {
    const file = join(directory, 'good.kedge');
    await writeFile(file, image);
    assert.match((await kedge('inspect', file)).stdout, /section.*memory/is);
    await busy.guest.restore(file, 'b');
    await busy.isAt('b', 2);
    await busy.finish();
    assert.deepEqual(await hosts.harm(), {});
  });
});
