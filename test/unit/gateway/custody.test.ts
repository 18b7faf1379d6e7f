/** Custody against a map of bytes. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { CHUNK_BYTES, CUSTODY_CAPACITY, RANGES_PER_FLOW, createArena } from '../../../src/gateway/arena.ts';
import { Custody } from '../../../src/gateway/custody.ts';
import { garbage } from '../../support/garbage.ts';
import { pattern, patternBytes } from './wire.ts';

const FLOW = 3;

function fresh(chunks = 400): { custody: Custody; used: () => number } {
  const arena = createArena({ maxFlows: 8, maxGuests: 1, custodyBytes: chunks * CHUNK_BYTES });
  return { custody: new Custody(arena), used: () => arena.gauges[5]! };
}

function insert(custody: Custody, from: number, length: number): void {
  custody.insert(FLOW, from, patternBytes(7, from, length), 0, length);
}

function assertCopies(custody: Custody, from: number, to: number): void {
  const target = new Uint8Array(to - from + 2);
  custody.copy(FLOW, from, to - from, target, 1);
  assert.deepEqual([target[0], target.at(-1)], [0, 0], 'writes only where it may');
  for (let i = from; i < to; i++) if (target[1 + i - from] !== pattern(7, i)) assert.fail(`byte ${i}`);
}

/** The obvious custody: a set of offsets. */
class Model {
  base = 0;
  readonly bytes = new Set<number>();

  get ranges(): [number, number][] {
    const found: [number, number][] = [];
    for (const at of [...this.bytes].sort((a, b) => a - b)) {
      const last = found.at(-1);
      if (last !== undefined && last[1] === at) last[1]++;
      else found.push([at, at + 1]);
    }
    return found;
  }

  insert(from: number, length: number): void {
    const to = Math.min(from + length, this.base + CUSTODY_CAPACITY);
    const start = Math.max(from, this.base);
    const ranges = this.ranges;
    const touches = ranges.some(([left, right]) => left <= to && right >= start);
    if (to > start && ranges.length === RANGES_PER_FLOW && !touches) {
      const [left, right] = ranges.at(-1)!;
      if (start > right) return;
      for (let at = left; at < right; at++) this.bytes.delete(at);
    }
    for (let at = start; at < to; at++) this.bytes.add(at);
  }

  release(offset: number): void {
    this.base = Math.max(this.base, offset);
    for (const at of this.bytes) if (at < this.base) this.bytes.delete(at);
  }
}

type Step =
  { do: 'insert'; from: number; length: number } | { do: 'release'; by: number } | { do: 'reset'; to: number };

const steps = fc.array(
  fc.oneof(
    { weight: 8, arbitrary: fc.record({ do: fc.constant('insert' as const), from: fc.nat(400), length: fc.nat(12) }) },
    { weight: 2, arbitrary: fc.record({ do: fc.constant('release' as const), by: fc.nat(60) }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('reset' as const), to: fc.nat(500) }) },
  ),
  { maxLength: 60 },
);

test('S5 S31: any order of inserts, releases and resets, against a set of bytes', () => {
  // Near a chunk's end, so that small numbers cross it; and far up in the stream.
  for (const origin of [0, CHUNK_BYTES - 200, 5 * 2 ** 32 + CHUNK_BYTES - 13])
    fc.assert(
      fc.property(steps, (run: Step[]) => {
        const { custody } = fresh();
        const model = new Model();
        custody.reset(FLOW, origin);
        model.base = origin;
        for (const step of run) {
          if (step.do === 'insert') {
            insert(custody, origin + step.from, step.length);
            model.insert(origin + step.from, step.length);
          } else if (step.do === 'release') {
            custody.release(FLOW, model.base + step.by);
            model.release(model.base + step.by);
          } else {
            custody.reset(FLOW, origin + step.to);
            model.bytes.clear();
            model.base = origin + step.to;
          }
          const ranges = model.ranges;
          assert.equal(custody.held(FLOW), model.bytes.size);
          assert.equal(custody.isEmpty(FLOW), ranges.length === 0);
          assert.equal(custody.highest(FLOW), ranges.at(-1)?.[1] ?? model.base);
          let end = model.base;
          while (model.bytes.has(end)) end++;
          assert.equal(custody.contiguousEnd(FLOW, model.base), end);
          for (const [from, to] of ranges) assertCopies(custody, from, to);
        }
      }),
      { numRuns: 150 },
    );
});

