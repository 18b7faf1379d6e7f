/**
 * Reporter of the test runs: failures with their cause as they come, a line for each file at the end, and the counts in the
 * file that KEDGE_TEST_COUNTS names ("PASSED FAILED"), where `scripts/test.sh` adds them up. There are no skipped or postponed
 * tests here, nor files without tests: they count as failed. KEDGE_TEST_VERBOSE=1 also prints what passes.
 */
import { writeFileSync } from 'node:fs';
import { relative, resolve } from 'node:path';
import type { TestEvent } from 'node:test/reporters';
import { inspect } from 'node:util';

type Result = Extract<TestEvent, { type: 'test:pass' | 'test:fail' }>;

class Tally {
  passed = 0;
  failed = 0;
  milliseconds = 0;
}

/** The error that the test threw, out of what node:test wraps around it. */
function describe(error: unknown): string {
  if (!(error instanceof Error)) return inspect(error);
  if ('failureType' in error) return error.cause instanceof Error ? describe(error.cause) : error.message;
  return inspect(error);
}

/** Why a result is a failure; undefined when it is none; '' when it is one that its children have already told. */
function failureOf({ type, data }: Result): string | undefined {
  if (data.skip !== undefined && data.skip !== false) return 'is skipped';
  if (data.todo !== undefined && data.todo !== false) return 'is postponed';
  if (type === 'test:fail') {
    const { error } = data.details;
    return 'failureType' in error && error.failureType === 'subtestsFailed' ? '' : describe(error);
  }
  // A file stands for itself when it reported no test of its own.
  const isFile = data.nesting === 0 && data.file !== undefined && resolve(data.name) === data.file;
  return isFile ? 'has no tests' : undefined;
}

export default async function* reporter(source: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  const verbose = process.env['KEDGE_TEST_VERBOSE'] !== undefined;
  const total = new Tally();
  const files = new Map<string, Tally>();
  for await (const event of source) {
    if (event.type === 'test:stderr' || event.type === 'test:stdout') yield event.data.message;
    if (event.type !== 'test:pass' && event.type !== 'test:fail') continue;
    const { name, nesting, details } = event.data;
    const file = event.data.file === undefined ? '(no file)' : relative(process.cwd(), event.data.file);
    const tally = files.get(file) ?? new Tally();
    files.set(file, tally);
    if (nesting === 0) tally.milliseconds += details.duration_ms;
    const failure = failureOf(event);
    if (failure === '' || (failure === undefined && details.type === 'suite')) continue;
    const key = failure === undefined ? 'passed' : 'failed';
    tally[key]++;
    total[key]++;
    if (failure !== undefined) yield `not ok ${file}: ${name}\n${failure.replaceAll(/^/gm, '    ')}\n`;
    else if (verbose) yield `ok     ${file}: ${name} (${Math.round(details.duration_ms)} ms)\n`;
  }
  for (const [file, { passed, failed, milliseconds }] of files) {
    const verdict = failed === 0 ? 'ok    ' : 'not ok';
    yield `${verdict} ${file}: ${passed} passed, ${failed} failed, ${Math.round(milliseconds)} ms\n`;
  }
  const counts = process.env['KEDGE_TEST_COUNTS'];
  if (counts === undefined) yield `${total.passed} passed, ${total.failed} failed\n`;
  else writeFileSync(counts, `${total.passed} ${total.failed}\n`);
}
