import type { HostCallContext, HostFunction } from '../engine/engine.ts';
import { defineFunction } from './define.ts';
import { ERRNO, WasiError } from './errno.ts';

export const CLOCK = { realtime: 0, monotonic: 1, processTime: 2, threadTime: 3 } as const;

/** Where time comes from; nanoseconds. Tests give their own. */
export interface TimeSource {
  /** Since 1970. */
  realtime(): bigint;
  /** From any point on; never goes back. */
  monotonic(): bigint;
}

const MILLISECOND = 1_000_000n;

/** What to add to the monotonic clock for the time of day. */
let sinceEpoch = 0n;

/**
 * The clocks of this machine. Node tells the time of day in whole milliseconds; what is between comes from the monotonic
 * clock, set anew whenever the two disagree (at first, and when somebody sets the clock).
 */
export const SYSTEM_TIME: TimeSource = {
  realtime() {
    const told = BigInt(Date.now()) * MILLISECOND;
    const monotonic = process.hrtime.bigint();
    const fine = monotonic + sinceEpoch;
    if (fine >= told && fine < told + 2n * MILLISECOND) {
      return fine;
    }
    sinceEpoch = told - monotonic;
    return told;
  },
  monotonic: () => process.hrtime.bigint(),
};

/**
 * The guest's clocks. Its monotonic clock starts at 0, runs while the guest runs, and goes on from the saved reading
 * after a restore: it never goes back, and the time in an image does not count. (After an aborted stop on the same host
 * the stopped time counts, as it does for a process that was not scheduled.)
 */
export class Clocks {
  readonly #source: TimeSource;
  #origin: bigint;

  /** `elapsed`: the reading to go on from, in nanoseconds. */
  constructor(source: TimeSource = SYSTEM_TIME, elapsed = 0n) {
    this.#source = source;
    this.#origin = source.monotonic() - elapsed;
  }

  monotonic(): bigint {
    return this.#source.monotonic() - this.#origin;
  }

  /** Goes on from a saved reading; called at the end of a restore. */
  continueFrom(elapsed: bigint): void {
    this.#origin = this.#source.monotonic() - elapsed;
  }

  /** Reads a clock by its WASI number. EINVAL for one that does not exist. CPU time is the time the guest has run. */
  now(clock: number): bigint {
    switch (clock) {
      case CLOCK.realtime:
        return this.#source.realtime();
      case CLOCK.monotonic:
      case CLOCK.processTime:
      case CLOCK.threadTime:
        return this.monotonic();
      default:
        throw new WasiError(ERRNO.EINVAL);
    }
  }
}

export function clockFunctions(context: HostCallContext, clocks: Clocks): Readonly<Record<string, HostFunction>> {
  return {
    clock_res_get: defineFunction<[number, number]>(context, '(i*)i', (memory, clock, result) => {
      clocks.now(clock);
      memory.setU64(result, clock === CLOCK.realtime ? 1000n : 1n);
      return undefined;
    }),
    clock_time_get: defineFunction<[number, bigint, number]>(context, '(iI*)i', (memory, clock, _precision, result) => {
      memory.setU64(result, clocks.now(clock));
      return undefined;
    }),
  };
}
