import assert from 'node:assert/strict';
import { totalmem } from 'node:os';
import process from 'node:process';
import { test } from 'node:test';
import { zstdCompressSync } from 'node:zlib';
import fc from 'fast-check';
import {
  applyDelta,
  applyDeltas,
  collectDelta,
  collectDeltas,
  DELTA_PAGE,
  packDelta,
  unpackDelta,
} from '../../../src/image/memory-delta.ts';

const WASM_PAGE = 65_536;

/** Over a section and back into memory as the module makes it. */
async function moved(memory: Uint8Array, initial: Uint8Array): Promise<Uint8Array> {
  const pages = memory.length / WASM_PAGE;
  const section = Buffer.concat(await packDelta(collectDelta(memory, initial), 1));
  const target = new Uint8Array(memory.length);
  target.set(initial);
  applyDelta(await unpackDelta(section, pages), target, pages);
  return target;
}

const writes = fc.array(
  fc.record({ at: fc.nat(), length: fc.integer({ min: 0, max: 3 * DELTA_PAGE }), byte: fc.nat(255) }),
  { maxLength: 8 },
);

function scribble(memory: Uint8Array, list: readonly { at: number; length: number; byte: number }[]): void {
  for (const { at, length, byte } of list) memory.fill(byte, at % memory.length, (at % memory.length) + length);
}

test('any memory comes back, whatever the module made and however far it grew', async () => {
  const pages = fc.integer({ min: 1, max: 6 });
  await fc.assert(
    fc.asyncProperty(pages, fc.integer({ min: 0, max: 6 }), writes, writes, async (own, grown, made, changed) => {
      const initial = new Uint8Array(own * WASM_PAGE);
      scribble(initial, made);
      const memory = new Uint8Array((own + grown) * WASM_PAGE);
      memory.set(initial);
      scribble(memory, changed);
      assert.deepEqual(await moved(memory, initial), memory);
    }),
    { numRuns: 60 },
  );
});

test('memory that does not compress comes back over many chunks', async () => {
  const memory = new Uint8Array(100 * WASM_PAGE);
  let x = 1;
  for (let i = 0; i < memory.length; i += 1) {
    x = (Math.imul(x, 1_103_515_245) + 12_345) >>> 0;
    memory[i] = x >>> 24;
  }
  const back = await moved(memory, new Uint8Array(WASM_PAGE));
  assert.equal(Buffer.compare(back, memory), 0);
});

test('several memories come back, each as it was, and no run is in two', () => {
  const memories = [4, 0, 1, 2].map((pages, n) => new Uint8Array(pages * WASM_PAGE).fill(n + 1));
  const initials = memories.map(({ length }) => new Uint8Array(Math.min(length, WASM_PAGE)));
  const pages = memories.map(({ length }) => length / WASM_PAGE);
  const delta = collectDeltas(memories, initials);
  const empty = (): Uint8Array[] => memories.map(({ length }) => new Uint8Array(length));
  const back = empty();
  applyDeltas(delta, back, pages);
  assert.deepEqual(back, memories);
  // One run from the first through to the third.
  new DataView(delta.buffer).setUint32(8, 5 * (WASM_PAGE / DELTA_PAGE), true);
  assert.throws(() => applyDeltas(delta, empty(), pages), INVALID);
  assert.throws(() => applyDeltas(delta, empty(), [5, 0, 1, 1]), INVALID);
});

test('noise is stored as it is, what only looks like noise is compressed', async () => {
  const mebibyte = 1024 * 1024;
  const noise = new Uint8Array(2 * mebibyte);
  for (let at = 0; at < noise.length; at += 65_536) crypto.getRandomValues(noise.subarray(at, at + 65_536));
  const size = async (delta: Uint8Array): Promise<number> => Buffer.concat(await packDelta(delta, 1)).length;
  assert.equal(await size(noise), noise.length + 2 * 8);
  // Every byte value is equally frequent in these.
  const counting = noise.map((_, at) => at);
  const repeated = noise.map((_, at) => noise[at % 1000] ?? 0);
  for (const delta of [counting, repeated]) assert.ok((await size(delta)) < mebibyte / 10);
});

