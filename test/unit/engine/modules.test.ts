import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { KedgeError } from '../../../src/errors.ts';
import { createHostCallContext } from '../../../src/engine/context.ts';
import { formatType, typeOfSignature } from '../../../src/engine/imports.ts';
import { instrument } from '../../../src/engine/instrument/instrument.ts';
import { initialMemory, PAGE_SIZE } from '../../../src/engine/wasm/initial-memory.ts';
import { host, makeInstance, wat } from './support.ts';

const MINIMAL = wat('(module (memory 1) (func (export "_start")))');

function refuses(module: Uint8Array, code: string, text: RegExp): Promise<void> {
  return assert.rejects(
    async () => instrument(module, 'loop-all'),
    (error) => error instanceof KedgeError && error.code === code && text.test(error.message),
  );
}

test('what is not WebAssembly is refused', async () => {
  await refuses(new Uint8Array(0), 'KEDGE_MODULE_INVALID', /not a WebAssembly module/u);
  await refuses(
    new TextEncoder().encode('#!/bin/sh\necho hello\n'),
    'KEDGE_MODULE_INVALID',
    /not a WebAssembly module/u,
  );
  const component = Uint8Array.of(0, 0x61, 0x73, 0x6d, 0x0d, 0, 1, 0);
  await refuses(component, 'KEDGE_MODULE_INVALID', /version 1|not a WebAssembly module/u);
});

test('a module cut anywhere, or with any byte changed, never gives another error than a KedgeError', async () => {
  const whole = wat(`(module (import "a" "b" (func (param i32)))
    (memory 1) (data (i32.const 8) "abc") (global (mut i64) (i64.const 5)) (table 1 funcref) (elem (i32.const 0) 1)
    (func (local i32 i64) (loop (br_if 0 (local.get 0)))) (func (export "_start") (call 1)))`);
  const tolerant = async (module: Uint8Array): Promise<boolean> => {
    try {
      await instrument(module, 'none');
      return true;
    } catch (error) {
      assert.ok(error instanceof KedgeError, String(error));
      return false;
    }
  };
  for (let length = 0; length < whole.length; length += 1) {
    // Between its last sections a module may be cut and still be one.
    const cut = whole.slice(0, length);
    assert.equal(await tolerant(cut), length > 80 && WebAssembly.validate(cut), `cut at ${length}`);
  }
  for (let at = 0; at < whole.length; at += 1) {
    for (const flip of [0x01, 0x10, 0x80]) {
      const changed = whole.slice();
      changed[at] = (changed[at] ?? 0) ^ flip;
      await tolerant(changed);
    }
  }
});

test('an invalid body is refused with the reason', async () => {
  const invalid = wat('(module (func (export "_start") (i32.add)))', '--no-check');
  await refuses(invalid, 'KEDGE_MODULE_INVALID', /i32\.add|not enough arguments/u);
});

test('a module without _start is refused', async () => {
  await refuses(wat('(module (func (export "main")))'), 'KEDGE_MODULE_NO_START', /_start/u);
  await refuses(wat('(module (func (export "_start") (param i32)))'), 'KEDGE_MODULE_NO_START', /_start/u);
  await refuses(wat('(module (memory (export "_start") 1))'), 'KEDGE_MODULE_NO_START', /_start/u);
});

const start = '(func (export "_start"))';
const refused: readonly (readonly [string, string, RegExp, readonly string[]])[] = [
  [
    'table.set',
    `(module (table 1 funcref) (func (table.set 0 (i32.const 0) (ref.null func))) ${start})`,
    /reference|tables/u,
    [],
  ],
  [
    'table.grow',
    `(module (table 1 funcref) (func (drop (table.grow 0 (ref.null func) (i32.const 1)))) ${start})`,
    /reference|tables/u,
    [],
  ],
  [
    'table.copy',
    `(module (table 1 funcref) (func (table.copy (i32.const 0) (i32.const 0) (i32.const 0))) ${start})`,
    /tables/u,
    [],
  ],
  [
    'table.init',
    `(module (table 1 funcref) (elem $e func 0) (func (table.init $e (i32.const 0) (i32.const 0) (i32.const 0))) ${start})`,
    /tables/u,
    [],
  ],
  ['a reference in a local', `(module (func (local externref)) ${start})`, /reference/u, []],
  ['a reference as a parameter', `(module (func (param externref)) ${start})`, /reference/u, []],
  ['a reference in a global', `(module (global (mut externref) (ref.null extern)) ${start})`, /reference/u, []],
  ['a mutable v128 global', `(module (global (mut v128) (v128.const i64x2 0 0)) ${start})`, /v128 global/u, []],
  ['two memories', `(module (memory 1) (memory 1) ${start})`, /several|multiple/u, ['--enable-multi-memory']],
  ['memory64', `(module (memory i64 1) ${start})`, /memory64/u, ['--enable-memory64']],
  ['a shared memory', `(module (memory 1 1 shared) ${start})`, /threads/u, ['--enable-threads']],
  [
    'atomics',
    `(module (memory 1) (func (drop (i32.atomic.load (i32.const 0)))) ${start})`,
    /threads/u,
    ['--enable-threads'],
  ],
  [
    'exceptions',
    `(module (tag (param i32)) (func (throw 0 (i32.const 1))) ${start})`,
    /exception/u,
    ['--enable-exceptions'],
  ],
  ['a tail call', `(module (func (return_call 0)) ${start})`, /tail call/u, ['--enable-tail-call']],
  ['data.drop', `(module (memory 1) (data $d "x") (func (data.drop $d)) ${start})`, /data\.drop/u, []],
];

