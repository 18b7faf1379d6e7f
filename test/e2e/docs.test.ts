/**
 * The documents are true: every command in a block is typed as it stands and prints what is shown, every other one that they
 * name is run by a test that is known by name, every file they name is there, and the figures are those of the results.
 */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { SHOWN } from '../../bench/table.ts';
import {
  mentioned,
  missingFiles,
  missingTargets,
  parseSynopsis,
  readDocuments,
  synopsesOf,
  unknownInSynopses,
  unrunnable,
} from '../support/docs/claims.ts';
import { blocksOf, generated, linksOf, withGenerated } from '../support/docs/markdown.ts';
import { recordingBlock, recordedDocument } from '../support/docs/record.ts';
import { RUN_BY, wrongRunners } from '../support/docs/run-by.ts';
import { runDocument } from '../support/docs/scenario.ts';
import { linesOf, sameOutput, stepsOf } from '../support/docs/transcript.ts';
import { PROJECT } from '../support/topology.ts';

const DOCUMENTS = readDocuments();

function read(path: string): Promise<string> {
  return readFile(join(PROJECT, path), 'utf8');
}

describe('documents', () => {
  test('name files, targets of make, commands and flags that exist', async () => {
    assert.deepEqual(DOCUMENTS.flatMap(missingFiles), []);
    assert.deepEqual(DOCUMENTS.flatMap(missingTargets), []);
    assert.deepEqual(await unknownInSynopses(DOCUMENTS), []);
    assert.ok(DOCUMENTS.flatMap(synopsesOf).length > 10);
  });

  test('show no command that no test runs', () => {
    assert.deepEqual(DOCUMENTS.flatMap(unrunnable), []);
  });

  test('name no program of the project that no test runs', async () => {
    const named = new Set(DOCUMENTS.flatMap(mentioned));
    assert.deepEqual(
      [...named].filter((command) => !Object.hasOwn(RUN_BY, command)),
      [],
      'type it in a console block, or say in test/support/docs/run-by.ts which test runs it',
    );
    assert.deepEqual(await wrongRunners(), []);
  });

  test('show the recording of the demo', async () => {
    const recording = await read('docs/recording.txt');
    assert.equal(generated(await read('README.md'), 'recording'), recordingBlock(recording));
  });

  test('show the figures of bench/results', async () => {
    for (const { document, marker, table } of SHOWN)
      assert.equal(generated(await read(document), marker), table(), `${document}: run bin/node bench/table.ts`);
  });

  for (const { name, text } of DOCUMENTS) {
    const commands = blocksOf(text).filter(({ directive }) => directive?.kind === 'run');
    if (commands.length === 0) continue;
    test(`${name}: its commands do what it shows`, { timeout: 180_000 }, async () => {
      assert.ok((await runDocument(name, text)).length >= commands.length);
    });
  }
});

describe('a document whose commands do not work', { timeout: 60_000 }, () => {
  const document = (...lines: string[]): string =>
    ['<!-- run: host A -->', '```console', ...lines, '```', ''].join('\n');

  for (const [title, markdown, says] of [
    ['another exit code', document('$ false'), /x\.md:3: .*false[^]*ended with 1/],
    ['a command that is not there', document('$ kedge fly'), /x\.md:3: .*kedge fly[^]*No command registered for `fly`/],
    ['other output', document('$ echo one', 'two'), /x\.md:3: .*echo one[^]*printed[^]*one[^]*shows[^]*two/],
    ['output that is not shown', document('$ true', '$ echo one'), /x\.md:4: .*echo one/],
    ['a shell that ends', document('$ exit 3', '$ true'), /x\.md:[34]: .*the shell has ended/],
  ] as const)
    test(title, async () => {
      await assert.rejects(runDocument('x.md', markdown), says);
    });

  test('can be recorded anew', async () => {
    const recorded = await recordedDocument('x.md', document('$ echo one', 'two', '', '$ seq 2', '…', '2'));
    assert.equal(recorded, document('$ echo one', 'one', '', '$ seq 2', '…', '2'));
  });
});