test('what the module makes itself costs nothing, and pages that became zero cost no data', () => {
  const initial = new Uint8Array(16 * WASM_PAGE).fill(3);
  assert.equal(collectDelta(initial, initial).length, 4);
  const memory = initial.slice().fill(0, 0, 8 * WASM_PAGE);
  const delta = collectDelta(memory, initial);
  assert.equal(delta.length, 4 + 12);
  const target = initial.slice();
  applyDelta(delta, target, 16);
  assert.deepEqual(target, memory);
  assert.equal(collectDelta(new Uint8Array(1024 * WASM_PAGE), new Uint8Array(0)).length, 4);
  assert.equal(collectDelta(new Uint8Array(0), new Uint8Array(0)).length, 4);
});

function u32(...values: number[]): Buffer {
  const bytes = Buffer.alloc(4 * values.length);
  values.forEach((value, i) => bytes.writeUInt32LE(value, 4 * i));
  return bytes;
}

const INVALID = { code: 'KEDGE_IMAGE_INVALID' };

test('deltas that contradict themselves are refused before memory is touched', () => {
  const page = Buffer.alloc(DELTA_PAGE, 1);
  const cases: Record<string, Uint8Array> = {
    empty: u32(),
    'runs that are not there': u32(0xffff_ffff, 0),
    'a run beyond the memory': u32(1, 16, 1, 0),
    'a run of huge length': u32(1, 0, 0xffff_ffff, 0),
    'an empty run': u32(1, 0, 0, 0),
    'runs that overlap': u32(2, 0, 2, 0, 1, 1, 0),
    'runs that descend': u32(2, 1, 1, 0, 0, 1, 0),
    'a run of no kind': u32(1, 0, 1, 2),
    'data that is not there': u32(1, 0, 1, 1),
    'data beyond its runs': Buffer.concat([u32(1, 0, 1, 1), page, page]),
    'data of no run': Buffer.concat([u32(0), page]),
  };
  for (const [name, delta] of Object.entries(cases)) {
    const memory = new Uint8Array(WASM_PAGE);
    assert.throws(() => applyDelta(delta, memory, 1), INVALID, name);
    assert.ok(
      memory.every((byte) => byte === 0),
      name,
    );
  }
  assert.throws(() => applyDelta(u32(0), new Uint8Array(WASM_PAGE), 2), INVALID);
});

test('sections that contradict themselves are refused, and allocate no more than is there', async () => {
  const page = zstdCompressSync(Buffer.alloc(DELTA_PAGE, 1));
  const bomb = zstdCompressSync(Buffer.alloc(64 * 1024 * 1024));
  const mebibyte = 1024 * 1024;
  const chunk = Buffer.concat([u32(mebibyte, bomb.length), bomb]);
  const cases: Record<string, Uint8Array> = {
    'a chunk that ends': u32(1),
    'a chunk beyond the end': Buffer.concat([u32(DELTA_PAGE, 1000), page]),
    'a chunk that is none': Buffer.concat([u32(DELTA_PAGE, 8), Buffer.alloc(8)]),
    'a chunk of a huge length': Buffer.concat([u32(0xffff_ffff, page.length), page]),
    'a chunk larger than it says': chunk,
    'a chunk smaller than it says': Buffer.concat([u32(2 * DELTA_PAGE, page.length), page]),
    'an empty chunk': u32(0, 0),
    'a chunk behind a short one': Buffer.concat([
      u32(DELTA_PAGE, page.length),
      page,
      u32(DELTA_PAGE, page.length),
      page,
    ]),
    'more than the memory it is of': Buffer.concat(Array.from({ length: 200 }, () => chunk)),
  };
  for (const [name, section] of Object.entries(cases)) {
    await assert.rejects(unpackDelta(section, 1), INVALID, name);
  }
});

test('a memory for which this host has no room is refused before any of it is unpacked', async () => {
  const mebibyte = 1024 * 1024;
  const packed = zstdCompressSync(Buffer.alloc(mebibyte));
  const chunk = Buffer.concat([u32(mebibyte, packed.length), packed]);
  const chunks = Math.ceil(totalmem() / mebibyte);
  const section = Buffer.concat(Array.from({ length: chunks }, () => chunk));
  const before = process.memoryUsage.rss();
  await assert.rejects(unpackDelta(section, 100 * 65_536), { code: 'KEDGE_RESTORE_MEMORY' });
  assert.ok(process.memoryUsage.rss() - before < 64 * mebibyte);
});
