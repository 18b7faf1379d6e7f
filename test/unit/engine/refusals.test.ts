/** What cannot be run is refused with its name, its place and what to do about it; and so is what would become too large. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { KedgeError } from '../../../src/errors.ts';
import type { InstrumentedModule, Policy } from '../../../src/engine/engine.ts';
import { instrument } from '../../../src/engine/points/instrument.ts';
import { PointTable } from '../../../src/engine/points/table.ts';
import { v8Engine } from '../../../src/engine/v8/engine.ts';
import { wamrEngine } from '../../../src/engine/wamr/engine.ts';
import { wat } from './support.ts';

const START = '(func (export "_start"))';

function refusal(attempt: () => unknown): KedgeError {
  try {
    attempt();
  } catch (error) {
    if (error instanceof KedgeError) return error;
    throw error;
  }
  throw new Error('it is not refused');
}

/** The byte that a message names. */
function placeOf({ message }: KedgeError): number {
  return Number(/at byte (0x[0-9a-f]+)/u.exec(message)?.[1]);
}

describe('imports that cannot be', () => {
  const cases: readonly (readonly [string, KedgeError['code'], RegExp, RegExp])[] = [
    ['memory 1', 'KEDGE_IMPORT_UNKNOWN', /memory two\.f/u, /import-memory/u],
    ['table 1 funcref', 'KEDGE_IMPORT_UNKNOWN', /table two\.f/u, /import-table/u],
    ['global i32', 'KEDGE_IMPORT_UNKNOWN', /global two\.f/u, /shared library/u],
    ['func (param externref)', 'KEDGE_MODULE_UNSUPPORTED', /references .* two\.f/u, /numbers/u],
    ['func (result v128)', 'KEDGE_IMPORT_TYPE', /two\.f .* v128/u, /memory/u],
  ];
  for (const [type, code, message, hint] of cases) {
    test(type, () => {
      const module = wat(`(module (import "one" "f" (func)) (import "two" "f" (${type})) ${START})`, '--enable-all');
      const error = refusal(() => instrument(module, 'loop', 'memory'));
      assert.equal(error.code, code);
      assert.match(error.message, message);
      assert.match(error.hint ?? '', hint);
      // An entry begins with the length of its first name.
      assert.equal(placeOf(error), Buffer.from(module).indexOf('\u0003two'));
    });
  }
});

