import assert from 'node:assert/strict';
import { test } from 'node:test';
import { zstdCompressSync } from 'node:zlib';
import fc from 'fast-check';
import { checkHandles } from '../../../src/guest/handles-check.ts';
import { decodeCbor, encodeCbor } from '../../../src/image/cbor.ts';
import { type SectionDigest, sha256, sha256OfPieces } from '../../../src/image/digest.ts';
import {
  DIGEST_SIZE,
  ENTRY_SIZE,
  FORMAT_VERSION,
  MAX_IMAGE,
  PRELUDE_DIGEST_AT,
  PRELUDE_SIZE,
} from '../../../src/image/format.ts';
import type { SectionName } from '../../../src/image/format.ts';
import { type Manifest, pagesOf } from '../../../src/image/manifest.ts';
import { applyDelta, applyDeltas, collectDeltas, packDelta } from '../../../src/image/memory-delta.ts';
import { decodeFlows, decodeImage, verifyImage } from '../../../src/image/reader.ts';
import type { Section } from '../../../src/image/writer.ts';
import { assemble, encodeImage, encodeSections } from '../../../src/image/writer.ts';
import { guestMemory, image, INITIAL, MANIFEST, MODULE, moduleOf, named, parts, WASM_PAGE } from './fixtures.ts';
import { bytesOf } from '../../support/parts.ts';

type Failure = { readonly code?: string; readonly message: string };

function failure(run: () => unknown): Failure {
  try {
    run();
  } catch (error) {
    return error as Failure;
  }
  return { message: 'nothing was thrown' };
}

test('a guest comes back from its image as it was', async () => {
  const source = parts();
  const decoded = await decodeImage(await image());
  assert.deepEqual(decoded.manifest, MANIFEST);
  assert.deepEqual(new Uint8Array(decoded.module ?? []), MODULE);
  const memory = new Uint8Array(2 * WASM_PAGE);
  memory.set(INITIAL);
  applyDelta(decoded.memory, memory, decoded.manifest.memoryPages);
  assert.deepEqual(memory, guestMemory());
  assert.deepEqual(decoded.frames, source.frames);
  assert.deepEqual(decoded.call, source.call);
  assert.deepEqual(decoded.globals, source.globals);
  assert.deepEqual(decodeCbor(decoded.handles, 'handles'), source.handles);
  assert.deepEqual(decodeFlows(decoded), []);
  assert.deepEqual(Object.keys(decoded.sectionSizes), ['module', 'memory', 'frames', 'globals', 'handles', 'flows']);
});

test('equal guests give equal bytes', async () => {
  assert.deepEqual(await image(), await image());
});

test('a guest may have several memories, in version 1 one', async () => {
  const memories = [guestMemory(), new Uint8Array(3 * WASM_PAGE).fill(7, 100_000, 120_000), new Uint8Array()];
  const initials = [INITIAL, new Uint8Array(WASM_PAGE), new Uint8Array()];
  const memory = collectDeltas(memories, initials);
  const module = moduleOf([1], [1], [0]);
  const manifest: Manifest = { ...MANIFEST, module: named(module), otherMemories: [3, 0] };
  const bytes = await image({ manifest, module, memory });
  assert.equal(new DataView(bytes.buffer, bytes.byteOffset).getUint32(8, true), 2);
  const decoded = await decodeImage(bytes);
  assert.deepEqual(decoded.manifest, manifest);
  const back = memories.map(({ length }, n) => {
    const own = new Uint8Array(length);
    own.set(initials[n] ?? []);
    return own;
  });
  applyDeltas(decoded.memory, back, pagesOf(decoded.manifest));
  assert.deepEqual(back, memories);
});

test('an image may leave its module out, and a guest may stand in its own code', async () => {
  const decoded = await decodeImage(await image({ module: undefined, call: undefined }));
  assert.equal(decoded.module, undefined);
  assert.equal(decoded.call, undefined);
});

test('an image that ends anywhere is a truncated one', async () => {
  const whole = await image();
  for (let length = 0; length < whole.length; length += 1) {
    const { code } = failure(() => verifyImage(whole.subarray(0, length)));
    assert.equal(code, 'KEDGE_IMAGE_TRUNCATED', `after ${length} bytes`);
  }
});

