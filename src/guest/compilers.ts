/**
 * The threads in which V8 optimises, for all guests of the process. Where cores are few they take one from a guest that is to stop, or
 * from the thread that waits for it, for some milliseconds at a time. Such work can wait; it still gets what is left over.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { setPriority } from 'node:os';

/** As Linux counts: a thirtieth of what a thread of priority 0 gets beside it, where there is no core to spare. */
const NICENESS = 15;
const TASKS = '/proc/self/task';

/** Lets them give way to all other threads. What cannot be done (no /proc) only makes stops take longer. */
export function compileBehindGuests(): void {
  try {
    for (const thread of readdirSync(TASKS)) {
      if (!readFileSync(`${TASKS}/${thread}/comm`, 'utf8').startsWith('V8Worker')) continue;
      setPriority(Number(thread), NICENESS);
    }
  } catch {
    // As said.
  }
}
