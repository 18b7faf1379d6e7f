/** What a record has of a host call, and in what states can differ. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ComputeState } from '../../../src/engine/engine.ts';
import { GuestExit } from '../../../src/engine/engine.ts';
import { instrument } from '../../../src/engine/points/instrument.ts';
import { encodeStack, type Stack } from '../../../src/engine/points/stack.ts';
import { PointTable } from '../../../src/engine/points/table.ts';
import { CallLog } from '../../../src/verify/call-log.ts';
import { compareStates } from '../../../src/verify/difference.ts';
import { differentBytes } from '../../../src/verify/memory.ts';
import { Recorder } from '../../../src/verify/recorder.ts';
import { GuestMemory } from '../../../src/wasi/memory.ts';
import { wat } from '../engine/support.ts';

const CALL = { module: 'm', name: 'f', args: [1n] };

function bench(): { readonly recorder: Recorder; readonly bytes: Uint8Array; readonly memory: () => GuestMemory } {
  const bytes = Uint8Array.from({ length: 256 }, (_, n) => n);
  const recorder = new Recorder();
  recorder.bind(() => bytes);
  return { recorder, bytes, memory: () => new GuestMemory(recorder.memory(), recorder.watch) };
}

test('a record has what a call found and what it wrote, however its accesses overlap', () => {
  const { recorder, memory } = bench();
  const record = recorder.record(CALL, () => {
    const guest = memory();
    guest.setU32(10, 0xffff_ffff);
    // Reads over what was written: the record says what was there before.
    guest.bytes(8, 8).set([1, 2], 6);
    assert.equal(guest.u8(10), 0xff);
    guest.bytes(100, 0);
    assert.equal(guest.u16(200), 0xc9c8);
    return 5;
  });
  assert.deepEqual(
    record.before.map(({ at, bytes }) => [at, ...bytes]),
    [
      [10, 10, 11, 12, 13],
      [8, 8, 9, 10, 11, 12, 13, 14, 15],
      [200, 200, 201],
    ],
  );
  assert.deepEqual(
    record.after.map(({ at, bytes }) => [at, ...bytes]),
    [
      [10, 255, 255, 255, 255],
      [10, 255, 255, 255, 255, 1, 2],
    ],
  );
  assert.deepEqual(record.end, { kind: 'returned', result: 5 });
});

test('a call that ends the guest is on record, one that fails is not', () => {
  const { recorder } = bench();
  const { end } = recorder.record(CALL, () => {
    throw new GuestExit(7);
  });
  assert.deepEqual(end, { kind: 'exited', code: 7 });
  const fault = new TypeError('a fault of the host');
  assert.throws(
    () =>
      recorder.record(CALL, () => {
        throw fault;
      }),
    fault,
  );
  assert.throws(() => recorder.suspend(), { code: 'KEDGE_INTERNAL' });
});

test('a log keeps numbers when it forgets', () => {
  const log = new CallLog();
  const record = (name: string) => ({
    ...CALL,
    name,
    before: [],
    after: [],
    end: { kind: 'exited', code: 0 } as const,
  });
  for (const name of ['a', 'b', 'c']) log.push(record(name));
  log.forget(2);
  assert.deepEqual([log.at(1), log.at(2)?.name, log.at(3), log.end], [undefined, 'c', undefined, 3]);
  log.push(record('d'));
  assert.equal(log.at(3)?.name, 'd');
});

test('bytes that differ, in runs', () => {
  const a = new Uint8Array(20_000);
  const b = a.slice();
  for (const at of [0, 4095, 4096, 9000, 9003, 9008, 19_999]) b[at] = 1;
  assert.deepEqual(
    differentBytes(a, b).map(({ at, length }) => [at, length]),
    [
      [0, 1],
      [4095, 2],
      [9000, 4],
      [9008, 1],
      [19_999, 1],
    ],
  );
  new DataView(a.buffer).setFloat32(16, Number.NaN, true);
  b.set([1, 0, 0xc0, 0xff], 16);
  assert.equal(differentBytes(a, b).find(({ at }) => at === 16)?.nan, true);
  assert.equal(differentBytes(a, a).length, 0);
  assert.equal(
    differentBytes(
      a,
      b.map((byte) => byte ^ 0x55),
    ).length <= 64,
    true,
  );
});

test('every part of a state is compared', () => {
  const module = wat(`(module (memory 1) (global (mut i32) (i32.const 0)) (global (mut f32) (f32.const 0))
    (func (export "_start") (nop)))`);
  const table = new PointTable(instrument(module, 'instruction', 'count').bytes);
  const stack: Stack = {
    stage: 'main',
    frames: [
      { function: 0, offset: 9, stand: 'in', locals: [], operands: [] },
      {
        function: 1,
        offset: 20,
        stand: 'at',
        locals: [{ index: 2, type: 'I', bits: 5n }],
        operands: [{ type: 'f', bits: 0x7fc0_0000n }],
      },
    ],
    globals: [{ index: 5, bits: 3n }],
    tables: [{ index: 1, elements: [0, 4] }],
    data: [1],
    elements: [],
  };
  const state = (changed: Partial<Stack> = {}, rest: Partial<ComputeState> = {}): ComputeState => ({
    originalHash: '',
    memory: new Uint8Array(65_536),
    memoryPages: 1,
    globals: [
      { type: 'i32', bits: 1n },
      { type: 'f32', bits: 0n },
    ],
    frames: { encoding: 'points-1', policy: 'instruction', bytes: encodeStack({ ...stack, ...changed }) },
    ...rest,
  });
  const kinds = (other: ComputeState): readonly string[] =>
    compareStates(table, [state(), other]).differences.map(({ kind, index, first, second }) =>
      [kind, index ?? '', first, second].join(' '),
    );
  const innermost = (changed: object): Partial<Stack> => ({
    frames: stack.frames.map((frame, n) => (n === 1 ? { ...frame, ...changed } : frame)),
  });
  assert.deepEqual(kinds(state()), []);
  assert.deepEqual(kinds(state(innermost({ offset: 21 }))), ['place  function 1 at 0x14 function 1 at 0x15']);
  assert.deepEqual(kinds(state({ frames: stack.frames.slice(0, 1) })), ['depth  2 frames 1 frames']);
  assert.deepEqual(kinds(state(innermost({ locals: [{ index: 2, type: 'I', bits: 6n }] }))), ['local 2 i64:5 i64:6']);
  assert.deepEqual(kinds(state(innermost({ operands: [{ type: 'f', bits: 0n }] }))), ['operand 0 f32:NaN f32:0']);
  assert.deepEqual(kinds(state({ globals: [{ index: 5, bits: 4n }] })), ['global 5 0x3 0x4']);
  assert.deepEqual(kinds(state({ tables: [{ index: 1, elements: [0, 0] }] })), ['table 1 funcref:3 funcref:null']);
  assert.deepEqual(kinds(state({ tables: [{ index: 1, elements: [0] }] })), ['table-size 1 2 elements 1 elements']);
  assert.deepEqual(kinds(state({ data: [] })), ['dropped-segments  data 1 data none']);
  assert.deepEqual(kinds(state({}, { memory: new Uint8Array(131_072) })), ['memory-size  1 pages 2 pages']);
  const globals = state().globals.with(1, { type: 'f32', bits: 0x3f80_0000n });
  assert.deepEqual(kinds(state({}, { globals })), ['global 1 f32:0 f32:1']);
  // A NaN of other bits is told of, and no difference.
  const nan = state(innermost({ operands: [{ type: 'f', bits: 0xffc0_0001n }] }));
  assert.deepEqual(compareStates(table, [state(), nan]), { differences: [], nan: true });
});