/** Where each part of an image is. */
function partsOf(whole: Uint8Array): { name: string; start: number; end: number }[] {
  const list = [...verifyImage(whole).sections].map(([name, bytes]) => {
    const start = bytes.byteOffset - whole.byteOffset;
    return { name: `section ${name}`, start, end: start + bytes.length };
  });
  const head = Math.min(...list.map(({ start }) => start));
  return [{ name: 'head', start: PRELUDE_SIZE, end: head }, ...list];
}

test('a flipped bit anywhere is found, and the part that is damaged is named', async () => {
  const whole = await image();
  const flipped = (at: number): Failure => {
    const damaged = whole.slice();
    damaged[at] = (damaged[at] ?? 0) ^ (1 << (at % 8));
    return failure(() => verifyImage(damaged));
  };
  for (const { name, start, end } of partsOf(whole)) {
    assert.ok(end > start, name);
    for (let at = start; at < end; at += 1) {
      const { code, message } = flipped(at);
      assert.equal(code, 'KEDGE_IMAGE_CORRUPT', `${name}, byte ${at}`);
      assert.ok(message.includes(name), `${name}, byte ${at}: ${message}`);
    }
  }
  for (let at = 0; at < PRELUDE_SIZE; at += 1) {
    assert.equal(flipped(at).code, at < 8 ? 'KEDGE_IMAGE_NOT_AN_IMAGE' : 'KEDGE_IMAGE_CORRUPT', `byte ${at}`);
  }
});

test('a newer version is told from damage, and bytes after the end are found', async () => {
  const newer = Buffer.from(await image());
  newer.writeUInt32LE(FORMAT_VERSION + 1, 8);
  newer.writeUInt32LE(~(FORMAT_VERSION + 1) >>> 0, 12);
  assert.equal(failure(() => verifyImage(newer)).code, 'KEDGE_IMAGE_VERSION');
  const longer = Buffer.concat([await image(), Buffer.alloc(1)]);
  assert.equal(failure(() => verifyImage(longer)).code, 'KEDGE_IMAGE_CORRUPT');
  assert.equal(failure(() => verifyImage(Buffer.from('#!/bin/sh\n'))).code, 'KEDGE_IMAGE_NOT_AN_IMAGE');
});

test('an image of version 1, whose sections have one digest each, is read', async () => {
  const old = Buffer.from(await made({ ...MANIFEST, formatVersion: 1 }));
  sealAs(old, 1, sha256);
  const [then, now] = [await decodeImage(old), await decodeImage(await image())];
  assert.deepEqual({ ...then, manifest: { ...then.manifest, formatVersion: FORMAT_VERSION } }, now);
  // It had one memory.
  const several = Buffer.from(await made({ ...MANIFEST, formatVersion: 1, otherMemories: [1] }));
  sealAs(several, 1, sha256);
  assert.match(failure(() => verifyImage(several)).message, /formatVersion/);
  // One version's digests under another's number, and a manifest of another version than the head.
  sealAs(old, FORMAT_VERSION, sha256);
  assert.equal(failure(() => verifyImage(old)).code, 'KEDGE_IMAGE_CORRUPT');
  sealAs(old, FORMAT_VERSION, sha256OfPieces);
  assert.match(failure(() => verifyImage(old)).message, /manifest\.formatVersion/);
});

/** Makes all digests of an image those of a version. */
function sealAs(bytes: Buffer, version: number, digest: SectionDigest): void {
  bytes.writeUInt32LE(version, 8);
  bytes.writeUInt32LE(~version >>> 0, 12);
  bytes.set(
    sha256([bytes.subarray(0, PRELUDE_DIGEST_AT)]).subarray(0, PRELUDE_SIZE - PRELUDE_DIGEST_AT),
    PRELUDE_DIGEST_AT,
  );
  const count = bytes.readUInt32LE(16);
  const head = PRELUDE_SIZE + ENTRY_SIZE * count + bytes.readUInt32LE(20);
  let at = head + DIGEST_SIZE;
  for (let n = 0; n < count; n += 1) {
    const entry = PRELUDE_SIZE + ENTRY_SIZE * n;
    const length = Number(bytes.readBigUInt64LE(entry + 8));
    bytes.set(digest([bytes.subarray(at, at + length)]), entry + 16);
    at += length;
  }
  bytes.set(sha256([bytes.subarray(0, head)]), head);
}

