/** A rehearsal that ends early only makes moves slower, so that nobody would see it: here it must reach its end. */
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { test } from 'node:test';
import { rehearseAll } from '../../../src/guest/rehearsal.ts';

function descriptors(): number {
  return readdirSync('/proc/self/fd').length;
}

test('a rehearsal reaches its end, and leaves no descriptor open', () => {
  rehearseAll();
  const before = descriptors();
  rehearseAll();
  assert.equal(descriptors(), before);
});
