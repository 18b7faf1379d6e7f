/**
 * Preloaded into every test process (`--import`), so that a file which does not end by itself, or ends before its tests do, is
 * a failure instead of a hang or a silent pass. node:test alone waits for ever for a leaked handle, even after its time limit,
 * and takes `process.exit(0)` within a test for success.
 */
import { after } from 'node:test';
import { isMainThread } from 'node:worker_threads';

/** Milliseconds a process may live on after its last test. */
const GRACE = 10_000;
/** Milliseconds for all tests of one file. */
const LIMIT = 25 * 60_000;

function limit(milliseconds: number, what: string): void {
  setTimeout(() => {
    const open = [...new Set(process.getActiveResourcesInfo())].join(', ');
    console.error(`${process.argv[1]}: ${what}; open: ${open}`);
    process.exit(1);
  }, milliseconds).unref();
}

// Workers inherit the preload, and are no test processes.
if (isMainThread && process.env['NODE_TEST_CONTEXT'] !== undefined) {
  let finished = false;
  after(() => {
    finished = true;
    limit(GRACE, 'still running after its last test');
  });
  limit(LIMIT, `still running after ${LIMIT / 60_000} minutes`);
  process.on('exit', () => {
    if (finished) return;
    console.error(`${process.argv[1]}: ended before its tests did`);
    process.exitCode = 1;
  });
}
