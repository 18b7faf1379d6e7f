/** How much garbage a step makes, which is to make none. */

const CALLS = 10_000;
/** How long the compiler may take, milliseconds: its threads wait for a core like all others. Without it even a local number may be an object. */
const PATIENCE = 20_000;

/** Bytes a call, the least of many batches. */
export function garbage(step: (i: number) => void): number {
  let least = Number.POSITIVE_INFINITY;
  const end = performance.now() + PATIENCE;
  while (least > 1 && performance.now() < end) {
    const before = process.memoryUsage().heapUsed;
    for (let i = 0; i < CALLS; i++) step(i);
    // Less than before means that the collector ran in between.
    const grown = process.memoryUsage().heapUsed - before;
    if (grown >= 0) least = Math.min(least, grown / CALLS);
  }
  return least;
}
