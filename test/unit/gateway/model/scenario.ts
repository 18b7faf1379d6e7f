/** What a seed of the simulation stands for. */
import type { LinkFaults } from './net.ts';
import { Random } from './random.ts';

export type Scenario = {
  readonly seed: number;
  readonly serves: boolean;
  /** Bytes guest → peer, and peer → guest. */
  readonly out: number;
  readonly into: number;
  readonly outside: LinkFaults;
  readonly leg: LinkFaults;
  /** Mean time between moves, ms. */
  readonly pause: number;
  readonly moves: number;
  readonly custodyBytes: number;
};

/** A scenario that a seed stands for. */
export function scenarioOf(seed: number): Scenario {
  const random = new Random(seed);
  const faults = (most: number): LinkFaults =>
    random.chance(0.3)
      ? { loss: 0, repeat: 0, delay: random.next() * 3, jitter: 0 }
      : {
          loss: random.next() * most,
          repeat: random.next() * 0.02,
          delay: random.next() * 10,
          jitter: random.next() * 8,
        };
  return {
    seed,
    serves: random.chance(0.5),
    out: random.pick([0, 1, 3000, 80_000, 250_000]),
    into: random.pick([0, 1, 3000, 80_000, 250_000]),
    outside: faults(0.04),
    leg: faults(0.03),
    pause: random.pick([3, 20, 80, 300]),
    moves: random.between(1, 7),
    custodyBytes: random.pick([64 * 1024, 16 * 1024 * 1024]),
  };
}
