/** An engine that does one thing wrong is caught at the very instruction. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ENGINES } from '../../../src/engine/engines.ts';
import { wat } from '../engine/support.ts';
import { changed, compare, compilePrograms, divergence, instructions, only, wrongEngine } from './support.ts';

/** A sum of set bits, computed in a function of its own; each value goes to memory and a global. */
const BITS = wat(
  `(module (memory 1) (global $g (mut i32) (i32.const 0))
    (func $bits (param i32) (result i32) (i32.popcnt (local.get 0)))
    (func (export "_start") (local $i i32) (local $sum i32)
      (loop $again
        (local.set $sum (i32.add (local.get $sum) (call $bits (i32.const 6))))
        (global.set $g (local.get $sum))
        (i32.store (i32.const 16) (local.get $sum))
        (br_if $again (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 30000))))))`,
  '--debug-names',
);
const POPCNT = 0x69;
const CTZ = 0x68;

describe('an engine that is wrong', () => {
  const at = only(BITS, POPCNT);
  const wrong = changed(BITS, at, CTZ);

  for (const [name, engines] of [
    ['second', [ENGINES.v8, wrongEngine(wrong)]],
    ['first', [wrongEngine(wrong, ENGINES.v8), ENGINES.wamr]],
  ] as const)
    for (const stride of [1, 1000, 1_000_000])
      test(`in one instruction, as the ${name} engine, in strides of ${stride}`, () => {
        const found = divergence(compare(BITS, { engines, stride }));
        const { place, differences, unseen } = found;
        assert.deepEqual(place, { function: 0, name: 'bits', offset: at, instruction: 'i32.popcnt', source: null });
        // The result, which the caller is to add to its sum: 2 bits are set in 6, one zero is at its end.
        const values = name === 'second' ? { first: 'i32:2', second: 'i32:1' } : { first: 'i32:1', second: 'i32:2' };
        const [difference, ...others] = differences;
        assert.deepEqual([{ ...difference, ...values }, others], [difference, []]);
        assert.equal(difference?.kind, 'operand');
        assert.equal(unseen, 0);
        assert.equal(found.point, 7);
      });

  test('in values that come and go: the first point is found, not one behind it', () => {
    // Two and eighteen have one trailing zero, but one and two bits. That matters in turn 300 for a moment, and from 600 on for ever.
    const module = wat(
      `(module (memory 1)
        (func $wrong (param i32) (result i32) (i32.ctz (local.get 0)))
        (func (export "_start") (local $i i32)
          (loop $again
            (i32.store (i32.const 8) (call $wrong (i32.add (i32.const 2) (i32.shl
              (i32.or (i32.eq (local.get $i) (i32.const 300)) (i32.ge_u (local.get $i) (i32.const 600))) (i32.const 4)))))
            (if (i32.lt_u (local.get $i) (i32.const 600)) (then (i32.store (i32.const 8) (i32.const 0))))
            (br_if $again (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 2000))))))`,
    );
    const offset = only(module, CTZ);
    const engines = [ENGINES.v8, wrongEngine(changed(module, offset, POPCNT))] as const;
    const all = divergence(compare(module, { engines, stride: 1 }));
    assert.equal(all.place?.offset, offset);
    assert.deepEqual(divergence(compare(module, { engines })), all);
    // More points than are compared one by one.
    const far = divergence(compare(module, { engines, stride: 1_000_000 }));
    assert.equal(far.place?.offset, offset);
    assert.ok(far.point >= all.point);
  });

  test('in a program of 30 KB, one of its instructions at a time', { timeout: 120_000 }, () => {
    const { nbody } = compilePrograms(['nbody']);
    const [DIV, MUL] = [0xa3, 0xa2];
    const caught = instructions(nbody, DIV).filter((offset, n) => {
      if (n % 3 !== 0) return false;
      const engines = [ENGINES.v8, wrongEngine(changed(nbody, offset, MUL))] as const;
      const { verdict } = compare(nbody, { engines, args: ['nbody', '2'] });
      // Not every one of them is run.
      if (verdict.divergence === null) return false;
      const { place, unseen } = verdict.divergence;
      assert.deepEqual([place?.offset, place?.instruction, unseen], [offset, 'f64.div', 0]);
      return true;
    });
    assert.ok(caught.length > 0);
  });

  test('without instructions as points, the place is the last point before', () => {
    const found = divergence(compare(BITS, { engines: [ENGINES.v8, wrongEngine(wrong)], policy: 'loop-all' }));
    assert.equal(found.place?.function, 1);
    assert.deepEqual(
      found.differences.map(({ kind, address }) => [kind, address]),
      [
        ['local', undefined],
        ['global', undefined],
        ['memory', 16],
      ],
    );
  });
});

