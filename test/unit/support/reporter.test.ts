/** What must not pass for success: the reporter and the guard on small test files, in a Node of their own. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';

const SUPPORT = join(import.meta.dirname, '../../support');
const directory = mkdtempSync(join(tmpdir(), 'kedge-reporter-'));
after(() => rmSync(directory, { recursive: true }));

interface Run {
  readonly status: number | null;
  /** "PASSED FAILED" */
  readonly counts: string;
  readonly output: string;
}

function run(text: string): Run {
  const [file, counts] = [join(directory, 'fixture.test.ts'), join(directory, 'counts')];
  writeFileSync(file, `import { after, before, describe, it, test } from 'node:test';\n${text}\n`);
  const { NODE_TEST_CONTEXT: _, ...env } = process.env;
  const args = [
    '--import',
    join(SUPPORT, 'guard.ts'),
    '--test',
    `--test-reporter=${join(SUPPORT, 'reporter.ts')}`,
    file,
  ];
  const options = { encoding: 'utf8', env: { ...env, KEDGE_TEST_COUNTS: counts }, timeout: 60_000 } as const;
  const { status, stdout, stderr } = spawnSync(process.execPath, args, options);
  return { status, counts: readFileSync(counts, 'utf8').trim(), output: stdout + stderr };
}

test('what passes is counted, a parent and its children each, a suite not', () => {
  const { status, counts } = run(`
    test('a', () => {});
    test('parent', async (t) => { await t.test('child', () => {}); });
    describe('suite', () => { it('b', () => {}); });`);
  assert.deepEqual([status, counts], [0, '4 0']);
});

const FAILURES: readonly (readonly [string, string, string, RegExp])[] = [
  ['an assertion', `test('a', () => { throw new RangeError('boom'); });`, '0 1', /RangeError: boom/],
  [
    'a child',
    `test('p', async (t) => { await t.test('c', () => { throw 'text'; }); });`,
    '0 1',
    /not ok .*: c\n +text/,
  ],
  [
    'a test in a suite',
    `describe('s', () => { it('a', () => { throw new Error('x'); }); it('b', () => {}); });`,
    '1 1',
    /: a/,
  ],
  [
    'a hook before',
    `describe('s', () => { before(() => { throw new Error('x'); }); it('a', () => {}); });`,
    '0 2',
    /: s\n/,
  ],
  [
    'a hook after',
    `describe('s', () => { after(() => { throw new Error('x'); }); it('a', () => {}); });`,
    '1 1',
    /: s\n/,
  ],
  ['a skipped test', `test('a', { skip: 'no root' }, () => {});`, '0 1', /is skipped/],
  ['a skipped suite', `describe.skip('s', () => { it('a', () => {}); });`, '0 1', /is skipped/],
  ['a postponed test', `test.todo('a');`, '0 1', /is postponed/],
  ['no test at all', `void [after, before];`, '0 1', /has no tests/],
  ['an exit before the tests', `process.exit(0);`, '0 1', /ended before its tests did/],
  [
    'an exit within a test',
    `test('a', () => {}); test('b', async () => { process.exit(0); });`,
    '',
    /ended before its tests did/,
  ],
  ['a file that is not TypeScript', `const = 1;`, '0 1', /SyntaxError/],
];
for (const [what, text, expected, message] of FAILURES) {
  test(`counted as failed: ${what}`, () => {
    const { counts, output } = run(text);
    assert.match(counts, /^\d+ [1-9]\d*$/, output);
    if (expected !== '') assert.equal(counts, expected, output);
    assert.match(output, message);
  });
}
