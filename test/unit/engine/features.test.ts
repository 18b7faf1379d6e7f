/** The lists of features that engines show are what they run: of each feature one small module. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { createHostCallContext } from '../../../src/engine/context.ts';
import type { Engine, Outcome } from '../../../src/engine/engine.ts';
import { ENGINES } from '../../../src/engine/engines.ts';
import { instrument } from '../../../src/engine/points/instrument.ts';
import { createStopSignal } from '../../../src/engine/stop.ts';
import { KedgeError } from '../../../src/errors.ts';
import { wat } from './support.ts';

/** What stands in the module, and what in `_start`. */
const FEATURES: Readonly<Record<string, readonly [module: string, start: string]>> = {
  MVP: ['(memory 1)', '(i64.store (i32.const 8) (i64.const 5))'],
  'sign extension': ['', '(drop (i32.extend8_s (i32.const 200)))'],
  'saturating conversions': ['', '(drop (i32.trunc_sat_f64_u (f64.const -1)))'],
  'multi-value': ['(func $two (result i32 i64) (i32.const 1) (i64.const 2))', '(call $two) (drop) (drop)'],
  'bulk memory': [
    '(memory 1) (data $d "abc")',
    '(memory.init $d (i32.const 0) (i32.const 0) (i32.const 3)) (data.drop $d)',
  ],
  'reference types': ['(table $t 1 externref)', '(table.set $t (i32.const 0) (ref.null extern))'],
  'tail calls': ['(func $other)', '(return_call $other)'],
  'extended constants': ['(global i32 (i32.add (i32.const 1) (i32.const 2)))', ''],
  SIMD: ['', '(drop (i32x4.add (v128.const i64x2 1 2) (v128.const i64x2 3 4)))'],
  'multiple memories': ['(memory 1) (memory $b 1)', '(i32.store $b (i32.const 8) (i32.const 5))'],
  // No engine has these in Kedge, because no guest that uses them can be stopped.
  'relaxed SIMD': ['', '(drop (i8x16.relaxed_swizzle (v128.const i64x2 1 2) (v128.const i64x2 3 4)))'],
  'exception handling': ['(tag $t)', '(throw $t)'],
  threads: ['(memory 1 1 shared)', '(drop (i32.atomic.load (i32.const 0)))'],
  memory64: ['(memory i64 1)', '(drop (i32.load (i64.const 0)))'],
};

/** How the module ends on the engine; undefined when it is refused for what it uses. */
function run(engine: Engine, [module, start]: readonly [string, string]): Outcome | undefined {
  const bytes = wat(`(module ${module} (func (export "_start") ${start}))`, '--enable-all');
  try {
    const compiled = engine.compile(instrument(bytes, 'loop', engine.flag));
    return engine.instantiate(compiled, {}, createStopSignal(), createHostCallContext()).start();
  } catch (error) {
    if (error instanceof KedgeError && error.code === 'KEDGE_MODULE_UNSUPPORTED') return undefined;
    throw error;
  }
}

for (const engine of Object.values(ENGINES)) {
  describe(engine.name, () => {
    for (const [feature, texts] of Object.entries(FEATURES)) {
      const listed = engine.features.includes(feature);
      test(`${listed ? 'runs' : 'refuses'} ${feature}`, () => {
        assert.deepEqual(run(engine, texts), listed ? { kind: 'exited', code: 0 } : undefined);
      });
    }

    test('lists nothing that has no module here', () => {
      assert.deepEqual(
        engine.features.filter((feature) => FEATURES[feature] === undefined),
        [],
      );
    });
  });
}