/** Two modules of one shape that differ in a constant, an opcode or a name; the texts have %. */
function twins(text: string, ...values: readonly [string, string]): readonly [Uint8Array, Uint8Array] {
  return [wat(text.replaceAll('%', values[0]), '--debug-names'), wat(text.replaceAll('%', values[1]), '--debug-names')];
}

const OTHERS: readonly (readonly [string, string, readonly [string, string], object, string])[] = [
  [
    'a constant',
    '(module (func (export "_start") (local i32) (local.set 0 (i32.const %)) (drop (local.get 0))))',
    ['5', '6'],
    { kind: 'operand', index: 0, function: 0, first: 'i32:5', second: 'i32:6' },
    'i32.const 5',
  ],
  [
    'memory',
    '(module (memory 1) (func (export "_start") (i64.store% (i32.const 8) (i64.const 0x0102030405)) (nop)))',
    ['32', '16'],
    { kind: 'memory', address: 10, first: '03 02', second: '00 00' },
    'i64.store32',
  ],
  [
    'a float',
    '(module (func (export "_start") (drop (f64.% (f64.const -0.5)))))',
    ['ceil', 'floor'],
    { kind: 'operand', index: 0, function: 0, first: 'f64:-0', second: 'f64:-1' },
    'f64.ceil',
  ],
  [
    'a global and not the local beside it',
    '(module (global $a (mut i64) (i64.const 7)) (global $b (mut i64) (i64.const 8)) (func (export "_start") (local $c i64)' +
      ' (i64.const 1) (global.set $%) (nop)))',
    ['a', 'b'],
    { kind: 'global', index: 0, first: 'i64:1', second: 'i64:7' },
    'global.set 0',
  ],
  [
    'a reference in a table',
    `(module (table $t 2 funcref) (elem declare func $a $b) (func $a) (func $b)
      (func (export "_start") (table.set $t (i32.const 1) (ref.func $%)) (nop)))`,
    ['a', 'b'],
    { kind: 'operand', index: 1, function: 2, first: 'funcref:0', second: 'funcref:1' },
    'ref.func 0 (a)',
  ],
  [
    'a trap',
    '(module (func (export "_start") (drop (i32.% (i32.const 1) (i32.const 0)))))',
    ['div_s', 'shl'],
    { kind: 'outcome', first: 'traps: integer divide by zero', second: 'goes on' },
    'i32.div_s',
  ],
  [
    'another trap',
    '(module (func (export "_start") (drop (i32.% (i32.const -2147483648) (i32.const -1))) (unreachable)))',
    ['div_s', 'div_u'],
    { kind: 'outcome', first: 'traps: integer overflow or invalid conversion to integer', second: 'goes on' },
    'i32.div_s',
  ],
  [
    'an end',
    '(module (func (export "_start") (nop) (%) (nop)))',
    ['nop', 'return'],
    { kind: 'outcome', first: 'goes on', second: 'exits with code 0' },
    'nop',
  ],
];

for (const [what, text, values, difference, instruction] of OTHERS) {
  test(`what differs is named: ${what}`, () => {
    const [module, other] = twins(text, ...values);
    const found = divergence(compare(module, { engines: [ENGINES.v8, wrongEngine(other)], stride: 1 }));
    assert.deepEqual(found.differences[0], difference);
    assert.equal(found.place?.instruction, instruction);
  });
}

