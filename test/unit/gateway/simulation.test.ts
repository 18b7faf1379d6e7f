/**
 * Whole conversations in simulated time: a peer and a guest talk over lossy, reordering wires, while the guest moves, is taken back,
 * returns to the same leg. Both streams arrive whole, no RST reaches the peer, the edge and the clock it is shown never go back
 * (S1, S3, S6, S16, S18, S20, S21, S34, S36, S39, S40, S44, S45, S47, S48).
 *
 * A failure names its seed: `KEDGE_SEED=n bin/node --test test/unit/gateway/simulation.test.ts` runs that one alone.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { converse } from './model/converse.ts';
import type { World } from './model/world.ts';

const only = process.env['KEDGE_SEED'];
const seeds = only === undefined ? Array.from({ length: 150 }, (_, i) => i + 1) : [Number(only)];

test('S39 S20 S21 S6: conversations over moves, with loss, reordering and repeats, arrive whole', () => {
  const worlds = seeds.map(converse);
  const total = (of: (world: World) => number): number => worlds.reduce((sum, world) => sum + of(world), 0);
  if (only !== undefined) return;
  assert.ok(total(({ moves }) => moves) > seeds.length);
  assert.ok(total(({ aborts }) => aborts) > seeds.length / 10);
});
