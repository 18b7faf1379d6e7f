import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatFailure } from '../../../src/cli/run-app.ts';
import { printable, renderTable } from '../../../src/cli/table.ts';
import { KedgeError } from '../../../src/errors.ts';
import { formatAge, formatPairs, formatPublish, toJson } from '../../../src/cli/format.ts';

test('pairs stand under one another', () => {
  const pairs = [
    ['a', 1],
    ['long', 'x'],
  ] as const;
  assert.equal(formatPairs(pairs), 'a     1\nlong  x\n');
});

test('ages have two units at most', () => {
  const shown = [0, 999, 59_999, 60_000, 3_599_999, 3_600_000, 86_399_999, 86_400_000, 90_000_000_000].map(formatAge);
  assert.deepEqual(shown, ['0.0s', '0.9s', '59.9s', '1m00s', '59m59s', '1h00m', '23h59m', '1d00h', '1041d16h']);
});

test('published ports, outside first', () => {
  assert.equal(formatPublish([]), '-');
  const ports = [
    { proto: 'tcp', outsidePort: 8080, guestPort: 80 },
    { proto: 'udp', outsidePort: 53, guestPort: 53 },
  ] as const;
  assert.equal(formatPublish(ports), '8080->80/tcp,53->53/udp');
});

test('JSON is indented and ends its line', () => {
  assert.equal(toJson({ a: [1] }), '{\n  "a": [\n    1\n  ]\n}\n');
});

test('what a terminal would obey is written as text, wherever a name comes from', () => {
  const evil = 'a\x1b]0;title\x07\x9b31m\r\n\u202eb\u2028\u{e9}';
  const shown = 'a\\x1b]0;title\\x07\\x9b31m\\x0d\\x0a\\u{202e}b\\u{2028}\u{e9}';
  assert.equal(printable(evil), shown);
  assert.equal(renderTable([{ title: 'T', align: 'left' }], [[evil]]), `T\n${shown}\n`);
  assert.equal(formatPairs([['module', evil]]), `module  ${shown}\n`);
  assert.ok(!formatFailure(new KedgeError('KEDGE_INTERNAL', evil)).includes('\x1b'));
  const error = new KedgeError('KEDGE_PREOPEN_INVALID', evil, evil);
  assert.equal(formatFailure(error), `KEDGE_PREOPEN_INVALID: ${shown}\n  hint: ${shown}`);
});
