/**
 * Commands that documents name and nobody types for the test of the documents, because they run for minutes, are what runs that
 * test, or change the clone. For each: the program that it starts, and what runs that program or one that does the same.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { tryRun } from '../process.ts';
import { PROJECT } from '../topology.ts';

type RunBy = {
  /** Words of the command line that the command comes to. */
  readonly starts: string;
  /** A file that runs it. */
  readonly by: string;
  /** What stands in that file where it does. */
  readonly with: string;
};

const CI = '.ci/run';

export const RUN_BY: Readonly<Record<string, RunBy>> = {
  'make demo': { starts: 'demo/demo.ts', by: 'test/e2e/demo.test.ts', with: 'demo/demo.ts' },
  'make bench': { starts: 'bench/run.ts', by: 'test/e2e/bench.test.ts', with: 'bench/run.ts' },
  'make test': { starts: 'scripts/test.sh all', by: CI, with: 'make --no-print-directory test' },
  // Both are parts of what `all` does, with the same lines of the script.
  'make test-unit': { starts: 'scripts/test.sh unit', by: 'scripts/test.sh', with: '$kind != e2e' },
  'make test-e2e': { starts: 'scripts/test.sh e2e', by: 'scripts/test.sh', with: '$kind != unit' },
  'make lint': { starts: 'oxlint', by: CI, with: 'make --no-print-directory lint' },
  'make ready': { starts: CI, by: CI, with: 'make --no-print-directory lint' },
  // What it would change, `make lint` calls wrong.
  'make format': { starts: 'prettier.cjs --write', by: 'Makefile', with: 'prettier.cjs --check' },
  'make build': { starts: 'tsconfig.build.json', by: 'test/setup.test.ts', with: 'tsconfig.build.json' },
  // Part of `make test` and `make demo`.
  'make setup': { starts: 'scripts/setup.sh', by: 'Makefile', with: 'test: setup' },
  'bin/node bench/table.ts': { starts: 'bench/table.ts', by: 'test/e2e/docs.test.ts', with: 'SHOWN' },
  'bin/node test/support/docs/record.ts': {
    starts: 'test/support/docs/record.ts',
    by: 'test/e2e/docs.test.ts',
    with: 'recordedDocument(',
  },
};

/** Entries that do not hold: the command starts something else, or nothing runs it where that is said. */
export async function wrongRunners(): Promise<string[]> {
  const wrong: string[] = [];
  for (const [command, { starts, by, with: words }] of Object.entries(RUN_BY)) {
    const [program, target = ''] = command.split(' ');
    const says = program === 'make' ? (await tryRun(['make', '-n', target], { cwd: PROJECT })).stdout : command;
    if (!says.includes(starts)) wrong.push(`${command} does not start ${starts}`);
    if (!readFileSync(join(PROJECT, by), 'utf8').includes(words)) wrong.push(`${by} does not have ${words}`);
  }
  return wrong;
}
