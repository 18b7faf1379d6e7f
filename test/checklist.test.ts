/** The checklist of the wire and the tests are one: what a test or a source cites is there, and what is done has a test. */
import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { cited, named, statesOf } from './support/docs/checklist.ts';

const PROJECT = join(import.meta.dirname, '..');
const TESTS = ['test/**/*.test.ts', 'native/tests/**/*.rs'];
const CITING = [
  ...['src', 'test', 'demo', 'bench'].map((folder) => `${folder}/**/*.ts`),
  'native/{src,tests}/**/*.rs',
  'native/bpf/*.{c,h}',
  '{.,docs}/*.md',
];
/** Made-up numbers stand here. */
const SELF = 'test/checklist.test.ts';

function filesOf(patterns: readonly string[]): { readonly path: string; readonly text: string }[] {
  const paths = globSync([...patterns], { cwd: PROJECT }).filter((path) => path !== SELF);
  return paths.map((path) => ({ path, text: readFileSync(join(PROJECT, path), 'utf8') }));
}

describe('docs/checklist.md', () => {
  const states = statesOf(readFileSync(join(PROJECT, 'docs/checklist.md'), 'utf8'));

  test('has each number once, with its state', () => {
    assert.deepEqual(
      [...states.keys()],
      Array.from({ length: 49 }, (_, i) => `S${i + 1}`),
    );
  });

  test('has every number that tests, sources and documents cite', () => {
    const files = filesOf(CITING);
    const unknown = files.flatMap(({ path, text }) =>
      [...cited(text)].filter((number) => !states.has(number)).map((number) => `${path}: ${number}`),
    );
    assert.deepEqual(unknown, []);
    assert.ok(files.filter(({ text }) => cited(text).size > 0).length > 50);
  });

  test('calls done only what a test is named after', () => {
    const tested = new Set(filesOf(TESTS).flatMap(({ text }) => [...named(text)]));
    const done = [...states].filter(([, state]) => state === 'done').map(([number]) => number);
    assert.deepEqual(
      done.filter((number) => !tested.has(number)),
      [],
    );
  });
});

describe('the reader of the checklist', () => {
  test('takes lines with a state, and no number twice', () => {
    const page = '| S1 | what | done |\n| S2 | what | not yet: a reason |\n| S3 | what | perhaps |\n';
    assert.deepEqual(
      [...statesOf(page)],
      [
        ['S1', 'done'],
        ['S2', 'not yet'],
      ],
    );
    assert.throws(() => statesOf('| S1 | a | done |\n| S1 | b | done |\n'), /S1 has two lines/);
  });

  test('finds titles of tests, not what a test says elsewhere', () => {
    const source = "/** S1 */ test('S2, S3: title', f); it(`S4 S5: title`); assert.ok(true, 'as S6 wants');";
    assert.deepEqual([...named(source)], ['S2', 'S3', 'S4', 'S5']);
    assert.deepEqual([...named('#[test]\nfn s43_a_title() {}\nfn s44_helper() {}')], ['S43']);
    assert.deepEqual([...cited(source)], ['S1', 'S2', 'S3', 'S4', 'S5', 'S6']);
  });
});