for (const [name, text, message, flags] of refused) {
  test(`a module with ${name} is refused by name`, async () => {
    await refuses(wat(text, ...flags), 'KEDGE_MODULE_UNSUPPORTED', message);
  });
}

test('an import that is no function is refused by name', async () => {
  await refuses(
    wat('(module (import "env" "memory" (memory 1)) (func (export "_start")))'),
    'KEDGE_IMPORT_UNKNOWN',
    /memory env\.memory/u,
  );
});

test('an unknown import and one of another type are named before anything runs', async () => {
  const module = await instrument(
    wat(`(module (import "env" "launch" (func (param i32 i64) (result i32)))
      (func $no (unreachable)) (start $no) (func (export "_start")))`),
    'loop-all',
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
    ['kedge', 'poll'],
    ['asyncify', 'start_unwind'],
  ] as const) {
    const sneaky = await instrument(wat(`(module (import "${from}" "${name}" (func)) ${start})`), 'loop-all');
    assert.throws(() => makeInstance(sneaky, () => ({ env: {} })), { code: 'KEDGE_IMPORT_UNKNOWN' }, `${from}.${name}`);
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

test('the start function runs once, in start() and not before', async () => {
  const module = await instrument(
    wat(`(module (import "t" "say" (func $say (param i32)))
      (func $first (call $say (i32.const 1))) (start $first) (func (export "_start") (call $say (i32.const 2))))`),
    'loop-all',
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

test('initialMemory is what the engine makes', async () => {
  const texts = [
    '(module (memory 2) (data (i32.const 65530) "across pages") (data (i32.const 3) "abc") (data (i32.const 4) "X") (func (export "_start")))',
    '(module (memory 1) (global $base i32 (i32.const 4096)) (data "passive") (data (i32.const 0) "") (func (export "_start")))',
    '(module (memory 0) (func (export "_start")))',
    '(module (func (export "_start")))',
  ];
  for (const text of texts) {
    const module = wat(text);
    const { instance } = makeInstance(await instrument(module, 'loop-all'), () => ({}));
    assert.deepEqual(initialMemory(module), instance.memory());
  }
  assert.equal(initialMemory(MINIMAL).length, PAGE_SIZE);
  assert.throws(() => initialMemory(wat('(module (memory 1) (data (i32.const 65534) "abc"))')), {
    code: 'KEDGE_MODULE_INVALID',
  });
});

test('instrumenting is repeatable, and kept on disk', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'kedge-cache-'));
  try {
    // Modules that no other test uses, so that the cache in memory does not hide the one on disk.
    const module = wat('(module (memory 1) (func (export "_start") (loop (br_if 0 (i32.load (i32.const 44))))))');
    const first = await instrument(module, 'loop-all', { cacheDirectory: directory });
    const [name, ...others] = readdirSync(directory);
    assert.ok(name !== undefined && others.length === 0);
    assert.ok(name.startsWith(first.originalHash));
    const file = join(directory, name);
    const bytes = readFileSync(file);
    assert.deepEqual(new Uint8Array(bytes.subarray(32)), new Uint8Array(first.bytes));
    // A damaged file is made again.
    bytes[40] = (bytes[40] ?? 0) ^ 1;
    writeFileSync(file, bytes);
    const { readCached } = await import('../../../src/engine/instrument/cache.ts');
    assert.equal(await readCached(directory, name.replace('.wasm', '')), undefined);
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test('another process makes the same bytes', async () => {
  const module = wat('(module (memory 1) (func (export "_start") (loop (br_if 0 (i32.load (i32.const 48))))))');
  const program = `
    import { instrument } from './src/engine/instrument/instrument.ts';
    const module = new Uint8Array(Buffer.from('${Buffer.from(module).toString('base64')}', 'base64'));
    process.stdout.write((await instrument(module, 'loop-all')).hash);`;
  const other = execFileSync(process.execPath, ['--input-type=module-typescript', '-e', program], {
    cwd: new URL('../../../', import.meta.url).pathname,
    encoding: 'utf8',
  });
  assert.equal((await instrument(module, 'loop-all')).hash, other);
});

test('a context is of our making', async () => {
  const module = await instrument(MINIMAL, 'loop-all');
  assert.ok(makeInstance(module, () => ({})).context.memory().length === PAGE_SIZE);
  assert.equal(createHostCallContext().memory().length, 0);
});
