/** The demo's blackout is what the guest does not say: a peer that talks on, and a gateway that answers for the guest, hide nothing. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { blackouts } from '../../../demo/blackout.ts';

const GUEST = '10.77.1.10';
const PEER = '10.77.1.2';

/** A chat with a line and an answer every 20 ms for three seconds; between `from` and `to` there are acknowledgements alone. */
function chat(silences: readonly { readonly from: number; readonly to: number }[]) {
  return Array.from({ length: 150 }, (_, n) => n * 20).flatMap((time) => [
    { time, src: PEER, len: 20 },
    { time: time + 1, src: GUEST, len: silences.some(({ from, to }) => time >= from && time < to) ? 0 : 60 },
  ]);
}

describe('blackouts', () => {
  test('is the time without a byte from the guest, less the usual one', () => {
    const moves = [
      { at: 1500, done: 1700 },
      { at: 2400, done: 2500 },
    ];
    const silences = [
      { from: 1560, to: 1660 },
      { from: 2420, to: 2480 },
    ];
    assert.deepEqual(blackouts(chat(silences), GUEST, moves), [100, 60]);
  });

  test('is none where the guest talks on', () => {
    assert.deepEqual(blackouts(chat([]), GUEST, [{ at: 1500, done: 1700 }]), [0]);
  });
});
