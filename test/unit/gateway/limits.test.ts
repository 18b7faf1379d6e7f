/** Limits that a C header repeats, as it cannot read them where they are. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { CUSTODY_CAPACITY, CUSTODY_LIMIT } from '../../../src/gateway/arena.ts';

const header = readFileSync(new URL('../../../native/bpf/outbound.h', import.meta.url), 'utf8');

/** The value of a macro: a sum of products of numbers and of macros that `known` has. */
function macro(name: string, known: Readonly<Record<string, number>> = {}): number {
  const text = new RegExp(`^#define ${name} (.+)$`, 'm').exec(header)?.[1];
  assert.ok(text !== undefined, `outbound.h defines ${name}`);
  const terms = text.replace(/^\((.*)\)$/, '$1').split('+');
  const value = (factor: string): number => known[factor] ?? Number(factor);
  return terms.reduce((sum, term) => sum + term.split('*').reduce((all, f) => all * value(f.trim()), 1), 0);
}

test('the fast path keeps the same promises about windows as custody does', () => {
  const limit = macro('CUSTODY_LIMIT');
  assert.equal(limit, CUSTODY_LIMIT);
  assert.equal(macro('CUSTODY_CAPACITY', { CUSTODY_LIMIT: limit }), CUSTODY_CAPACITY);
});
