/** Tables that grow: the same on every engine up to 65536 elements, and they move with the guest. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { copyState, scriptedStop } from '../support.ts';
import { make, placeAfter, type Route, type Subject } from './subjects.ts';

function words(memory: Uint8Array, count: number): readonly number[] {
  const view = new DataView(memory.buffer, memory.byteOffset);
  return Array.from({ length: count }, (_, n) => view.getInt32(n * 4, true));
}

export function tables(subject: Subject): void {
  test('a table grows to its maximum or 65536 elements, at least', () => {
    const text = `(module (memory 1) (table $open 1 funcref) (table $wide 1 100000 funcref) (table $narrow 1 10 funcref)
      (table $large 40000 externref) (elem $e func $seven) (func $seven (result i32) (i32.const 7))
      (func (export "_start")
        (i32.store (i32.const 0) (table.grow $open (ref.null func) (i32.const 2000)))
        (i32.store (i32.const 4) (table.grow $open (ref.null func) (i32.const 63535)))
        (i32.store (i32.const 8) (table.size $open))
        (table.init $open $e (i32.const 65535) (i32.const 0) (i32.const 1))
        (i32.store (i32.const 12) (call_indirect $open (result i32) (i32.const 65535)))
        (i32.store (i32.const 16) (table.grow $wide (ref.null func) (i32.const 65535)))
        (i32.store (i32.const 20) (table.grow $narrow (ref.null func) (i32.const 9)))
        (i32.store (i32.const 24) (table.grow $narrow (ref.null func) (i32.const 1)))
        (i32.store (i32.const 28) (table.grow $large (ref.null extern) (i32.const 25536)))))`;
    const { instance } = make(subject, text);
    assert.deepEqual(instance.start(), { kind: 'exited', code: 0 });
    assert.deepEqual(words(instance.memory(), 8), [1, 2001, 65_536, 7, 1, 1, -1, 40_000]);
  });
}

export function movingTables(route: Route): void {
  test('a table that has grown to 65536 elements moves', () => {
    const text = `(module (memory 1) (table $open 1 funcref) (elem $e func $seven)
      (func $seven (result i32) (i32.const 7))
      (func (export "_start") (local $i i32)
        (i32.store (i32.const 0) (table.grow $open (ref.null func) (i32.const 65535)))
        (table.init $open $e (i32.const 65535) (i32.const 0) (i32.const 1))
        (loop $again (br_if $again (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 3))))
        (i32.store (i32.const 4) (table.size $open))
        (i32.store (i32.const 8) (call_indirect $open (result i32) (i32.const 65535)))))`;
    let grown = false;
    const stop = scriptedStop(() => !grown && (grown = words(first.instance.memory(), 1)[0] === 1));
    const first = make(placeAfter(route, 0), text, undefined, stop);
    assert.deepEqual(first.instance.start(), { kind: 'stopped' });
    const { instance } = make(placeAfter(route, 1), text);
    instance.restore(copyState(first.instance.capture()));
    assert.deepEqual(instance.resume(), { kind: 'exited', code: 0 });
    assert.deepEqual(words(instance.memory(), 3), [1, 65_536, 7]);
  });
}
