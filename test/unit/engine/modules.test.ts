import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import { KedgeError } from '../../../src/errors.ts';
import { createHostCallContext } from '../../../src/engine/context.ts';
import { formatType, typeOfSignature } from '../../../src/engine/imports.ts';
import { instrument } from '../../../src/engine/points/instrument.ts';
import type { InstrumentedModule } from '../../../src/engine/engine.ts';
import { initialMemories, PAGE_SIZE } from '../../../src/engine/wasm/initial-memory.ts';
import { host, makeInstance, wat } from './support.ts';

const MINIMAL = wat('(module (memory 1) (func (export "_start")))');

function form(module: Uint8Array): InstrumentedModule {
  return instrument(module, 'loop-all', 'memory');
}

function refuses(module: Uint8Array, code: string, text: RegExp): void {
  assert.throws(
    () => form(module),
    (error) => error instanceof KedgeError && error.code === code && text.test(error.message),
  );
}

test('what is not WebAssembly is refused', () => {
  refuses(new Uint8Array(0), 'KEDGE_MODULE_INVALID', /not a WebAssembly module/u);
  refuses(new TextEncoder().encode('#!/bin/sh\necho hello\n'), 'KEDGE_MODULE_INVALID', /not a WebAssembly module/u);
  const component = Uint8Array.of(0, 0x61, 0x73, 0x6d, 0x0d, 0, 1, 0);
  refuses(component, 'KEDGE_MODULE_INVALID', /version 1|not a WebAssembly module/u);
});

test('a module cut anywhere, or with any byte changed, never gives another error than a KedgeError', () => {
  const whole = wat(`(module (import "a" "b" (func (param i32)))
    (memory 1) (data (i32.const 8) "abc") (global (mut i64) (i64.const 5)) (table 1 funcref) (elem (i32.const 0) 1)
    (func (local i32 i64) (loop (br_if 0 (local.get 0)))) (func (export "_start") (call 1)))`);
  const tolerant = (module: Uint8Array): boolean => {
    try {
      instrument(module, 'none', 'global');
      return true;
    } catch (error) {
      assert.ok(error instanceof KedgeError, String(error));
      return false;
    }
  };
  for (let length = 0; length < whole.length; length += 1) {
    // Between its last sections a module may be cut and still be one.
    const cut = whole.slice(0, length);
    assert.equal(tolerant(cut), length > 80 && WebAssembly.validate(cut), `cut at ${length}`);
  }
  for (let at = 0; at < whole.length; at += 1) {
    for (const flip of [0x01, 0x10, 0x80]) {
      const changed = whole.slice();
      changed[at] = (changed[at] ?? 0) ^ flip;
      tolerant(changed);
    }
  }
});

test('an invalid body is refused with the reason', () => {
  const invalid = wat('(module (func (export "_start") (i32.add)))', '--no-check');
  refuses(invalid, 'KEDGE_MODULE_INVALID', /expected i32 but nothing on stack.*byte 0x/u);
});

test('a module without _start is refused', () => {
  refuses(wat('(module (func (export "main")))'), 'KEDGE_MODULE_NO_START', /_start/u);
  refuses(wat('(module (func (export "_start") (param i32)))'), 'KEDGE_MODULE_NO_START', /_start/u);
  refuses(wat('(module (memory (export "_start") 1))'), 'KEDGE_MODULE_NO_START', /_start/u);
});

const start = '(func (export "_start"))';
const refused: readonly (readonly [string, string, RegExp, readonly string[]])[] = [
  ['memory64', `(module (memory i64 1) ${start})`, /memory64.*byte 0x/u, ['--enable-memory64']],
  ['a shared memory', `(module (memory 1 1 shared) ${start})`, /threads.*byte 0x/u, ['--enable-threads']],
  [
    'atomics',
    `(module (memory 1) (func (drop (i32.atomic.load (i32.const 0)))) ${start})`,
    /threads.*byte 0x/u,
    ['--enable-threads'],
  ],
  [
    'exceptions',
    `(module (tag (param i32)) (func (throw 0 (i32.const 1))) ${start})`,
    /exception handling.*byte 0x/u,
    ['--enable-exceptions'],
  ],
  ['names of ours', `(module (func (export "kedge:unwind")) ${start})`, /kedge:/u, []],
  ['imports of ours', `(module (import "kedge" "poll" (func)) ${start})`, /kedge/u, []],
  [
    'a reference that the host would get',
    `(module (import "t" "f" (func (param externref))) ${start})`,
    /references that the host/u,
    [],
  ],
];

for (const [name, text, message, flags] of refused) {
  test(`a module with ${name} is refused by name`, () => {
    refuses(wat(text, ...flags), 'KEDGE_MODULE_UNSUPPORTED', message);
  });
}

test('an import that is no function is refused by name', () => {
  refuses(
    wat('(module (import "env" "memory" (memory 1)) (func (export "_start")))'),
    'KEDGE_IMPORT_UNKNOWN',
    /memory env\.memory/u,
  );
});

