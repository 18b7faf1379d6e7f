/** What crosses between guest and host: values of every type, memory, state before the start. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { HostCallContext, HostImports } from '../../../../src/engine/engine.ts';
import { PAGE_SIZE } from '../../../../src/engine/wasm/initial-memory.ts';
import { copyState, host } from '../support.ts';
import { make, type Subject } from './subjects.ts';

export function borders(subject: Subject): void {
  test('values of every type arrive, and results come back', () => {
    const text = `(module
      (import "t" "all" (func $all (param i32 i64 f32 f64) (result i64)))
      (import "t" "i" (func $i (param i32) (result i32))) (import "t" "f" (func $f (param f32) (result f32)))
      (import "t" "F" (func $F (param f64) (result f64)))
      (memory 1)
      (func (export "_start")
        (i64.store (i32.const 0)
          (call $all (i32.const -1) (i64.const 0x8000000000000000) (f32.const 1.5) (f64.const -0.25)))
        (i32.store (i32.const 8) (call $i (i32.const 0x80000000)))
        (f32.store (i32.const 12) (call $f (f32.const inf)))
        (f64.store (i32.const 16) (call $F (f64.const -0.0)))))`;
    const seen: unknown[] = [];
    const imports = (): HostImports => ({
      t: {
        all: host<[number, bigint, number, number]>('(iIfF)I', (...args) => {
          seen.push(...args);
          return -2n;
        }),
        i: host<[number]>('(i)i', (value) => {
          seen.push(value);
          return 0xffff_ffff;
        }),
        f: host<[number]>('(f)f', (value) => {
          seen.push(value);
          return 0.1;
        }),
        F: host<[number]>('(F)F', (value) => {
          seen.push(value);
          return value;
        }),
      },
    });
    const { instance } = make(subject, text, imports);
    assert.deepEqual(instance.start(), { kind: 'exited', code: 0 });
    assert.deepEqual(seen, [-1, -(2n ** 63n), 1.5, -0.25, -(2 ** 31), Infinity, -0]);
    const view = new DataView(instance.memory().buffer);
    assert.equal(view.getBigInt64(0, true), -2n);
    assert.equal(view.getInt32(8, true), -1);
    assert.equal(view.getFloat32(12, true), Math.fround(0.1));
    assert.ok(Object.is(view.getFloat64(16, true), -0));
  });

  test('a host that gives nothing where an i32 is expected gives 0', () => {
    const text = `(module (import "t" "f" (func $f (result i32))) (memory 1)
      (func (export "_start") (i32.store8 (i32.const 1) (i32.add (i32.const 3) (call $f)))))`;
    const { instance } = make(subject, text, () => ({ t: { f: host('()i', () => undefined) } }));
    instance.start();
    assert.equal(instance.memory()[1], 3);
  });

  test('memory is the guest’s own, and follows it when it grows', () => {
    const text = `(module (import "t" "look" (func $look (param i32))) (memory 1 40) (data (i32.const 3) "x")
      (func (export "_start") (local $n i32)
        (loop $again
          (i32.store8 (i32.const 5) (local.get $n))
          (call $look (local.get $n))
          (drop (memory.grow (i32.const 3)))
          (br_if $again (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 10))))
        (call $look (i32.load8_u (i32.const 7)))))`;
    const views: Uint8Array[] = [];
    const imports = (context: HostCallContext): HostImports => ({
      t: {
        look: host<[number]>('(i)', (n) => {
          const memory = context.memory();
          assert.equal(memory, context.memory(), 'the same view until it grows');
          views.push(memory);
          if (n < 10) {
            assert.equal(memory.length, (1 + 3 * n) * PAGE_SIZE);
            assert.deepEqual([memory[3], memory[5]], [120, n]);
            memory[7] = 99;
          } else {
            assert.equal(n, 99, 'what the host wrote, the guest reads');
          }
          return undefined;
        }),
      },
    });
    const { instance, context } = make(subject, text, imports);
    assert.equal(context.memory().length, PAGE_SIZE);
    assert.deepEqual(instance.start(), { kind: 'exited', code: 0 });
    assert.equal(instance.memory().length, 31 * PAGE_SIZE);
    assert.ok(
      views.slice(0, -1).every((view) => view.length === 0),
      'old views see nothing',
    );
  });

  test('memory may be filled in place before the start', () => {
    const text = `(module (memory 1 4) (func (drop (memory.grow (i32.const 1))))
      (func (export "_start") (i32.store8 (i32.const 1) (i32.load8_u (i32.const 70000)))))`;
    const { instance } = make(subject, text);
    const memory = instance.growMemory(2);
    assert.equal(memory.length, 2 * PAGE_SIZE);
    memory[70_000] = 42;
    assert.equal(instance.growMemory(1), memory, 'it is large enough');
    assert.throws(() => instance.growMemory(5), { code: 'KEDGE_RESTORE_MEMORY' });
    assert.throws(() => instance.growMemory(70_000), { code: 'KEDGE_RESTORE_MEMORY' });
    instance.start();
    assert.equal(instance.memory()[1], 42);
  });

  test('a guest without memory has an empty one', () => {
    const { instance } = make(subject, '(module (func (export "_start")))');
    assert.equal(instance.memory().length, 0);
    assert.equal(instance.growMemory(0).length, 0);
    assert.deepEqual(instance.start(), { kind: 'exited', code: 0 });
  });

  test('a guest that was never started can be captured and restored', () => {
    const text = `(module (memory 1 3) (global $i (mut i32) (i32.const -7)) (global $l (mut i64) (i64.const -8))
      (global $f (mut f32) (f32.const nan:0x200001)) (global $d (mut f64) (f64.const -0.0)) (global $fixed i32 (i32.const 1))
      (func (export "_start") (i32.store (i32.const 4) (i32.add (global.get $i) (i32.const 16))))
      (func (drop (memory.grow (i32.const 1)))))`;
    const state = copyState(make(subject, text).instance.capture());
    assert.deepEqual(state.globals, [
      { type: 'i32', bits: 0xffff_fff9n },
      { type: 'i64', bits: 0xffff_ffff_ffff_fff8n },
      { type: 'f32', bits: 0x7fa0_0001n },
      { type: 'f64', bits: 0x8000_0000_0000_0000n },
    ]);
    assert.equal(state.frames.bytes.length, 0);
    const { instance } = make(subject, text);
    const globals = state.globals.map((global, n) => (n === 0 ? { ...global, bits: 5n } : global));
    const larger = new Uint8Array(2 * PAGE_SIZE);
    instance.restore({ ...state, globals, memory: larger, memoryPages: 2 });
    const again = instance.capture();
    assert.deepEqual(again.globals, globals);
    assert.equal(again.memoryPages, 2);
    assert.deepEqual(instance.resume(), { kind: 'exited', code: 0 });
    assert.equal(instance.memory()[4], 21);
  });

  test('a state that does not fit is refused', () => {
    const text = '(module (memory 1) (global (mut i32) (i32.const 1)) (func (export "_start")))';
    const state = copyState(make(subject, text).instance.capture());
    const { instance } = make(subject, text);
    for (const changed of [
      { ...state, originalHash: '0'.repeat(64) },
      { ...state, frames: { ...state.frames, encoding: 'other-1' } },
      { ...state, globals: [] },
      { ...state, globals: [{ type: 'f64' as const, bits: 0n }] },
      { ...state, memory: state.memory.slice(1) },
      { ...state, memoryPages: 0 },
      { ...state, call: { module: 't', name: 'x', args: [] } },
    ]) {
      assert.throws(() => instance.restore(changed), { code: 'KEDGE_FRAMES_MISMATCH' });
    }
    assert.doesNotThrow(() => instance.restore(state));
  });

  test('host calls nest in no state of another guest', () => {
    const inner = make(
      subject,
      '(module (memory 1) (func (export "_start") (i32.store8 (i32.const 0) (i32.const 3))))',
    );
    const text = '(module (import "t" "run" (func $run)) (memory 1) (func (export "_start") (call $run)))';
    const imports = (): HostImports => ({
      t: {
        run: host('()', () => {
          assert.deepEqual(inner.instance.start(), { kind: 'exited', code: 0 });
          return undefined;
        }),
      },
    });
    const outer = make(subject, text, imports);
    assert.deepEqual(outer.instance.start(), { kind: 'exited', code: 0 });
    assert.deepEqual([inner.instance.memory()[0], outer.instance.memory()[0]], [3, 0]);
  });

  test('a great many instances may be made', () => {
    for (let n = 0; n < 200; n += 1) {
      const { instance } = make(subject, '(module (memory 16) (func (export "_start") (loop (nop))))');
      assert.deepEqual(instance.start(), { kind: 'exited', code: 0 });
      assert.equal(instance.memory().length, 16 * PAGE_SIZE);
      instance.memory()[n] = 1;
    }
  });
}
