/**
 * How fast a large guest becomes an image in memory: one GiB of pages that hold noise, of which no byte can be left out or
 * compressed. From the guest that stands still to all bytes of its image, with their digests, in memory of the image's own.
 * Beside it, in turns: a plain copy of the guest's memory to fresh memory, which is what the kernel takes longest for.
 *
 *     bin/node bench/snapshot.ts [--rounds N]
 *
 * Writes bench/results/snapshot-throughput.json.
 */
import { parseArgs } from 'node:util';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { native } from '../src/native.ts';
import { LocalGuest, LocalProgram } from './guest/local.ts';
import { source } from './guest/programs.ts';
import { median, QUICK, report, result } from './harness.ts';
import { rounded } from './slowdown.ts';

const MEBIBYTES = QUICK ? 16 : 1024;
const PAGE = 4096;

/** What the rounds before have left is given back. */
function collector(): () => void {
  setFlagsFromString('--expose-gc');
  return runInNewContext('gc') as () => void;
}

/** The same without what it costs to get memory: noise is copied to memory that is there already, and digested. */
function intoWarmMemory(memory: Uint8Array, initial: Uint8Array, into: Uint8Array): void {
  const runs = native.deltaRuns(memory, initial);
  let pages = 0;
  for (let i = 0; i < runs.length; i += 3) if (runs[i + 2] === 1) pages += runs[i + 1] ?? 0;
  const target = into.subarray(0, pages * PAGE);
  if (native.deltaCopy(memory, runs, target, 0) !== 0) throw new Error('the memory was not copied');
  native.pieceDigest([target]);
}

export async function snapshotBenchmark(rounds = QUICK ? 1 : 7): Promise<void> {
  const program = new LocalProgram('v8', 'heap', source('heap'), [String(MEBIBYTES), '100', '1']);
  const guest = new LocalGuest(program);
  guest.stopAfter('filled');
  const gc = collector();
  const speed = (bytes: number, since: number): number => bytes / (performance.now() - since) / 1e6;
  const ours: number[] = [];
  const copies: number[] = [];
  for (let round = -1; round < rounds; round += 1) {
    gc();
    const start = performance.now();
    const chunks = await guest.checkpoint(undefined);
    const snapshot = speed(guest.instance.memory().length, start);
    const size = chunks.reduce((sum, { length }) => sum + length, 0);
    if (size < MEBIBYTES * 1024 * 1024) throw new Error(`the image has only ${size} bytes`);
    chunks.length = 0;
    gc();
    const before = performance.now();
    const copy = guest.instance.memory().slice();
    const copied = speed(copy.length, before);
    if (round < 0) continue;
    ours.push(snapshot);
    copies.push(copied);
  }
  gc();
  const memory = guest.instance.memory();
  const into = new Uint8Array(memory.length).fill(1);
  const warm: number[] = [];
  for (let round = 0; round < rounds; round += 1) {
    const start = performance.now();
    intoWarmMemory(memory, program.initial, into);
    warm.push(speed(memory.length, start));
  }
  guest.close();
  await report(
    'snapshot-throughput',
    result(
      {
        name: `snapshot of ${MEBIBYTES} MiB of noise to memory`,
        unit: 'GB/s',
        baselineName: 'a copy of the same bytes',
      },
      ours,
      copies,
      { series: ours, copies, intoWarmMemory: rounded(median(warm)) },
    ),
  );
}

if (import.meta.main) {
  const { values } = parseArgs({ options: { rounds: { type: 'string', default: '7' } } });
  await snapshotBenchmark(Number(values.rounds));
}