test('an unknown import and one of another type are named before anything runs', () => {
  const module = instrument(
    wat(`(module (import "env" "launch" (func (param i32 i64) (result i32)))
      (func $no (unreachable)) (start $no) (func (export "_start")))`),
    'loop-all',
    'memory',
  );
  const attempt =
    (imports: Parameters<typeof makeInstance>[1]): (() => unknown) =>
    () =>
      makeInstance(module, imports);
  assert.throws(
    attempt(() => ({})),
    { code: 'KEDGE_IMPORT_UNKNOWN', message: /env\.launch/u },
  );
  assert.throws(
    attempt(() => ({ env: {} })),
    { code: 'KEDGE_IMPORT_UNKNOWN', message: /env\.launch/u },
  );
  assert.throws(
    attempt(() => ({ env: { launch: host('(ii)i', () => 0) } })),
    {
      code: 'KEDGE_IMPORT_TYPE',
      message: /env\.launch as \(i32, i64\) -> i32, but it is \(i32, i32\) -> i32/u,
    },
  );
  assert.doesNotThrow(attempt(() => ({ env: { launch: host('(*I)i', () => 0) } })));
  // Names that every object has are not offers of the host, and ours are not for guests.
  for (const [from, name] of [
    ['env', 'toString'],
    ['__proto__', 'x'],
    ['asyncify', 'start_unwind'],
    ['env', '\uFEFFlaunch'],
  ] as const) {
    const sneaky = instrument(wat(`(module (import "${from}" "${name}" (func)) ${start})`), 'loop-all', 'memory');
    assert.throws(
      () => makeInstance(sneaky, () => ({ env: { launch: host('()', () => undefined) } })),
      { code: 'KEDGE_IMPORT_UNKNOWN' },
      `${from}.${name}`,
    );
  }
});

test('signatures in letters are types', () => {
  assert.deepEqual(typeOfSignature('(iI*~$fF)i'), {
    params: ['i32', 'i64', 'i32', 'i32', 'i32', 'f32', 'f64'],
    results: ['i32'],
  });
  assert.deepEqual(typeOfSignature('()'), { params: [], results: [] });
  assert.throws(() => typeOfSignature('(x)i'), TypeError);
  assert.equal(formatType({ params: [], results: [] }), '() -> ()');
});

test('the start function runs once, in start() and not before', () => {
  const module = instrument(
    wat(`(module (import "t" "say" (func $say (param i32)))
      (func $first (call $say (i32.const 1))) (start $first) (func (export "_start") (call $say (i32.const 2))))`),
    'loop-all',
    'memory',
  );
  const said: number[] = [];
  const { instance } = makeInstance(module, () => ({
    t: {
      say: host<[number]>('(i)', (value) => {
        said.push(value);
        return undefined;
      }),
    },
  }));
  assert.deepEqual(said, []);
  instance.start();
  assert.deepEqual(said, [1, 2]);
});

test('initialMemories are what the engine makes', () => {
  const texts = [
    '(module (memory 2) (data (i32.const 65530) "across pages") (data (i32.const 3) "abc") (data (i32.const 4) "X") (func (export "_start")))',
    '(module (memory 1) (global $base i32 (i32.const 4096)) (data "passive") (data (i32.const 0) "") (func (export "_start")))',
    '(module (memory 0) (func (export "_start")))',
    '(module (func (export "_start")))',
  ];
  for (const text of texts) {
    const module = wat(text);
    const { instance } = makeInstance(form(module), () => ({}));
    assert.deepEqual(initialMemories(module)[0] ?? new Uint8Array(), instance.memory());
  }
  assert.equal(initialMemories(MINIMAL)[0]?.length, PAGE_SIZE);
  assert.throws(() => initialMemories(wat('(module (memory 1) (data (i32.const 65534) "abc"))')), {
    code: 'KEDGE_MODULE_INVALID',
  });
});

test('another process makes the same bytes', () => {
  const module = wat('(module (memory 1) (func (export "_start") (loop (br_if 0 (i32.load (i32.const 48))))))');
  const program = `
    import { instrument } from './src/engine/points/instrument.ts';
    const module = new Uint8Array(Buffer.from('${Buffer.from(module).toString('base64')}', 'base64'));
    process.stdout.write(instrument(module, 'loop-all', 'memory').hash);`;
  const other = execFileSync(process.execPath, ['--input-type=module-typescript', '-e', program], {
    cwd: new URL('../../../', import.meta.url).pathname,
    encoding: 'utf8',
  });
  assert.equal(form(module).hash, other);
});

test('a context is of our making', () => {
  const module = instrument(MINIMAL, 'loop-all', 'memory');
  assert.ok(makeInstance(module, () => ({})).context.memory().length === PAGE_SIZE);
  assert.equal(createHostCallContext().memory().length, 0);
});
