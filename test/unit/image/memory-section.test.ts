/** The memory section that is made without a copy holds what the one with a copy does. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { sha256OfPieces } from '../../../src/image/digest.ts';
import {
  applyDeltas,
  CHUNK,
  collectDeltas,
  DELTA_PAGE,
  findRuns,
  unpackDelta,
} from '../../../src/image/memory-delta.ts';
import { packInPlace } from '../../../src/image/memory-section.ts';
import type { MemorySection } from '../../../src/image/memory-section.ts';

const WASM_PAGE = 65_536;

async function packed(memories: readonly Uint8Array[], initials: readonly Uint8Array[]): Promise<MemorySection> {
  const section = await packInPlace(findRuns(memories, initials), 1, () => false);
  assert.ok(section !== undefined);
  return section;
}

function all(section: MemorySection, step: number): Buffer {
  const pieces: Uint8Array[] = [];
  for (let at = 0; at < section.length;) {
    const piece = new Uint8Array(step);
    const got = section.read(at, piece);
    assert.ok(got === step || at + got === section.length, `${got} bytes at ${at}`);
    pieces.push(piece.subarray(0, got));
    at += got;
  }
  return Buffer.concat(pieces);
}

function noise(bytes: Uint8Array): Uint8Array {
  for (let at = 0; at < bytes.length; at += WASM_PAGE) crypto.getRandomValues(bytes.subarray(at, at + WASM_PAGE));
  return bytes;
}

test('any memories come back from it, read by pieces of any size', async () => {
  const write = fc.record({
    memory: fc.nat(2),
    page: fc.nat(200),
    pages: fc.integer({ min: 1, max: 300 }),
    kind: fc.constantFrom('noise', 'same', 'zero'),
  });
  await fc.assert(
    fc.asyncProperty(
      fc.array(write, { maxLength: 12 }),
      fc.integer({ min: 1000, max: 3 * CHUNK }),
      async (writes, step) => {
        const memories = [40, 0, 3].map((pages) => new Uint8Array(pages * WASM_PAGE).fill(9, WASM_PAGE));
        const initials = memories.map((memory) => memory.slice(0, 2 * WASM_PAGE));
        for (const { memory, page, pages, kind } of writes) {
          const part = memories[memory]?.subarray(page * DELTA_PAGE, (page + pages) * DELTA_PAGE);
          if (part === undefined) continue;
          if (kind === 'noise') noise(part);
          else part.fill(kind === 'same' ? 7 : 0);
        }
        const section = await packed(memories, initials);
        const bytes = all(section, step);
        assert.equal(bytes.length, section.length);
        assert.deepEqual(Buffer.from(section.digest), Buffer.from(sha256OfPieces([bytes])));
        const pages = memories.map(({ length }) => length / WASM_PAGE);
        const delta = await unpackDelta(bytes, 43);
        assert.equal(Buffer.compare(delta, collectDeltas(memories, initials)), 0);
        const back = memories.map((memory, n) => {
          const fresh = new Uint8Array(memory.length);
          fresh.set(initials[n] ?? []);
          return fresh;
        });
        applyDeltas(delta, back, pages);
        for (const [n, memory] of back.entries()) assert.equal(Buffer.compare(memory, memories[n] ?? memory), 0);
      },
    ),
    { numRuns: 40 },
  );
});

test('noise is not copied: it is read from the memory itself', async () => {
  const memory = noise(new Uint8Array(8 * CHUNK));
  const section = await packed([memory], []);
  const before = all(section, CHUNK);
  memory.fill(3);
  const after = all(section, CHUNK);
  assert.equal(before.length, after.length);
  // But for the first chunk, which has what stands before the data.
  const same = before.filter((byte, at) => byte === after[at]).length - CHUNK;
  assert.ok(same < before.length / 100, `${same} of ${before.length} bytes are the same`);
});

test('what was given up gives nothing', async () => {
  const memory = noise(new Uint8Array(64 * CHUNK));
  let asked = 0;
  assert.equal(await packInPlace(findRuns([memory], []), 1, () => (asked += 1) > 5), undefined);
  assert.ok(asked < 10, `asked ${asked} times`);
});
