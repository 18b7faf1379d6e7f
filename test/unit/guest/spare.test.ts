/** A worker in store is given once, and whoever finds none gets a new one. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync, readdirSync } from 'node:fs';
import { getPriority } from 'node:os';
import { test } from 'node:test';
import type { Worker } from 'node:worker_threads';
import { SpareWorker, startWorker } from '../../../src/guest/spare.ts';
import { waitFor } from '../../support/wait.ts';
import { wat } from '../engine/support.ts';
import { plainGuest } from './support.ts';

const MODULE = wat('(module (memory (export "memory") 1) (func (export "_start")))');

async function run(worker: Worker): Promise<string> {
  const guest = plainGuest(MODULE, 'v8', worker);
  await guest.start();
  const end = await guest.codeEnded;
  await guest.destroy();
  return end.kind;
}

test('the threads in which V8 optimises give way to guests', async () => {
  const worker = startWorker();
  const threads = readdirSync('/proc/self/task').filter((thread) =>
    readFileSync(`/proc/self/task/${thread}/comm`, 'utf8').startsWith('V8Worker'),
  );
  assert.ok(threads.length > 0);
  assert.deepEqual(new Set(threads.map((thread) => getPriority(Number(thread)))), new Set([15]));
  assert.equal(getPriority(), 0);
  await worker.terminate();
});

type Started = { readonly workers: Worker[]; readonly spare: SpareWorker };

/** One that refills at once, and the workers it has started. */
function store(): Started {
  const workers: Worker[] = [];
  const start = (): Worker => {
    const worker = startWorker();
    workers.push(worker);
    return worker;
  };
  return { workers, spare: new SpareWorker(start, 0) };
}

async function stocked({ workers, spare }: Started): Promise<Worker> {
  spare.refill();
  await waitFor(() => workers.length > 0, { what: 'a worker in store' });
  const [worker] = workers;
  assert.ok(worker !== undefined);
  return worker;
}

test('guests take the worker in store, and new ones when there is none', async () => {
  const started = store();
  const first = await stocked(started);
  assert.equal(started.spare.take(), first);
  const second = started.spare.take();
  assert.deepEqual(started.workers, [first, second]);
  assert.deepEqual(await Promise.all([run(first), run(second)]), ['exited', 'exited']);
  await started.spare.close();
});

test('a worker that dies in store is not given away', async () => {
  const started = store();
  const first = await stocked(started);
  await first.terminate();
  const second = started.spare.take();
  assert.notEqual(second, first);
  assert.equal(await run(second), 'exited');
  await started.spare.close();
});

test('closing ends the worker in store, and starts none', async () => {
  const started = store();
  const first = await stocked(started);
  const ended = once(first, 'exit');
  await started.spare.close();
  await ended;
  started.spare.refill();
  // A timer of the same length that was set later ends later.
  await new Promise((resolve) => setTimeout(resolve, 0));
  assert.equal(started.workers.length, 1);
});
