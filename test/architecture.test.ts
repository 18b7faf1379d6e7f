/** The folders are the architecture: these tests fail when an import, a name or a length says otherwise. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { ERROR_CODES } from '../src/errors.ts';
import { VERSION } from '../src/version.ts';
import { assertions, cycles, impure, long, unlisted, upwards } from './support/architecture/rules.ts';
import { rustCircles } from './support/architecture/rust.ts';
import { readTree, type Tree } from './support/architecture/source.ts';

const PROJECT = join(import.meta.dirname, '..');
const SRC = readTree(PROJECT, 'src');
const MAX_LINES = 400;
/** Still longer, and to be split: whoever does that takes them out. */
const TOO_LONG = new Set(['src/migrate/agent.ts', 'test/unit/gateway/admin.test.ts']);

function read(path: string): string {
  return readFileSync(join(PROJECT, path), 'utf8');
}

/** A tree of the given files. */
function tree(files: Readonly<Record<string, string>>): Tree {
  return new Map(Object.entries(files));
}

describe('the project', () => {
  test('has sources where the rules look for them', () => {
    for (const folder of ['cli', 'gateway', 'rewrite']) {
      assert.ok(
        [...SRC.keys()].some((path) => path.startsWith(`src/${folder}/`)),
        folder,
      );
    }
  });

  test('has no folder in src that is not a layer', () => assert.deepEqual(unlisted(SRC), []));
  test('has no import that points up', () => assert.deepEqual(upwards(SRC), []));
  test('has no circle of imports', () => assert.deepEqual(cycles(SRC), []));
  test('has no circle of Rust modules', () =>
    assert.deepEqual(rustCircles(readTree(PROJECT, 'native/src', ['.rs']), 'native/src'), []));
  test('has no I/O, clock, randomness or package in src/rewrite', () =>
    assert.deepEqual(impure(SRC, 'src/rewrite'), []));
  test(`has no source of more than ${MAX_LINES} lines`, () => {
    const folders = [
      SRC,
      readTree(PROJECT, 'test'),
      ...['native/src', 'native/build', 'native/tests'].map((folder) => readTree(PROJECT, folder, ['.rs'])),
      readTree(PROJECT, 'native/bpf', ['.c', '.h']),
    ];
    assert.ok(folders.every(({ size }) => size > 0));
    const rest = folders.map((files) => new Map([...files].filter(([path]) => !TOO_LONG.has(path))));
    assert.deepEqual(
      rest.flatMap((files) => long(files, MAX_LINES)),
      [],
    );
  });
  test('asserts non-null only of elements', () => assert.deepEqual(assertions(SRC), []));

  test('has one version, for TypeScript and Rust', () => {
    const manifest = JSON.parse(read('package.json')) as { version: string };
    assert.equal(manifest.version, VERSION);
    assert.equal(/^\[package\][^[]*?^version = "(.*?)"/ms.exec(read('native/Cargo.toml'))?.[1], VERSION);
    assert.equal(/name = "kedge-native"\nversion = "(.*?)"/.exec(read('native/Cargo.lock'))?.[1], VERSION);
    assert.match(read('CHANGELOG.md'), new RegExp(`^## ${VERSION.replaceAll('.', '\\.')}`, 'm'));
  });

  test('says why it has each dependency', () => {
    const manifest = JSON.parse(read('package.json')) as Record<string, Record<string, string>>;
    const kinds = ['dependencies', 'devDependencies', 'optionalDependencies'];
    const npm = kinds.flatMap((kind) => Object.keys(manifest[kind] ?? {}));
    const crates = /^\[dependencies\]\n(.*?)(?:^\[|$(?![^]))/ms.exec(read('native/Cargo.toml'))?.[1] ?? '';
    const rust = [...crates.matchAll(/^([\w-]+) *=/gm)].map((match) => match[1] ?? '');
    assert.ok(npm.length > 10 && rust.length > 1);
    const document = read('docs/dependencies.md');
    const unexplained = [...npm, ...rust].filter((name) => !document.includes(`\`${name}\``));
    assert.deepEqual(unexplained, []);
  });

  test('pins every npm package to one version', () => {
    const manifest = JSON.parse(read('package.json')) as Record<string, Record<string, string>>;
    const ranges = ['dependencies', 'devDependencies', 'optionalDependencies']
      .flatMap((kind) => Object.entries(manifest[kind] ?? {}))
      .filter(([, version]) => !/^\d+\.\d+\.\d+$/.test(version));
    assert.deepEqual(ranges, []);
  });

  test('has the documents a newcomer looks for', () => {
    const documents = ['README.md', 'ARCHITECTURE.md', 'CHANGELOG.md', 'LICENSE', 'docs/dependencies.md'];
    assert.deepEqual(
      documents.filter((path) => !existsSync(join(PROJECT, path))),
      [],
    );
  });

  test('lists all layers in ARCHITECTURE.md', () => {
    const document = read('ARCHITECTURE.md');
    const layers = new Set([...SRC.keys()].map((path) => path.split('/')[1] ?? ''));
    assert.deepEqual(
      [...layers].filter((layer) => !document.includes(`src/${layer}`)),
      [],
    );
  });

  test('gives every error code a meaning', () => {
    for (const [code, meaning] of Object.entries(ERROR_CODES)) {
      assert.match(code, /^KEDGE(_[A-Z0-9]+)+$/);
      assert.match(meaning, /^\S.*[^.\s]$/, code);
    }
  });
});

describe('the rules', () => {
  test('a folder or a file that is no layer is found', () => {
    const found = unlisted(
      tree({ 'src/gateway/a.ts': '', 'src/util/b.ts': '', 'src/main.ts': '', 'src/errors.ts': '' }),
    );
    assert.deepEqual(found, ['src/util: not in the list of layers', 'src/main.ts: not in the list of layers']);
  });

  test('arrows that point down or stay in the layer pass', () => {
    const files = {
      'src/cli/kedge.ts':
        "import { a } from '../gateway/a.ts';\nimport { x } from 'some-package';\nimport '../version.ts';",
      'src/gateway/a.ts': "export { b as a } from './b.ts';\nimport fs from 'node:fs';",
      'src/gateway/b.ts':
        "import { c } from '../rewrite/c.ts';\nimport '../errors.ts';\nimport * as n from '../native.ts';",
      'src/native.ts': "import * as addon from '../native/index.js';\nimport './rewrite/c.ts';",
      'src/rewrite/c.ts': "import type { D } from './d.ts';",
      'src/rewrite/d.ts': '',
      'src/errors.ts': '',
      'src/version.ts': '',
    };
    assert.deepEqual(upwards(tree(files)), []);
    assert.deepEqual(cycles(tree(files)), []);
  });

  const UP: readonly (readonly [string, string, string])[] = [
    ['an import', 'gateway', "import { x } from '../cli/x.ts';"],
    ['a type import', 'gateway', "import type { X } from '../cli/x.ts';"],
    ['an inline type import', 'gateway', "import { type X } from '../cli/x.ts';"],
    ['an import for its effect', 'gateway', "import '../cli/x.ts';"],
    ['a re-export', 'gateway', "export * from '../cli/x.ts';"],
    ['a named re-export', 'gateway', "export { x } from '../cli/x.ts';"],
    ['import()', 'gateway', "const x = await import('../cli/x.ts');"],
    ['a type of import()', 'gateway', "let x: import('../cli/x.ts').X;"],
    ['typeof import()', 'gateway', "type X = typeof import('../cli/x.ts');"],
    ['the neighbour above', 'engine', "import { x } from '../wasi-sock/x.ts';"],
  ];
  for (const [what, layer, text] of UP) {
    test(`an arrow up is found: ${what}`, () => {
      const files = tree({ [`src/${layer}/a.ts`]: `\n${text}\n`, 'src/cli/x.ts': '', 'src/wasi-sock/x.ts': '' });
      const found = upwards(files);
      assert.equal(found.length, 1);
      assert.match(found[0] ?? '', new RegExp(`^src/${layer}/a.ts:2: ${layer} is below `));
    });
  }

  test('rewrite may not even use the leaves, nor leaves the layers', () => {
    const found = upwards(
      tree({
        'src/rewrite/a.ts': "import '../errors.ts';\nimport '../../native/index.js';",
        'src/native.ts': "import './gateway/b.ts';",
        'src/errors.ts': "import './rewrite/a.ts';",
        'src/gateway/b.ts': '',
      }),
    );
    assert.deepEqual(found, [
      'src/rewrite/a.ts:1: src/rewrite stands alone and imports src/errors.ts',
      'src/rewrite/a.ts:2: src/rewrite stands alone and imports native/index.js',
      'src/native.ts:1: native.ts is below gateway and imports src/gateway/b.ts',
      'src/errors.ts:1: errors.ts is below rewrite and imports src/rewrite/a.ts',
    ]);
  });

  test('the addon is only for those who need it', () => {
    const text = "import { tunOpen } from '../../native/index.js';";
    const files = tree({ 'src/gateway/a.ts': text, 'src/cli/b.ts': text });
    assert.deepEqual(upwards(files), ['src/cli/b.ts:1: cli may not use the addon']);
  });

  test('an import that leaves src or names no file is found', () => {
    const files = tree({
      'src/cli/a.ts': "import '../../test/support/wait.ts';\nimport './gone.ts';\nimport './b.js';",
      'src/cli/b.ts': '',
    });
    assert.equal(upwards(files).length, 3);
  });

  test('imports in comments and strings are none', () => {
    const text =
      "// import '../cli/x.ts';\nconst s = `import '../cli/x.ts'`;\n/* export * from '../cli/x.ts' */\nconst r = /import '..'/;";
    assert.deepEqual(upwards(tree({ 'src/gateway/a.ts': text, 'src/cli/x.ts': '' })), []);
  });

  test('a circle of Rust modules is found, in trees of uses and in paths', () => {
    const files = new Map(
      Object.entries({
        'r/lib.rs': 'pub mod a;',
        'r/a.rs': 'use crate::{\n    b::{x, Y},\n    c,\n};',
        'r/b.rs': 'fn f() { crate::p::d::g() } // super::a::nothing',
        'r/c.rs': 'use std::fmt;\nuse crate::p::d;',
        'r/p/mod.rs': 'pub mod d;\nuse super::a;',
        'r/p/d.rs': 'use super::super::a;',
        'r/p/e.rs': 'use super::{d, super::c};',
      }),
    );
    assert.deepEqual(rustCircles(files, 'r'), ['r/a.rs > r/b.rs > r/p/d.rs > r/a.rs']);
    files.delete('r/b.rs');
    assert.deepEqual(rustCircles(files, 'r'), ['r/a.rs > r/c.rs > r/p/d.rs > r/a.rs']);
  });

  test('a circle is found, of types too, and only once', () => {
    const files = tree({
      'src/cli/a.ts': "import './b.ts';",
      'src/cli/b.ts': "import type { C } from './c.ts';",
      'src/cli/c.ts': "export * from './a.ts';",
      'src/cli/d.ts': "import './a.ts';\nimport './c.ts';",
      'src/cli/self.ts': "import './self.ts';",
    });
    assert.deepEqual(cycles(files), [
      'src/cli/a.ts > src/cli/b.ts > src/cli/c.ts > src/cli/a.ts',
      'src/cli/self.ts > src/cli/self.ts',
    ]);
  });

  test('a diamond is no circle', () => {
    const files = {
      'src/cli/a.ts': "import './b.ts';import './c.ts';",
      'src/cli/b.ts': "import './d.ts';",
      'src/cli/c.ts': "import './d.ts';",
      'src/cli/d.ts': '',
    };
    assert.deepEqual(cycles(tree(files)), []);
  });

  const IMPURE = [
    "import { readFileSync } from 'node:fs';",
    "import type { Socket } from 'node:net';",
    "import fc from 'fast-check';",
    "const m = await import('./b.ts');",
    'process.exit(1);',
    'const t = Date.now();',
    'const t = new Date();',
    'const t = performance.now();',
    'setTimeout(f, 1);',
    'const u = crypto.randomUUID();',
    "console.log('x');",
    'const p = fetch(url);',
    'globalThis.x = 1;',
    'const { env } = process;',
    'const o = { process };',
    'const r = Math.random();',
    "const r = Math['random']();",
    'const u = import.meta.url;',
    'const b = Buffer.alloc(1);',
    'const f = () => console;',
    "eval('1');",
  ];
  for (const text of IMPURE) {
    test(`in src/rewrite this is found: ${text}`, () => {
      assert.notDeepEqual(impure(tree({ 'src/rewrite/a.ts': text, 'src/rewrite/b.ts': '' }), 'src/rewrite'), []);
    });
  }

  test('pure functions pass, whatever their properties are called, and other folders are not asked', () => {
    const text = `
      // console.log(Date.now()) and process are words of a comment
      import { fold } from './b.ts';
      export type T = { process: number; fetch: number };
      export const sum = (t: T): number => t.process + t.fetch + Math.max(1, 2);
      export const object = { crypto: 1, console: 2 };
      export const text = 'process.exit() setTimeout';`;
    const files = tree({
      'src/rewrite/a.ts': text,
      'src/rewrite/b.ts': '',
      'src/gateway/c.ts': 'process.exit(Date.now());',
    });
    assert.deepEqual(impure(files, 'src/rewrite'), []);
  });

  test('a long file is found at the first line too many', () => {
    const files = tree({ 'src/cli/a.ts': 'x;\n'.repeat(3), 'src/cli/b.ts': 'x;\n'.repeat(4) });
    assert.deepEqual(long(files, 3), ['src/cli/b.ts: 4 lines are more than 3']);
  });

  test('an assertion of anything but an element is found', () => {
    const files = tree({ 'src/cli/a.ts': 'column[slot]!;\nmap.get(1)!;\nthis.column[slot]! += 1;\nobject.field!;' });
    const found = assertions(files);
    assert.deepEqual(
      found.map((line) => line.split(':')[1]),
      ['2', '4'],
    );
  });
});
