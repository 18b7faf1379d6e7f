/**
 * Reporter of the test runs: a line for each file, failures with their cause as they come, and the counts in the file that
 * KEDGE_TEST_COUNTS names ("PASSED FAILED"), where `scripts/test.sh` adds them up. A skipped or postponed test counts as failed:
 * there are none here.
 */
import { writeFileSync } from 'node:fs';
import { relative } from 'node:path';
import { inspect } from 'node:util';
import type { TestEvent } from 'node:test/reporters';

type Failure = { readonly name: string; readonly cause: unknown };

function describe(cause: unknown): string {
  if (cause instanceof Error && cause.cause instanceof Error && 'code' in cause) return describe(cause.cause);
  return cause instanceof Error ? (cause.stack ?? cause.message) : inspect(cause);
}

export default async function* reporter(source: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  let passed = 0;
  let failed = 0;
  const path: string[] = [];
  const byFile = new Map<string, { passed: number; failures: Failure[]; ms: number }>();
  const of = (file: string | undefined) => {
    const key = file === undefined ? '(no file)' : relative(process.cwd(), file);
    const entry = byFile.get(key) ?? { passed: 0, failures: [], ms: 0 };
    byFile.set(key, entry);
    return { key, entry };
  };
  for await (const event of source) {
    if (event.type === 'test:start') {
      path.length = event.data.nesting;
      path.push(event.data.name);
    } else if (event.type === 'test:pass' || event.type === 'test:fail') {
      const { name, file, nesting, details, skip, todo } = event.data;
      if (details.type === 'suite' && event.type === 'test:pass') continue;
      const { key, entry } = of(file);
      if (nesting === 0) entry.ms += details.duration_ms;
      const postponed = skip !== undefined || todo !== undefined;
      if (event.type === 'test:pass' && !postponed) {
        passed++;
        entry.passed++;
        if (process.env['KEDGE_TEST_VERBOSE'] !== undefined) yield `  ok ${key}: ${name} (${Math.round(details.duration_ms)} ms)\n`;
        continue;
      }
      const cause = event.type === 'test:fail' ? event.data.details.error : new Error('skipped or postponed');
      // A parent that fails only because a child did says nothing new.
      if (cause instanceof Error && 'failureType' in cause && cause.failureType === 'subtestsFailed') continue;
      failed++;
      entry.failures.push({ name, cause });
      yield `not ok ${key}: ${name}\n${describe(cause).replaceAll(/^/gm, '    ')}\n`;
    } else if (event.type === 'test:stderr' || event.type === 'test:stdout') {
      yield event.data.message;
    }
  }
  for (const [file, { passed: ok, failures, ms }] of byFile)
    yield `${failures.length === 0 ? 'ok    ' : 'not ok'} ${file}: ${ok} passed, ${failures.length} failed, ${Math.round(ms)} ms\n`;
  const counts = process.env['KEDGE_TEST_COUNTS'];
  if (counts !== undefined) writeFileSync(counts, `${passed} ${failed}\n`);
  else yield `${passed} passed, ${failed} failed\n`;
}
