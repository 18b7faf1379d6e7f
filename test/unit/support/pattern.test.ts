import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { patternBytes, patternHash, patternMismatch } from '../../support/pattern.ts';
import { pattern, patternHash as streamHash } from '../../support/stream.ts';
import { ReceiveAccount, SendAccount } from '../../support/drive/account.ts';
import { createHash } from 'node:crypto';

const seeds = fc.integer({ min: 0, max: 2 ** 31 });
const offsets = fc.oneof(fc.integer({ min: 0, max: 300_000 }), fc.integer({ min: 2 ** 32, max: 2 ** 40 }));
const lengths = fc.integer({ min: 0, max: 150_000 });

test('a stream is the same however it is cut', () => {
  fc.assert(
    fc.property(seeds, offsets, lengths, fc.nat(), (seed, offset, length, cut) => {
      const at = cut % (length + 1);
      const whole = patternBytes(seed, offset, length);
      const parts = [patternBytes(seed, offset, at), patternBytes(seed, offset + at, length - at)];
      assert.equal(Buffer.compare(whole, Buffer.concat(parts)), 0);
      assert.equal(patternMismatch(seed, offset, whole), -1);
    }),
    { numRuns: 50 },
  );
});

test('it is the stream of the example guests', () => {
  fc.assert(
    fc.property(seeds, offsets, fc.nat(1000), (seed, offset, length) => {
      assert.equal(Buffer.compare(patternBytes(seed, offset, length), pattern(seed, offset, length)), 0);
    }),
    { numRuns: 50 },
  );
  assert.equal(patternHash(3, 100_001), streamHash(3, 100_001));
});

test('a wrong byte, a lost byte and a repeated byte are found', () => {
  fc.assert(
    fc.property(seeds, offsets, fc.integer({ min: 1000, max: 150_000 }), fc.nat(), (seed, offset, length, at) => {
      const wrong = at % length;
      const bytes = patternBytes(seed, offset, length);
      bytes[wrong] = (bytes[wrong] ?? 0) ^ 0x40;
      assert.equal(patternMismatch(seed, offset, bytes), wrong);
      const found = patternMismatch(seed, offset, patternBytes(seed, offset + 1, length));
      assert.ok(found >= 0 && found < 100, `a shift is seen at ${found}`);
    }),
    { numRuns: 50 },
  );
});

test('different seeds and blocks differ, and the hash is that of the bytes', () => {
  assert.notDeepEqual(patternBytes(1, 0, 64), patternBytes(2, 0, 64));
  assert.notDeepEqual(patternBytes(1, 0, 64), patternBytes(1, 65536, 64));
  const hash = createHash('sha256')
    .update(patternBytes(7, 0, 200_000))
    .digest('hex');
  assert.equal(patternHash(7, 200_000), hash);
});

test('the books of a connection', () => {
  const sent = new SendAccount();
  const received = new ReceiveAccount();
  received.expect(5);
  sent.ask(5, 100_000);
  sent.askFinish();
  while (sent.waiting > 0) {
    assert.equal(sent.finishDue, false);
    const bytes = sent.next(30_000).subarray(0, 20_001);
    sent.sent(bytes);
    received.take(bytes);
  }
  assert.equal(sent.finishDue, true);
  assert.equal(received.report().sha256, patternHash(5, 100_000));
  assert.equal(sent.report().sha256, patternHash(5, 100_000));
  assert.throws(() => {
    sent.ask(5, 1);
  }, /after the end/);
  received.take(new Uint8Array([1, 2, 3, 4]));
  const { wrongAt } = received.report();
  assert.ok(wrongAt >= 100_000 && wrongAt < 100_004);
  assert.throws(() => {
    received.expect(6);
  }, /have come before/);
});

test('books that move go on where they were', () => {
  let sent = new SendAccount();
  let received = new ReceiveAccount();
  received.expect(9);
  sent.ask(9, 50_000);
  for (let move = 0; sent.waiting > 0; move++) {
    const bytes = sent.next(7_001);
    sent.sent(bytes);
    received.take(bytes);
    sent = SendAccount.resume(structuredClone(sent.state()));
    received = ReceiveAccount.resume(structuredClone(received.state()));
    if (move % 2 === 0) assert.equal(received.report().sha256, sent.report().sha256);
  }
  assert.equal(received.report().sha256, patternHash(9, 50_000));
  received.take(new Uint8Array([1]));
  assert.equal(ReceiveAccount.resume(received.state()).report().sha256, 'unknown');
  const limited = new ReceiveAccount();
  limited.expect(9, 10);
  for (const piece of [
    patternBytes(9, 0, 7),
    Buffer.concat([patternBytes(9, 7, 3), Buffer.from('O')]),
    Buffer.from('K\n'),
  ]) {
    limited.take(piece);
  }
  const { bytes, rest, sha256 } = ReceiveAccount.resume(limited.state()).report();
  assert.deepEqual({ bytes, rest, sha256 }, { bytes: 10, rest: 'OK\n', sha256: patternHash(9, 10) });
  const unexpected = new ReceiveAccount();
  unexpected.take(new Uint8Array([1]));
  assert.equal(ReceiveAccount.resume(unexpected.state()).report().sha256, 'unknown');
});