test('chunks of the pool: as many as the bytes need, all back at the end', () => {
  fc.assert(
    fc.property(
      fc.array(
        fc.record({ from: fc.nat(60 * CHUNK_BYTES), length: fc.nat(3 * CHUNK_BYTES), release: fc.nat(CHUNK_BYTES) }),
        {
          maxLength: 40,
        },
      ),
      (run) => {
        const { custody, used } = fresh();
        let base = 0;
        for (const { from, length, release } of run) {
          insert(custody, from, length);
          custody.release(FLOW, (base += release));
          const most = Math.ceil(custody.held(FLOW) / CHUNK_BYTES) + 2 * RANGES_PER_FLOW;
          assert.ok(used() <= most, `${used()} chunks for ${custody.held(FLOW)} bytes`);
        }
        custody.release(FLOW, 100 * CHUNK_BYTES);
        assert.equal(used(), 0);
      },
    ),
    { numRuns: 100 },
  );
});

test('S31: capacity is the limit and no byte more, wherever the base is', () => {
  for (const base of [0, 1, CHUNK_BYTES - 1, 7 * CHUNK_BYTES + 5]) {
    const { custody, used } = fresh();
    custody.reset(FLOW, base);
    for (let at = base; at < base + CUSTODY_CAPACITY + 100_000; at += 50_000) insert(custody, at, 50_000);
    assert.equal(custody.held(FLOW), CUSTODY_CAPACITY);
    assertCopies(custody, base, base + CUSTODY_CAPACITY);
    assert.ok(used() <= CUSTODY_CAPACITY / CHUNK_BYTES + 1);
    // The ring turns: what is released makes room for as much.
    custody.release(FLOW, base + 3 * CHUNK_BYTES + 7);
    insert(custody, base + CUSTODY_CAPACITY, 10 * CHUNK_BYTES);
    assert.equal(custody.held(FLOW), CUSTODY_CAPACITY);
    assertCopies(custody, base + 3 * CHUNK_BYTES + 7, base + CUSTODY_CAPACITY + 3 * CHUNK_BYTES + 7);
  }
});

test('S31: an empty pool takes the part it has room for, and two flows never share a chunk', () => {
  const arena = createArena({ maxFlows: 8, maxGuests: 1, custodyBytes: 4 * CHUNK_BYTES });
  const custody = new Custody(arena);
  custody.insert(1, 0, patternBytes(7, 0, 3 * CHUNK_BYTES - 10), 0, 3 * CHUNK_BYTES - 10);
  custody.insert(2, 100, patternBytes(8, 100, 2 * CHUNK_BYTES), 0, 2 * CHUNK_BYTES);
  assert.equal(custody.held(1), 3 * CHUNK_BYTES - 10);
  assert.equal(custody.held(2), CHUNK_BYTES - 100);
  assert.equal(custody.room(), 0);
  custody.insert(3, 0, patternBytes(9, 0, 10), 0, 10);
  assert.equal(custody.held(3), 0);
  // What is there may still be added to.
  custody.insert(1, 3 * CHUNK_BYTES - 10, patternBytes(7, 3 * CHUNK_BYTES - 10, 100), 0, 100);
  assert.equal(custody.held(1), 3 * CHUNK_BYTES);
  const target = new Uint8Array(CHUNK_BYTES);
  custody.copy(2, 100, CHUNK_BYTES - 100, target, 0);
  assert.deepEqual(target.subarray(0, CHUNK_BYTES - 100), patternBytes(8, 100, CHUNK_BYTES - 100));
  custody.release(1, 10 * CHUNK_BYTES);
  assert.equal(custody.room(), 3 * CHUNK_BYTES);
});

test('S5: a segment below all ranges is taken even when no more are remembered: the highest makes way', () => {
  const { custody } = fresh();
  for (let i = 1; i <= RANGES_PER_FLOW; i++) insert(custody, i * 1000, 10);
  insert(custody, 100_000, 10);
  assert.equal(custody.highest(FLOW), RANGES_PER_FLOW * 1000 + 10, 'one above them all is not held');
  insert(custody, 0, 10);
  assert.equal(custody.contiguousEnd(FLOW, 0), 10);
  assert.equal(custody.highest(FLOW), (RANGES_PER_FLOW - 1) * 1000 + 10);
  // One that closes a gap needs no new range.
  insert(custody, 10, 990);
  assert.equal(custody.contiguousEnd(FLOW, 0), 1010);
});

test('taking, copying out and releasing make no garbage', () => {
  const { custody } = fresh();
  const segment = patternBytes(7, 0, 1448);
  const target = new Uint8Array(1448);
  let at = 0;
  const least = garbage(() => {
    custody.insert(FLOW, at, segment, 0, 1448);
    custody.copy(FLOW, at, 1448, target, 0);
    at += 1448;
    // Offsets beyond 2^31 are objects when a function that V8 has not inlined is handed them; that is not what is measured.
    if (at > 2 ** 30) {
      at = 0;
      custody.reset(FLOW, 0);
    } else custody.release(FLOW, at);
  });
  assert.ok(least <= 1, `${least} bytes a segment`);
  assert.deepEqual(target, segment);
});
