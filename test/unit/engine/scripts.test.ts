/**
 * The scripts of the WebAssembly core test suite, instrumented, on each engine: every assertion holds as the script says; and again
 * when in each call the state moves to a fresh instance, on the same engine or the other.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';
import { before, test } from 'node:test';
import { PROJECT } from '../../support/topology.ts';
import { newReport, type Report, ScriptRun, type Way } from './suite/run.ts';
import { readScripts } from './suite/script.ts';

const SCRIPTS = join(PROJECT, 'build', 'core-suite');

const WAYS: readonly Way[] = [
  { name: 'V8', engines: ['v8'], policy: 'loop', moving: false },
  { name: 'WAMR', engines: ['wamr'], policy: 'loop', moving: false },
  { name: 'V8 alone, moving', engines: ['v8'], policy: 'instruction', moving: true, except: 'wamr' },
  { name: 'V8 and WAMR, moving', engines: ['v8', 'wamr'], policy: 'instruction', moving: true },
];

/** WAMR leaves a signalling NaN as it is when it rounds; docs/engines.md says so. */
const ROUNDED = /^[^,]*WAMR[^:]*, f(32|64):2\d{3}: result 0 is \w \d+, not \[\["\w","arithmetic"\]\]$/u;

const DOCUMENT = join(PROJECT, 'docs', 'engines.md');
/** What the document says between its two marks is written here: with KEDGE_RECORD=1 into it. */
const MARKS = /(?<=<!-- left out -->\n\n)[^]*(?=\n<!-- \/left out -->)/u;

const reports = new Map<string, Report>();

before(() => {
  // Nothing to do when set-up has been here.
  execFileSync('make', ['-s', '-C', PROJECT, 'core-suite'], { stdio: ['ignore', 'ignore', 'inherit'] });
});

for (const way of WAYS) {
  test(`${way.name}: the assertions of all scripts`, { timeout: 600_000 }, (t) => {
    const report = newReport();
    reports.set(way.name, report);
    for (const script of readScripts(SCRIPTS)) new ScriptRun(SCRIPTS, script, way, report).run();
    const { modules, assertions, stops, failures } = report;
    t.diagnostic(`${modules} modules, ${assertions} assertions, ${stops} stops`);
    assert.deepEqual(
      failures.filter((failure) => !ROUNDED.test(failure)),
      [],
    );
    assert.ok(assertions > 10_000);
    if (way.moving) assert.ok(stops > assertions / 2);
  });
}

/** By feature the scripts that an engine cannot run, or not whole. */
function leftOut(report: Report | undefined, besides: Report | undefined): string {
  return [...(report?.refused ?? [])]
    .filter(([feature]) => besides?.refused.has(feature) !== true)
    .map(([feature, scripts]) => {
      const assertions = [...scripts.values()].reduce((sum, count) => sum + count, 0);
      return `- ${feature} (${assertions} assertions): ${[...scripts.keys()].join(', ')}\n`;
    })
    .toSorted()
    .join('');
}

test('the document names the scripts that an engine cannot run', () => {
  const [v8, wamr] = [reports.get('V8'), reports.get('WAMR')];
  const says = `On both engines:\n\n${leftOut(v8, undefined)}\nOn WAMR also:\n\n${leftOut(wamr, v8)}`;
  const document = readFileSync(DOCUMENT, 'utf8');
  if (process.env['KEDGE_RECORD'] !== undefined)
    writeFileSync(
      DOCUMENT,
      document.replace(MARKS, () => says),
    );
  else assert.equal(MARKS.exec(document)?.[0], says);
});