test('what differs in another memory than the first is found, in whatever strides', () => {
  const text = (value: number): Uint8Array =>
    wat(
      `(module (memory 1) (memory $b 1) (func (export "_start") (local $i i32)
        (loop $again
          (i32.store8 $b (local.get $i) (i32.add (local.get $i) (i32.const 1)))
          (br_if $again (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 3000))))
        (i32.store8 $b (i32.const 16) (i32.const ${value})) (nop)))`,
      '--enable-multi-memory',
    );
  const engines = [ENGINES.v8, wrongEngine(text(6), ENGINES.v8)] as const;
  for (const stride of [1, 7000]) {
    const found = divergence(compare(text(5), { engines, stride }));
    assert.equal(found.place?.instruction, 'i32.const 5');
    const stored = divergence(compare(text(5), { engines: [ENGINES.v8, lostStore(text(5))], stride }));
    assert.deepEqual(stored.differences, [
      { kind: 'memory', address: 16, first: '00', second: '05' },
      { kind: 'memory', index: 1, address: 16, first: '05', second: '11' },
    ]);
    assert.equal(stored.place?.instruction, 'i32.store8 1');
  }
});

test('what differs in another memory only when all is over is found', () => {
  // Under this policy no point comes behind the store.
  const text = `(module (memory 1) (memory $b 1 2)
    (func (export "_start") (drop (memory.grow $b (i32.const 1))) (i32.store8 $b (i32.const 65552) (i32.const %))))`;
  const [module, other] = ['5', '6'].map((value) => wat(text.replace('%', value), '--enable-multi-memory'));
  assert.ok(module !== undefined && other !== undefined);
  const options = { engines: [ENGINES.v8, wrongEngine(other, ENGINES.v8)], policy: 'call' } as const;
  assert.deepEqual(divergence(compare(module, options)).differences, [
    { kind: 'memory', index: 1, address: 65_552, first: '05', second: '06' },
  ]);
});

test('a host call reads and writes the memory that is exported, though it is not the first', () => {
  const text = `(module
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "args_get" (func $args (param i32 i32) (result i32)))
    (memory $a 1) (memory $b (export "memory") 1)
    (data (memory $b) (i32.const 0) "\\10\\00\\00\\00\\05\\00\\00\\00") (data (memory $b) (i32.const 16) "hello")
    (func (export "_start")
      (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
      (drop (call $args (i32.const 32) (i32.const 48)))
      (i32.store $b (i32.const 0) (i32.load $b (i32.const 32)))
      (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))`;
  const hello = wat(text, '--enable-multi-memory');
  for (const stride of [1, 7000]) {
    const { verdict, printed } = compare(hello, { engines: [ENGINES.v8, ENGINES.v8], stride });
    assert.equal(verdict.equal, true, JSON.stringify(verdict));
    assert.equal(verdict.calls, 3);
    assert.equal(printed, 'helloguest');
  }
  const early = (byte: number): Uint8Array =>
    wat(
      text.replace('(func (export "_start")', (start) => `${start} (i32.store8 $b (i32.const 17) (i32.const ${byte}))`),
      '--enable-multi-memory',
    );
  const options = { engines: [ENGINES.v8, wrongEngine(early(102), ENGINES.v8)], policy: 'call' } as const;
  const [difference] = divergence(compare(early(101), options)).differences;
  assert.deepEqual(difference, { kind: 'call-memory', address: 17, first: '65 6c 6c 6f', second: '66 6c 6c 6f' });
});

/** An engine on which the last store of a module goes to the first memory. */
function lostStore(module: Uint8Array): ReturnType<typeof wrongEngine> {
  const STORE8 = 0x3a;
  const at = instructions(module, STORE8).at(-1) ?? assert.fail('there is no store');
  // Its memory argument: a flag that an index follows, the index, the offset.
  assert.deepEqual([...module.subarray(at + 1, at + 4)], [0x40, 1, 0]);
  const wrong = module.slice();
  wrong[at + 2] = 0;
  return wrongEngine(wrong, ENGINES.v8);
}