describe('the reader of documents', () => {
  const FENCE = '```';
  const DOCUMENT = [
    'Text with a [link](docs/a.md#part), [another](https://example.org) and `code`.',
    '',
    '    kedge ps [-o table|json]',
    '',
    '<!-- run: host A, exit 1 -->',
    `${FENCE}console`,
    '$ one \\',
    '> two',
    'printed',
    '$ three &',
    FENCE,
    '',
    '<!-- begin part -->',
    'old',
    '<!-- end part -->',
    '',
  ].join('\n');

  test('finds blocks, directives, links and generated parts', () => {
    const [indented, console] = blocksOf(DOCUMENT);
    assert.deepEqual(indented, {
      line: 3,
      language: undefined,
      text: 'kedge ps [-o table|json]',
      directive: undefined,
    });
    assert.deepEqual(console?.directive, { kind: 'run', terminal: 'host A', exit: 1 });
    assert.deepEqual(stepsOf(console?.text ?? '', console?.line ?? 0), [
      { line: 7, command: 'one \\\ntwo', output: ['printed'], background: false },
      { line: 10, command: 'three &', output: [], background: true },
    ]);
    assert.deepEqual(linksOf(DOCUMENT), ['docs/a.md']);
    assert.equal(generated(DOCUMENT, 'part'), 'old\n');
    assert.equal(generated(withGenerated(DOCUMENT, 'part', 'new\n'), 'part'), 'new\n');
    assert.throws(() => generated(DOCUMENT, 'other'), /begin other/);
    assert.throws(() => blocksOf(`${FENCE}console\n$ one`), /not closed/);
    assert.throws(() => stepsOf('printed\n$ one', 1), /before the first command/);
  });

  test('compares output by what does not change', () => {
    const same = (shown: string, printed: string): boolean => sameOutput(linesOf(shown), linesOf(printed));
    assert.ok(
      same(
        '1  tcp  10.0.0.1:7000  10.0.0.2:43680  2.8s',
        '12 tcp 10.0.0.1:7000 10.0.0.2:51111 1m05s'.replace('1m05s', '9.1s'),
      ),
    );
    assert.ok(!same('10.0.0.1:7000', '10.0.0.1:7001'));
    assert.ok(!same('10.0.0.1:43680', '10.0.0.2:43680'));
    assert.ok(same('id ab4c7b90-ec02-4447-94d1-ccb97868fa46', 'id 00000000-ec02-4447-94d1-ccb97868fa46'));
    const hash = 'bbbadacfea81d645686f95846c4254126bb2503cd1142749efbcf3fc06f288d8';
    assert.ok(!same(hash, hash.replace('8', '9')));
    assert.ok(same('first\n…\nlast', 'first\nlast'));
    assert.ok(same('first\n…', 'first\nsecond\nlast'));
    assert.ok(!same('first\n…\nlast', 'first\nsecond'));
    assert.ok(!same('', 'something'));
    assert.ok(!same('something', ''));
  });

  test('finds claims that are wrong', async () => {
    const document = (text: string) => ({ name: 'x.md', text });
    assert.deepEqual(
      missingFiles(document('[a](nowhere.md) `src/nowhere.ts` `src/cli/{kedge,gateway}.ts` `demo/report.json`')),
      ['x.md: no nowhere.md', 'x.md: no src/nowhere.ts'],
    );
    assert.deepEqual(missingTargets(document('`make test` and `make nothing`\n\n    make neither  of it\n')), [
      'x.md: no make nothing',
      'x.md: no make neither',
    ]);
    assert.deepEqual(mentioned(document('`bin/node x.ts -a` and `make test`\n\n    make neither  of it\n')), [
      'bin/node x.ts',
      'make test',
      'make neither',
    ]);
    assert.deepEqual(parseSynopsis('kedge migrate NAME --to SOCKET [-o table|json]'), {
      command: ['kedge', 'migrate'],
      flags: ['--to', '-o'],
    });
    assert.deepEqual(await unknownInSynopses([document('\n    kedge ps [--nothing]\n    gateway fly\n')]), [
      'x.md: no flag --nothing in: kedge ps [--nothing]',
      'x.md: no command gateway fly',
    ]);
    const hidden = ['\n    curl http://nowhere/\n', `${FENCE}sh\nls\n${FENCE}`, `${FENCE}console\n$ ls\n${FENCE}`];
    assert.deepEqual(
      hidden.map((text) => unrunnable(document(text)).length),
      [1, 1, 1],
    );
  });
});
