import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { StreamBuffer } from '../../../src/wasi-sock/tail.ts';

/** The slow model: an array of numbers and an offset. */
interface Model {
  start: number;
  readonly bytes: number[];
}

type Step =
  | { readonly do: 'append'; readonly length: number; readonly seed: number }
  | { readonly do: 'trim'; readonly share: number }
  | { readonly do: 'skip'; readonly length: number }
  | { readonly do: 'copy'; readonly length: number };

const steps = fc.array(
  fc.oneof(
    fc.record({ do: fc.constant('append' as const), length: fc.integer({ min: 0, max: 5000 }), seed: fc.nat(255) }),
    fc.record({ do: fc.constant('trim' as const), share: fc.double({ min: 0, max: 1, noNaN: true }) }),
    fc.record({ do: fc.constant('skip' as const), length: fc.integer({ min: 0, max: 2 ** 33 }) }),
    fc.record({ do: fc.constant('copy' as const), length: fc.integer({ min: 0, max: 9000 }) }),
  ),
  { maxLength: 60 },
);

function check(buffer: StreamBuffer, model: Model): void {
  assert.equal(buffer.start, model.start);
  assert.equal(buffer.end, model.start + model.bytes.length);
  assert.equal(buffer.length, model.bytes.length);
}

function step(buffer: StreamBuffer, model: Model, s: Step): void {
  switch (s.do) {
    case 'append': {
      const data = Uint8Array.from({ length: s.length + 2 }, (_, i) => (s.seed + i) & 255);
      buffer.append(data, 1, s.length);
      model.bytes.push(...data.subarray(1, 1 + s.length));
      return;
    }
    case 'trim': {
      const offset = model.start + Math.floor(model.bytes.length * s.share);
      buffer.trim(offset);
      model.bytes.splice(0, offset - model.start);
      model.start = offset;
      return;
    }
    case 'skip':
      if (model.bytes.length > 0) {
        assert.throws(() => buffer.skip(s.length), RangeError);
      } else {
        buffer.skip(s.length);
        model.start += s.length;
      }
      return;
    case 'copy': {
      const target = new Uint8Array(s.length + 1);
      const n = buffer.copyTo(target, 1, s.length);
      assert.deepEqual([...target.subarray(1, 1 + n)], model.bytes.slice(0, s.length));
    }
  }
}

test('a stream buffer does what an array with an offset does, also beyond 2^32', () => {
  fc.assert(
    fc.property(fc.constantFrom(0, 2 ** 32 - 100, 2 ** 50), steps, (start, list) => {
      const buffer = new StreamBuffer(start);
      const model: Model = { start, bytes: [] };
      for (const s of list) {
        step(buffer, model, s);
        check(buffer, model);
      }
      assert.deepEqual([...buffer.bytes()], model.bytes);
      const seen: number[] = [];
      while (seen.length < model.bytes.length) {
        const view = buffer.view(model.start + seen.length);
        assert.ok(view.length > 0);
        seen.push(...view);
      }
      assert.deepEqual(seen, model.bytes);
    }),
    { numRuns: 150 },
  );
});

test('a stream buffer holds megabytes in pieces and gives them back', () => {
  const buffer = new StreamBuffer();
  const data = new Uint8Array(100_000).map((_, i) => i * 7);
  for (let i = 0; i < 60; i += 1) buffer.append(data, 0, data.length);
  assert.equal(buffer.length, 6_000_000);
  buffer.trim(5_999_990);
  assert.deepEqual(buffer.bytes(), data.subarray(data.length - 10));
  buffer.append(data, 0, 5);
  assert.deepEqual(buffer.bytes().subarray(10), data.subarray(0, 5));
});

test('a stream buffer refuses what it does not hold', () => {
  const buffer = new StreamBuffer(10, Uint8Array.of(1, 2, 3));
  assert.throws(() => buffer.trim(14), RangeError);
  assert.throws(() => buffer.view(9), RangeError);
  assert.throws(() => buffer.view(14), RangeError);
  assert.equal(buffer.view(13).length, 0);
  buffer.trim(4);
  assert.equal(buffer.start, 10);
});
