/** The thread of one comparison; see `job.ts`. */
import { parentPort, workerData } from 'node:worker_threads';
import { ENGINES } from '../engine/engines.ts';
import { KedgeError } from '../errors.ts';
import { descriptorOutput } from '../wasi/stdio.ts';
import type { Job, JobMessage } from './job.ts';
import { verify } from './verify.ts';

/** Progress is told at most once in so many milliseconds. */
const TELL = 500;
const STDIN = 0;
const STDERR = 2;

if (parentPort === null) throw new Error('a comparison runs as a worker');
const port = parentPort;
const say = (message: JobMessage): void => port.postMessage(message);

const { engines, quiet, ...job } = workerData as Job;
const output = quiet ? () => undefined : descriptorOutput(STDERR);
let told = performance.now();

try {
  const verdict = verify({
    ...job,
    engines: [ENGINES[engines[0]], ENGINES[engines[1]]],
    stdio: { input: { kind: 'descriptor', fd: STDIN }, output, errors: output },
    progress: (done) => {
      if (performance.now() - told < TELL) return;
      told = performance.now();
      say({ kind: 'progress', done });
    },
  });
  say({ kind: 'verdict', verdict });
} catch (error) {
  if (!(error instanceof KedgeError)) throw error;
  const { code, message, hint } = error;
  say({ kind: 'failed', code, message, hint });
}
