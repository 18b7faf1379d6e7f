/** What is particular to the binding of WAMR; what all engines have in common is in `compliance`. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { KedgeError } from '../../../src/errors.ts';
import { instrument } from '../../../src/engine/points/instrument.ts';
import { wamrEngine } from '../../../src/engine/wamr/engine.ts';
import { native } from '../../../src/native.ts';
import { wat } from './support.ts';

const STACK = 1 << 18;

function load(text: string): InstanceType<typeof native.WamrInstance> {
  return new native.WamrInstance(new native.WamrModule(wat(text, '--enable-all')), STACK);
}

test('its version is the one that is built in', () => assert.equal(wamrEngine.version, '2.4.3'));

test('a module that it cannot run is refused with the names of the features', () => {
  const simd = instrument(
    wat('(module (func (export "_start") (drop (v128.const i64x2 0 0))))', '--enable-all'),
    'none',
    'global',
  );
  const refused = (error: unknown): boolean =>
    error instanceof KedgeError &&
    error.code === 'KEDGE_MODULE_UNSUPPORTED' &&
    error.message === 'WAMR cannot run the module: it uses SIMD (first in function 0)' &&
    error.hint?.includes('--engine v8') === true;
  assert.throws(() => wamrEngine.compile(simd), refused);
  // A flag in another memory is more than it can have.
  const polled = instrument(wat('(module (memory 1) (func (export "_start") (loop (br 0))))'), 'loop-all', 'memory');
  assert.throws(() => wamrEngine.compile(polled), { code: 'KEDGE_MODULE_UNSUPPORTED' });
});

test('a module says what it imports and exports', () => {
  const module = new native.WamrModule(
    wat(`(module (import "a" "f" (func (param i32 i64 f32 f64) (result f64))) (import "a" "g" (func (param funcref externref)))
      (func (export "h") (result i32 i64) (i32.const 1) (i64.const 2)))`),
  );
  assert.deepEqual(module.imports(), [
    { module: 'a', name: 'f', signature: '(iIfF)F' },
    { module: 'a', name: 'g', signature: '(ce)' },
  ]);
  assert.equal(module.function('h'), '()iI');
  assert.equal(module.function('i'), null);
  assert.deepEqual(new native.WamrInstance(module, STACK).call('h', [], []), [1, 2n]);
});

test('what does not fit is an error, and no crash', () => {
  const guest = load(`(module (import "t" "f" (func $f (result i32))) (memory 1)
    (func (export "f") (result i32) (call $f)) (func (export "l") (param i64)))`);
  assert.throws(() => guest.call('nothing', [], []), /no exported function/u);
  assert.throws(() => guest.call('l', [], []), /takes 1/u);
  assert.throws(() => guest.call('l', [1], []), TypeError);
  // No function where one is called, or one that gives what is no number.
  assert.throws(() => guest.call('f', [], []));
  assert.throws(() => guest.call('f', [], [() => 'text']), TypeError);
  assert.equal(guest.call('f', [], [() => 2 ** 32 + 5]), 5);
  guest.dispose();
  assert.throws(() => guest.call('f', [], [() => 1]), /disposed/u);
  assert.throws(() => guest.memory(), /disposed/u);
  guest.dispose();
});

test('a host function may call the guest, but not dispose of it or grow its memory', () => {
  const guest =
    load(`(module (import "t" "f" (func $f (result i32))) (memory 1 5) (func (drop (memory.grow (i32.const 1))))
    (func (export "f") (result i32) (call $f)) (func (export "seven") (result i32) (i32.const 7)))`);
  const back = (): unknown => {
    assert.throws(() => guest.dispose(), /running/u);
    assert.equal(guest.grow(1), false);
    return guest.call('seven', [], []);
  };
  assert.equal(guest.call('f', [], [back]), 7);
  assert.equal(guest.grow(1), true);
});

test('a buffer keeps its guest’s memory, and disposing takes it away', () => {
  const text = '(module (memory 1) (data (i32.const 0) "abc"))';
  const kept = new Uint8Array(load(text).memory());
  const guest = load(text);
  const buffer = guest.memory();
  assert.equal(guest.memory(), buffer);
  guest.dispose();
  assert.ok(buffer.detached);
  assert.equal(kept[1], 98);
});

test('globals, tables and a flag by their names', () => {
  const guest =
    load(`(module (global (export "l") (mut i64) (i64.const -2)) (global (export "stop") (mut i32) (i32.const 0))
    (table (export "t") 2 funcref) (elem (i32.const 0) $f) (func $f))`);
  assert.deepEqual(guest.getGlobal('l'), [0xffff_fffe, 0xffff_ffff]);
  assert.equal(guest.setGlobal('l', 1, 2), true);
  assert.deepEqual(guest.getGlobal('l'), [1, 2]);
  assert.equal(guest.getGlobal('none'), null);
  assert.deepEqual(
    [0, 1, 2].map((at) => guest.tableGet('t', at)),
    [0, -1, -2],
  );
  assert.equal(guest.tableSet('t', 1, 0), true);
  assert.equal(guest.tableSet('t', 1, 1), false);
  assert.equal(guest.tableSize('t'), 2);
  const flag = guest.shareFlag('stop');
  assert.ok(flag > 0);
  assert.equal(native.wamrWriteFlag(flag, 1), true);
  assert.deepEqual(guest.getGlobal('stop'), [1, 0]);
  guest.dispose();
  assert.equal(native.wamrWriteFlag(flag, 1), false);
});

for (const grow of [false, true]) {
  test(
    `a thread may be terminated while its guest ${grow ? 'grows its memory' : 'runs'}`,
    { timeout: 30_000 },
    async () => {
      const bytes = wat(`(module (import "t" "f" (func $f)) (memory 1 60000)
      (func (export "run") (param i32)
        (loop (call $f) (drop (memory.grow (local.get 0))) (br 0))))`);
      for (let round = 0; round < 5; round += 1) {
        const worker = new Worker(new URL('./wamr-worker.ts', import.meta.url), { workerData: { bytes, grow } });
        await once(worker, 'message');
        assert.equal(await worker.terminate(), 1);
      }
    },
  );
}
