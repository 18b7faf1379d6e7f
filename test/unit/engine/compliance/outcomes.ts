/** How a guest's code ends: exit codes, traps, errors of the host, calls in the wrong state. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { GuestExit, type HostImports } from '../../../../src/engine/engine.ts';
import { host } from '../support.ts';
import { make, type Subject } from './subjects.ts';

const INTEGER = 'integer overflow or invalid conversion to integer';
const INDIRECT = 'indirect call of null or of another type';

/** A body of `_start`, and the trap it ends in. */
const TRAPS: readonly (readonly [string, string])[] = [
  ['unreachable', 'unreachable'],
  ['(drop (i32.load (i32.const -4)))', 'out of bounds memory access'],
  ['(i64.store offset=65530 (i32.const 0) (i64.const 1))', 'out of bounds memory access'],
  ['(memory.fill (i32.const 65530) (i32.const 0) (i32.const 10))', 'out of bounds memory access'],
  ['(drop (i32.div_u (i32.const 1) (global.get $zero)))', 'integer divide by zero'],
  ['(drop (i32.rem_s (i32.const 1) (global.get $zero)))', 'integer divide by zero'],
  ['(drop (i32.div_s (i32.const 0x80000000) (i32.sub (global.get $zero) (i32.const 1))))', INTEGER],
  ['(drop (i32.trunc_f64_s (f64.div (f64.const 0) (f64.convert_i32_s (global.get $zero)))))', INTEGER],
  ['(drop (i32.trunc_f64_s (f64.const 1e30)))', INTEGER],
  ['(drop (i64.trunc_f32_u (f32.const -1)))', INTEGER],
  ['(call_indirect (type $void) (i32.const 0))', INDIRECT],
  ['(call_indirect (type $void) (i32.const 1))', INDIRECT],
  ['(call_indirect (type $void) (i32.const 7))', 'out of bounds table access'],
  ['(call_indirect (type $void) (i32.const -1))', 'out of bounds table access'],
  ['(drop (table.get 0 (i32.const 2)))', 'out of bounds table access'],
  ['(table.copy (i32.const 1) (i32.const 0) (i32.const 2))', 'out of bounds table access'],
  ['(table.init $e (i32.const 0) (i32.const 0) (i32.const 2))', 'out of bounds table access'],
  ['(memory.init $d (i32.const 0) (i32.const 0) (i32.const 4))', 'out of bounds memory access'],
  ['(call $down)', 'call stack exhausted'],
];

export function outcomes(subject: Subject): void {
  for (const [body, message] of TRAPS) {
    test(`a trap is an outcome: ${body}`, () => {
      const text = `(module (type $void (func)) (memory 1) (global $zero (mut i32) (i32.const 0))
        (data $d "abc") (elem $e func $other)
        (table 2 2 funcref) (elem (i32.const 0) $other) (func $other (param i32))
        (func $down (call $down) (call $down)) (func (export "_start") ${body}))`;
      const outcome = make(subject, text).instance.start();
      assert.ok(outcome.kind === 'trapped', outcome.kind);
      assert.equal(outcome.message, message);
    });
  }

  test('a guest that returns has exited with 0, after its start function', () => {
    const text = `(module (memory 1) (func $first (i32.store8 (i32.const 1) (i32.const 5))) (start $first)
      (func (export "_start") (i32.store8 (i32.const 2) (i32.load8_u (i32.const 1)))))`;
    const { instance } = make(subject, text);
    assert.deepEqual(instance.start(), { kind: 'exited', code: 0 });
    assert.equal(instance.memory()[2], 5);
  });

  const ENDING = '(module (import "t" "end" (func $end)) (func (export "_start") (call $end) (unreachable)))';
  const failing = (error: Error) => (): HostImports => ({
    t: {
      end: host('()', () => {
        throw error;
      }),
    },
  });

  test('GuestExit ends the guest with its code', () => {
    const { instance } = make(subject, ENDING, failing(new GuestExit(7)));
    assert.deepEqual(instance.start(), { kind: 'exited', code: 7 });
  });

  test('other errors of the host come through as they are', () => {
    const fault = new TypeError('a fault of the host');
    const { instance } = make(subject, ENDING, failing(fault));
    assert.throws(
      () => instance.start(),
      (error) => error === fault,
    );
  });

  test('an ended guest can do nothing any more', () => {
    const { instance } = make(subject, '(module (memory 1) (func (export "_start")))');
    instance.start();
    assert.throws(() => instance.start(), { code: 'KEDGE_ENGINE_STATE' });
    assert.throws(() => instance.capture(), { code: 'KEDGE_ENGINE_STATE' });
    assert.throws(() => instance.resume(), { code: 'KEDGE_ENGINE_STATE' });
  });

  test('what a module needs is checked before its code runs', () => {
    const unknown = '(module (import "t" "nothing" (func)) (func (export "_start")))';
    assert.throws(() => make(subject, unknown), { code: 'KEDGE_IMPORT_UNKNOWN', message: /t\.nothing/u });
    const typed = '(module (import "t" "f" (func (param i64))) (func (export "_start")))';
    const offered = (): HostImports => ({ t: { f: host('(i)', () => undefined) } });
    assert.throws(() => make(subject, typed, offered), { code: 'KEDGE_IMPORT_TYPE', message: /t\.f/u });
    const outside = '(module (memory 1) (data (i32.const 65534) "abc") (func (export "_start")))';
    assert.throws(() => make(subject, outside), { code: 'KEDGE_MODULE_INVALID', message: /out of bounds/u });
  });
}
