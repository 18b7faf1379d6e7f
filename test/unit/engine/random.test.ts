/**
 * Random modules stopped at random points, continued on either engine: same results, same traps, same final state as the module that
 * never stopped.
 *
 * `KEDGE_RANDOM_MODULES=10000` for a long run, `KEDGE_RANDOM_SEED=17` for one seed again; it is named when a test fails. The module
 * of a seed that fails is shrunk and put into `fixtures/`, whose modules are tried each time.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';
import { before, test } from 'node:test';
import { PROJECT } from '../../support/topology.ts';
import { temporaryDirectory } from '../wasi/support.ts';
import { difference, type Tally } from './random/compare.ts';

const TOOL = join(PROJECT, 'build', 'test-modules');
const FIXTURES = join(import.meta.dirname, 'random', 'fixtures');
const USUAL = 1000;
/** Modules that are written at a time. */
const PIECE = 300;

before(() => {
  // Nothing to do when set-up has been here.
  execFileSync('make', ['-s', '-C', PROJECT, 'test-modules'], { stdio: ['ignore', 'ignore', 'inherit'] });
});

function seeds(): { readonly first: number; readonly count: number } {
  const seed = process.env['KEDGE_RANDOM_SEED'];
  if (seed !== undefined) return { first: Number(seed), count: 1 };
  return { first: 0, count: Number(process.env['KEDGE_RANDOM_MODULES'] ?? USUAL) };
}

function newTally(): Tally {
  return { modules: 0, calls: 0, stops: 0, changes: 0 };
}

function tried(directory: string, seed: number, tally: Tally): string | undefined {
  try {
    return difference(directory, seed, tally);
  } catch (error) {
    return error instanceof Error ? (error.stack ?? error.message) : String(error);
  }
}

/** Halves what is taken away from the input while the module still fails; keeps the smallest. */
function shrink(directory: string, seed: number): void {
  mkdirSync(FIXTURES, { recursive: true });
  const keep = (from: string): void => {
    for (const kind of ['wasm', 'json']) copyFileSync(join(from, `${seed}.${kind}`), join(FIXTURES, `${seed}.${kind}`));
  };
  keep(directory);
  using smaller = temporaryDirectory();
  let length = 6500;
  for (let step = 4096; step >= 1; step /= 2) {
    if (step >= length) continue;
    execFileSync(TOOL, ['shrink', smaller.path, String(seed), String(length - step)]);
    if (!existsSync(join(smaller.path, `${seed}.wasm`))) continue;
    if (tried(smaller.path, seed, newTally()) === undefined) continue;
    length -= step;
    keep(smaller.path);
  }
}

test('modules that once failed', () => {
  const known = existsSync(FIXTURES) ? readdirSync(FIXTURES).filter((file) => file.endsWith('.wasm')) : [];
  for (const file of known) {
    const seed = Number(file.slice(0, -'.wasm'.length));
    assert.equal(tried(FIXTURES, seed, newTally()), undefined, file);
  }
});

test(
  'random modules end the same wherever they are stopped, and whichever engine goes on',
  { timeout: 3_600_000 },
  (t) => {
    const { first, count } = seeds();
    const tally = newTally();
    // Not every seed makes one.
    for (let from = first; from < first + count || (count > 1 && tally.modules < count); from += PIECE) {
      using directory = temporaryDirectory();
      execFileSync(TOOL, ['random', directory.path, String(from), String(Math.min(PIECE, count))]);
      const made = readdirSync(directory.path).filter((file) => file.endsWith('.wasm'));
      for (const file of made) {
        const seed = Number(file.slice(0, -'.wasm'.length));
        const wrong = tried(directory.path, seed, tally);
        if (wrong === undefined) continue;
        shrink(directory.path, seed);
        assert.fail(`KEDGE_RANDOM_SEED=${seed} (kept in ${FIXTURES}): ${wrong}`);
      }
    }
    t.diagnostic(JSON.stringify(tally));
    // A seed alone may make a module that is never stopped.
    if (count >= USUAL) assert.ok(tally.modules >= count && tally.changes > count, JSON.stringify(tally));
  },
);
