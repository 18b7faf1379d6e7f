/**
 * Every program of `bench/programs`, stopped 200 times and more on one short run and moved to the other engine each time, says and
 * leaves in its memory what it does when it never stops. Where it stops is counted in polls: always the same places.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { before, test } from 'node:test';
import { withPoints } from '../../../bench/guest/programs.ts';
import { instrument } from '../../../src/engine/points/instrument.ts';
import { PROJECT } from '../../support/topology.ts';
import { type Route, subject } from './compliance/subjects.ts';
import { travel } from './travel.ts';

/** The size of each program is its argument: small, as every poll asks its host here, but it polls a few hundred times at least. */
const PROGRAMS: Readonly<Record<string, number>> = {
  'binary-trees': 6,
  fannkuch: 6,
  fib: 20,
  lua: 1,
  mandelbrot: 40,
  matmul: 40,
  mix: 10,
  nbody: 1000,
  queens: 7,
  sha256: 1,
  sieve: 8000,
  sort: 3000,
  'spectral-norm': 40,
  sqlite: 50,
};

const STOPS = 200;
const SOURCES = join(PROJECT, 'bench', 'programs');
const ALONE: Route = [subject('v8', 'none')];
const UNMOVED: Route = [subject('v8', 'loop')];
const TO_AND_FRO: Route = [subject('v8', 'loop'), subject('wamr', 'loop')];

before(() => {
  // Nothing to do when set-up has been here.
  execFileSync('make', ['-s', '-C', SOURCES], { stdio: ['ignore', 'ignore', 'pipe'] });
});

/** They never end: benchmarks stop them where they stand. */
const ENDLESS = ['blocked', 'heap'];

test('no program is left out', () => {
  const sources = readdirSync(SOURCES).filter((file) => file.endsWith('.c'));
  const names = [...Object.keys(PROGRAMS), ...ENDLESS];
  assert.deepEqual(sources.map((file) => file.slice(0, -2)).toSorted(), names.toSorted());
});

for (const [name, size] of Object.entries(PROGRAMS)) {
  test(`${name}, stopped and moved ${STOPS} times between the engines`, { timeout: 120_000 }, () => {
    const module = new Uint8Array(readFileSync(join(PROJECT, 'build', 'programs', `${name}.wasm`)));
    const args = [name, String(size)];
    const { outcome, output, memory } = travel(ALONE, module, args, () => false);
    assert.deepEqual(outcome, { kind: 'exited', code: 0 });
    assert.match(output, /^checksum [0-9a-f]{16}\n$/u);
    const { asks } = travel(UNMOVED, module, args, () => false);
    assert.ok(asks >= STOPS, `it polls only ${asks} times`);
    // Resumed code may poll more often, and so stops more often.
    const stride = Math.floor(asks / STOPS);
    const moved = travel(TO_AND_FRO, module, args, (ask) => ask % stride === 0);
    assert.deepEqual(
      { outcome: moved.outcome, output: moved.output, memory: moved.memory },
      { outcome, output, memory },
    );
    assert.ok(moved.moves >= STOPS, `${moved.moves} moves`);
  });
}

test('what benchmarks measure is the form that a guest runs', () => {
  const module = new Uint8Array(readFileSync(join(PROJECT, 'build', 'programs', 'nbody.wasm')));
  for (const flag of ['memory', 'global'] as const) {
    assert.deepEqual(withPoints(module, 'loop', flag), new Uint8Array(instrument(module, 'loop', flag).bytes));
  }
});