describe('what an engine cannot run', () => {
  const MODULE = wat(`(module (import "t" "f" (func)) (func)
    (func (drop (v128.const i64x2 0 0))) (func (export "_start") (loop $l (call 0) (br_if $l (i32.const 0)))))`);

  for (const policy of ['none', 'call', 'loop'] as const satisfies Policy[]) {
    test(`WAMR names the function of the original, policy ${policy}`, () => {
      const error = refusal(() => wamrEngine.compile(instrument(MODULE, policy, 'global')));
      assert.equal(error.message, 'WAMR cannot run the module: it uses SIMD (first in function 2)');
      assert.match(error.hint ?? '', /--engine v8/u);
    });
  }

  /** A form that is damaged in its last function. */
  function damaged(): InstrumentedModule {
    const form = instrument(wat(`(module (func (export "_start") (drop (i64.const 77))))`), 'none', 'global');
    const bytes = Uint8Array.from(form.bytes);
    const at = Buffer.from(bytes).indexOf(Uint8Array.of(0x42, 0xcd, 0, 0x1a));
    assert.ok(at > 0);
    bytes[at + 3] = 0x45; // i32.eqz
    return { ...form, bytes, hash: `${form.hash}-damaged` };
  }

  test('V8 says why it does not compile a module', () => {
    const error = refusal(() => v8Engine.compile(damaged()));
    assert.equal(error.code, 'KEDGE_MODULE_INVALID');
    assert.match(error.message, /does not compile: Compiling function #0.*i32\.eqz/u);
    assert.match(error.hint ?? '', /--points call.*--engine wamr/u);
  });

  test('WAMR says that its places are not those of the original', () => {
    const error = refusal(() => wamrEngine.compile(damaged()));
    assert.equal(error.code, 'KEDGE_MODULE_INVALID');
    assert.match(error.message, /expected i32.*at byte 0x[0-9a-f]+ of the instrumented module/u);
    assert.match(error.hint ?? '', /--engine v8/u);
  });
});

test('features and names that no engine of Kedge has', () => {
  const cases: readonly (readonly [string, RegExp])[] = [
    ['(memory i64 1)', /clang/u],
    ['(func (export "kedge:f"))', /as its author made it/u],
  ];
  for (const [text, hint] of cases) {
    const error = refusal(() => instrument(wat(`(module ${text} ${START})`, '--enable-all'), 'loop', 'memory'));
    assert.equal(error.code, 'KEDGE_MODULE_UNSUPPORTED');
    assert.match(error.hint ?? '', hint);
    assert.ok(placeOf(error) > 8);
  }
});

describe('what would become too large', () => {
  const locals = (count: number): string => `(local ${'i32 '.repeat(count)})`;
  const loop = '(loop $l (br_if $l (i32.const 0)))';

  test('more locals than V8 takes', () => {
    const module = wat(`(module (func ${locals(50_000)} ${loop}) ${START})`);
    assert.ok(WebAssembly.validate(module));
    for (const policy of ['loop', 'instruction'] as const) {
      const error = refusal(() => instrument(module, policy, 'memory'));
      assert.equal(error.code, 'KEDGE_MODULE_UNSUPPORTED');
      assert.match(error.message, /a function with more than 50,000 locals once it can be stopped/u);
      // The one run of 50,000 i32.
      assert.equal(placeOf(error), Buffer.from(module).indexOf(Uint8Array.of(1, 0xd0, 0x86, 0x03, 0x7f)));
      assert.match(error.hint ?? '', /--points call/u);
    }
    v8Engine.compile(instrument(module, 'call', 'memory'));
    v8Engine.compile(instrument(wat(`(module (func ${locals(49_998)} ${loop}) ${START})`), 'loop', 'memory'));
  });

  test('many functions of many locals', () => {
    const module = wat(`(module ${`(func ${locals(20_000)} ${loop})`.repeat(60)} ${START})`);
    const before = process.memoryUsage.rss();
    const error = refusal(() => instrument(module, 'loop', 'memory'));
    assert.match(error.message, /too many locals and operands/u);
    assert.ok(placeOf(error) > 0);
    assert.match(error.hint ?? '', /--points call/u);
    assert.ok(process.memoryUsage.rss() - before < 100 * 2 ** 20);
  });

  test('its table of points takes no room for each local', () => {
    const leb = (number: number): number[] =>
      number < 0x80 ? [number] : [(number & 0x7f) | 0x80, ...leb(Math.floor(number / 0x80))];
    const section = (id: number, content: number[]): number[] => [id, ...leb(content.length), ...content];
    const count = 100;
    // A function: one run of 2^20 i32, and no temporaries; no points.
    const item = [1, 0, 0, 1, ...leb(2 ** 20), 0x69, 0];
    const items = Array.from({ length: count }, () => item).flat();
    const table = [2, 0, ...Array.from({ length: 32 }, () => 0), ...leb(count), ...items, 0, 0, 0, 0, 0, 0];
    const name = [...Buffer.from('kedge.points')];
    const module = Uint8Array.from([0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, ...section(0, [name.length, ...name, ...table])]);
    const before = process.memoryUsage().heapUsed;
    const { functions } = new PointTable(module);
    assert.ok(process.memoryUsage().heapUsed - before < 20 * 2 ** 20);
    assert.equal(functions.length, count);
    assert.equal(functions[99]?.locals.length, 2 ** 20);
    assert.deepEqual([functions[99]?.locals.each.at(-1), functions[99]?.locals.each.length], ['i', 2 ** 20]);
  });
});
