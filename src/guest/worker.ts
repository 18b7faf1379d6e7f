/**
 * The worker thread of a guest. It is started before it is known for whom: loading and rehearsing take a hundred times as long as
 * taking a guest in. The first message says which guest it is, the others are that guest's.
 */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { parentPort } from 'node:worker_threads';
import { KedgeError } from '../errors.ts';
import { native } from '../native.ts';
import type { WorkerBegin, WorkerMessage, WorkerRequest, WorkerStart } from './protocol.ts';
import { ENGINES, isEngineName } from '../engine/engines.ts';
import { rehearseSockets } from './rehearsal.ts';
import { rehearseLife } from './rehearsal-life.ts';
import { GuestThread, plain } from './thread.ts';

if (parentPort === null) throw new Error('a guest runs as a worker');
const port = parentPort;

function say(message: WorkerMessage, transfer: ArrayBuffer[] = []): void {
  port.postMessage(message, transfer);
}

let guest: GuestThread | undefined;

/** A module that the engine cannot run is told, and nothing else happens here. */
function begin(given: WorkerStart): void {
  try {
    guest = new GuestThread(given, say);
  } catch (error) {
    if (!(error instanceof KedgeError)) throw error;
    return say({ kind: 'refused', error: plain(error) });
  }
  try {
    guest.rehearse();
  } catch (error) {
    // What is wrong with the module or its directories is the answer to `start` or `restore`.
    if (!(error instanceof KedgeError)) throw error;
  }
  say({ kind: 'ready' });
}

/** What loading has left is collected now, while nobody waits, and not in the middle of the first move. */
function tidy(): void {
  setFlagsFromString('--expose-gc');
  const gc = runInNewContext('gc') as () => void;
  gc();
}

/** A rehearsal that ends early leaves moves slower, and nothing else. */
function rehearseLives(): void {
  for (const engine of Object.keys(ENGINES).filter(isEngineName)) {
    try {
      rehearseLife(engine);
    } catch (error) {
      if (!(error instanceof KedgeError)) throw error;
    }
  }
}

// What was rehearsed stays compiled, however long its guest computes. To compile it takes stack, too, which a deep guest may not have left.
setFlagsFromString('--no-flush-bytecode');
// A guest that is woken up to stop is not to wait for others. A kernel that has no such thing makes stops take longer, and nothing else.
native.shortenSlices();
rehearseSockets();
rehearseLives();
tidy();
port.on('message', (message: WorkerBegin | WorkerRequest) => {
  if (message.do === 'begin') begin(message.args);
  else guest?.handle(message);
});
