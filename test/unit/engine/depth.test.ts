/** Deep recursion: what a restore takes in can go on. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { ComputeState, Engine, Outcome } from '../../../src/engine/engine.ts';
import { ENGINES } from '../../../src/engine/engines.ts';
import { instrument } from '../../../src/engine/points/instrument.ts';
import { createStopSignal } from '../../../src/engine/stop.ts';
import { copyState, host, makeInstance, wat } from './support.ts';

const TYPES = ['i64', 'f64'] as const;

/** Calls itself as deeply as the first word of its memory says, with so many locals live; says so, and passes some polls there. */
function recursion(locals: number): Uint8Array {
  const each = (write: (local: number, type: (typeof TYPES)[number]) => string): string =>
    Array.from({ length: locals }, (_, n) => write(n + 1, n % 2 === 0 ? 'i64' : 'f64')).join('\n');
  const from = { i64: 'i64.extend_i32_u', f64: 'f64.convert_i32_u' } as const;
  return wat(`(module
    (import "host" "reached" (func $reached))
    (memory (export "memory") 1)
    ${TYPES.map((type) => `(global $${type} (mut ${type}) (${type}.const 0))`).join('\n')}
    (func $down (param $left i32) (local $n i32) ${each((_, type) => `(local ${type})`)}
      ${each((n, type) => `(local.set ${n + 1} (${from[type]} (local.get $left)))`)}
      (if (local.get $left)
        (then (call $down (i32.sub (local.get $left) (i32.const 1))))
        (else
          (call $reached)
          (loop $again
            (local.set $n (i32.add (local.get $n) (i32.const 1)))
            (br_if $again (i32.lt_u (local.get $n) (i32.const 10000))))))
      ${each((n, type) => `(global.set $${type} (${type}.add (global.get $${type}) (local.get ${n + 1})))`)})
    (func (export "_start") (call $down (i32.load (i32.const 0)))))`);
}

interface Reached {
  readonly outcome: Outcome;
  readonly state: ComputeState | undefined;
}

/** Runs to a depth, and asks the guest to stop there if so wanted. */
function run(engine: Engine, module: Uint8Array, depth: number, stops: boolean): Reached {
  const stop = createStopSignal();
  const reached = (): undefined => void (stops && stop.request());
  const form = instrument(module, 'loop', engine.flag);
  const { instance } = makeInstance(form, () => ({ host: { reached: host('()', reached) } }), stop, engine);
  new DataView(instance.memory().buffer).setUint32(0, depth, true);
  const outcome = instance.start();
  return { outcome, state: outcome.kind === 'stopped' ? copyState(instance.capture()) : undefined };
}

/** The deepest that an engine can run, within a hundred. */
function deepest(engine: Engine, module: Uint8Array): number {
  let [low, high] = [0, 1_000_000];
  while (high - low > 100) {
    const middle = Math.floor((low + high) / 2);
    if (run(engine, module, middle, false).outcome.kind === 'exited') low = middle;
    else high = middle;
  }
  return low;
}

/** Goes on with a state; the code of an error when it is refused. */
function goesOn(engine: Engine, module: Uint8Array, state: ComputeState): string {
  const form = instrument(module, 'loop', engine.flag);
  const reached = host('()', () => undefined);
  const { instance } = makeInstance(form, () => ({ host: { reached } }), createStopSignal(), engine);
  try {
    instance.restore(state);
  } catch (error) {
    return (error as { code?: string }).code ?? String(error);
  }
  return instance.resume().kind;
}

test('the stack of WAMR has room for what the document says', () => {
  const module = recursion(1);
  const { state } = run(ENGINES.wamr, module, 20_000, true);
  assert.ok(state !== undefined);
  assert.equal(goesOn(ENGINES.wamr, module, state), 'exited');
});

test('on WAMR a frame of a function of many points is not much larger than any', () => {
  // Without points 77,500 frames.
  const calls = '(call $leaf)'.repeat(1000);
  const module = wat(`(module
    (memory 1)
    (func $leaf (loop (br_if 0 (i32.const 0))))
    (func $down (param $left i32)
      (if (i32.eq (local.get $left) (i32.const -1)) (then ${calls}))
      (if (local.get $left) (then (call $down (i32.sub (local.get $left) (i32.const 1)))) (else (call $leaf))))
    (func (export "_start") (call $down (i32.const 20000))))`);
  const form = instrument(module, 'loop', ENGINES.wamr.flag);
  const { instance } = makeInstance(form, () => ({}), createStopSignal(), ENGINES.wamr);
  assert.equal(instance.start().kind, 'exited');
});

for (const engine of Object.values(ENGINES)) {
  describe(`a deep stack on ${engine.name}`, () => {
    for (const locals of [1, 20, 200])
      test(`what is taken in goes on, with ${locals} locals a frame`, () => {
        const module = recursion(locals);
        const most = deepest(engine, module);
        const ends = new Set<string>();
        for (let depth = 100; depth < most; depth = Math.ceil(depth * 1.6)) {
          const { state } = run(engine, module, depth, true);
          if (state === undefined) continue;
          for (const next of Object.values(ENGINES)) ends.add(goesOn(next, module, state));
        }
        assert.deepEqual([...ends].toSorted(), ['KEDGE_STACK_TOO_DEEP', 'exited']);
      });
  });
}