test('bytes that no one wrote are refused by a code, never by a crash', async () => {
  const start = (await image()).subarray(0, PRELUDE_SIZE);
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 400 }), fc.boolean(), (bytes, likeAnImage) => {
      const tried = likeAnImage ? Buffer.concat([start, bytes]) : bytes;
      assert.match(failure(() => verifyImage(tried)).code ?? '', /^KEDGE_IMAGE_/);
    }),
  );
});

/** An image whose digests are right, whatever is in it. */
async function made(
  manifest: object,
  change: (sections: Section[]) => Section[] = (sections) => sections,
): Promise<Uint8Array> {
  return await bytesOf(assemble(encodeCbor(manifest, 'manifest'), change(await encodeSections(parts()))));
}

async function refused(what: string, bytes: Uint8Array, field: string): Promise<void> {
  await assert.rejects(
    decodeImage(bytes),
    (error: Failure) => error.code === 'KEDGE_IMAGE_INVALID' && error.message.includes(field),
    what,
  );
}

test('a manifest with right digests and wrong contents is refused, naming the field', async () => {
  const cases: [string, object][] = [
    ['guest.id', { guest: { ...MANIFEST.guest, id: '../../etc' } }],
    ['guest.name', { guest: { ...MANIFEST.guest, name: '-rf' } }],
    ['guest.epoch', { guest: { ...MANIFEST.guest, epoch: 0 } }],
    ['guest.address', { guest: { ...MANIFEST.guest, address: '1.2.3.400' } }],
    ['module.size', { module: { ...MANIFEST.module, size: 2 ** 40 } }],
    ['memoryPages', { memoryPages: 65_537 }],
    ['policy', { policy: 'never' }],
    ['manifest', { unknown: 1 }],
    ['publish.0.guestPort', { publish: [{ proto: 'tcp', outsidePort: 1, guestPort: 0 }] }],
    ['createdAt', { createdAt: 'yesterday' }],
    ['formatVersion', { formatVersion: 7 }],
    ['formatVersion', { formatVersion: 1 }],
    ['otherMemories.1', { otherMemories: [1, 65_537] }],
    ['module', { module: { ...MANIFEST.module, size: 100 } }],
    ['module', { module: { ...MANIFEST.module, sha256: '00'.repeat(32) } }],
  ];
  for (const [field, change] of cases) {
    await refused(JSON.stringify(change), await made({ ...MANIFEST, ...change }), field);
  }
});

test('an image whose frames are written as another version of Kedge did is refused by that name', async () => {
  const older = { ...MANIFEST, encoding: 'asyncify-1', kedgeVersion: '0.0.9' };
  await assert.rejects(decodeImage(await made(older)), {
    code: 'KEDGE_IMAGE_VERSION',
    message: "the image's frames are written as asyncify-1, by Kedge 0.0.9; this Kedge reads points-1",
  });
});

test('sections that are missing, there twice or wrong inside are refused', async () => {
  for (const name of ['memory', 'frames', 'globals', 'handles', 'flows'] as const) {
    const without = await made(MANIFEST, (list) => list.filter((section) => section.name !== name));
    await refused(`without ${name}`, without, name);
  }
  await refused('twice', await made(MANIFEST, (list) => [...list, ...list.slice(-1)]), 'section');
  const cases: [string, SectionName, unknown][] = [
    ['not CBOR', 'globals', Buffer.from([0xff])],
    ['two values', 'globals', Buffer.from([0x80, 0x80])],
    ['a global of no type', 'globals', [{ type: 'v128', bits: 0 }]],
    ['bits that are negative', 'globals', [{ type: 'i64', bits: -1 }]],
    ['bits that are too many', 'globals', [{ type: 'i64', bits: Buffer.alloc(9) }]],
    ['frames without bytes', 'frames', { ...parts().frames, bytes: 'text' }],
    ['a call of no name', 'frames', { ...parts().frames, call: { module: 'x', args: [] } }],
    ['a module that is none', 'module', Buffer.from('zstd')],
  ];
  for (const [what, name, value] of cases) {
    const bytes =
      value instanceof Uint8Array
        ? value
        : encodeCbor(value, name === 'module' || name === 'memory' ? 'handles' : name);
    const replace = (section: Section): Section => (section.name === name ? { name, parts: [bytes] } : section);
    await refused(what, await made(MANIFEST, (list) => list.map(replace)), name);
  }
});

/** An image with right digests and another section in it. */
async function withSection(name: SectionName, bytes: Uint8Array, manifest: object = MANIFEST): Promise<Uint8Array> {
  const replace = (section: Section): Section => (section.name === name ? { name, parts: [bytes] } : section);
  return await made(manifest, (list) => list.map(replace));
}

test('handles and flows are nothing to an agent until somebody asks for them, and then they are checked', async () => {
  const nested = Buffer.alloc(100_000, 0x81);
  const long = Buffer.from([0x9b, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
  for (const bytes of [nested, long]) {
    const decoded = await decodeImage(await withSection('flows', bytes));
    assert.match(failure(() => decodeFlows(decoded)).message, /the image's flows cannot be decoded/);
    const { handles } = await decodeImage(await withSection('handles', bytes));
    assert.deepEqual(new Uint8Array(handles), new Uint8Array(bytes));
    assert.equal(failure(() => checkHandles(handles)).code, 'KEDGE_IMAGE_INVALID');
  }
});

test('a part of more items than a guest has is refused before it is decoded, and never written', async () => {
  // An array of twelve million empty arrays: 12 MB, which decoded take a gigabyte.
  const bomb = Buffer.alloc(12_000_005, 0x80);
  bomb.writeUInt8(0x9a);
  bomb.writeUInt32BE(12_000_000, 1);
  for (const name of ['frames', 'globals'] as const)
    await refused(name, await withSection(name, bomb), `${name} has more than`);
  for (const name of ['handles', 'flows'] as const)
    assert.match(failure(() => decodeCbor(bomb, name)).message, new RegExp(`${name} has more than`));
  const many = Array.from({ length: 70_000 }, () => 1);
  assert.equal(failure(() => encodeCbor(many, 'frames')).code, 'KEDGE_IMAGE_INVALID');
  // Bytes and text are one item, however many bytes they have.
  const large = { bytes: new Uint8Array(70_000), text: 'x'.repeat(70_000), length: 2 ** 40 };
  assert.deepEqual(decodeCbor(encodeCbor(large, 'frames'), 'frames'), large);
});

test('memory that the module cannot have is refused before it is unpacked', async () => {
  const garbage = Buffer.alloc(100, 0xff);
  const cases: [string, Uint8Array, object][] = [
    ['another number of memories', moduleOf([1]), { otherMemories: [1] }],
    ['too few of them', moduleOf([1], [1]), {}],
    ['fewer pages than it begins with', moduleOf([3]), {}],
    ['more pages than it may have', moduleOf([1, 1]), {}],
    ['more pages in the second', moduleOf([1], [1, 2]), { otherMemories: [3] }],
  ];
  for (const [what, module, change] of cases) {
    const manifest = { ...MANIFEST, module: named(module), ...change };
    const carried = Buffer.from(zstdCompressSync(module));
    const others = new Map<string, Uint8Array>([
      ['module', carried],
      ['memory', garbage],
    ]);
    const replace = (section: Section): Section => {
      const other = others.get(section.name);
      return other === undefined ? section : { ...section, parts: [other] };
    };
    await refused(what, await made(manifest, (list) => list.map(replace)), 'memoryPages');
    // The same where the module came before the image.
    const without = await made(manifest, (list) => list.slice(1).map(replace));
    await assert.rejects(decodeImage(without, module), /memoryPages/, what);
  }
  // A guest whose code has ended has none.
  const nothing = Buffer.concat(await packDelta(collectDeltas([], []), 1));
  await decodeImage(await withSection('memory', nothing, { ...MANIFEST, memoryPages: 0 }));
});

test('an image that nobody would read is not written', async () => {
  const memory = { length: MAX_IMAGE, digest: new Uint8Array(DIGEST_SIZE), read: () => assert.fail('it was read') };
  await assert.rejects(encodeImage(parts({ memory })), { code: 'KEDGE_IMAGE_TOO_LARGE' });
});
