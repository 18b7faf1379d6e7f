/**
 * What a checkpoint and a restore compute, of nbody in the midst of its run, and how large images are.
 *
 *     bin/node bench/checkpoint.ts [--rounds N]
 *
 * Checkpoint: from a guest that stands still to the bytes of an image: its state out of the engine, what differs in memory, and the
 * image without the module (a move sends that ahead). Restore: from those bytes to a guest that could go on, in a new instance.
 * The module is compiled already, and V8 has met the code: this is a process that runs. Beside it, in turns: a copy of the
 * guest's whole memory. Writes bench/results/{checkpoint,restore,image-size,image-size-heap}.json.
 */
import { parseArgs } from 'node:util';
import { constants, zstdCompressSync } from 'node:zlib';
import type { EngineName } from '../src/engine/engines.ts';
import { LocalGuest, LocalProgram } from './guest/local.ts';
import { source } from './guest/programs.ts';
import { median, percentile, QUICK, report, result } from './harness.ts';
import { rounded } from './slowdown.ts';

/** Past the beginning of the program. */
const POLLS = 300;
const WARM = QUICK ? 2 : 300;
const PAGE = 4096;
const HEAP = { mebibytes: 64, percent: 30 } as const;

type Series = { readonly checkpoint: number[]; readonly restore: number[]; readonly copy: number[] };

function concat(chunks: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(chunks));
}

/** Milliseconds that pass while something is done. */
async function timed<T>(work: () => Promise<T> | T): Promise<readonly [T, number]> {
  const start = performance.now();
  const value = await work();
  return [value, performance.now() - start];
}

async function series(engine: EngineName, rounds: number): Promise<Series> {
  const program = new LocalProgram(engine, 'nbody', source('nbody'), ['1000000']);
  const times: Series = { checkpoint: [], restore: [], copy: [] };
  let guest = new LocalGuest(program);
  guest.stopAtPoll(POLLS);
  for (let round = -WARM; round < rounds; round += 1) {
    const current = guest;
    const [chunks, checkpoint] = await timed(() => current.checkpoint(undefined));
    const bytes = concat(chunks);
    const [restored, restore] = await timed(() => LocalGuest.restore(program, bytes));
    const [, copy] = await timed(() => current.instance.memory().slice());
    guest.close();
    guest = restored;
    if (round < 0) continue;
    times.checkpoint.push(checkpoint);
    times.restore.push(restore);
    times.copy.push(copy);
  }
  // What came out of so many images still is the program.
  const whole = new LocalGuest(program);
  const end = guest.instance.resume();
  if (whole.instance.start().kind !== 'exited' || end.kind !== 'exited' || guest.output !== whole.output)
    throw new Error(`the restored guest ${end.kind} with ${guest.output} instead of ${whole.output}`);
  return times;
}

/** Bytes of the pages that hold something else than the module makes, as one zstd stream. */
function usedPagesCompressed({ instance }: LocalGuest, initial: Uint8Array): { used: number; compressed: number } {
  const memory = instance.memory();
  const pages: Uint8Array[] = [];
  const zeros = Buffer.alloc(PAGE);
  for (let at = 0; at < memory.length; at += PAGE) {
    const page = memory.subarray(at, at + PAGE);
    const own = at < initial.length ? initial.subarray(at, at + PAGE) : zeros;
    if (Buffer.compare(page, own) !== 0) pages.push(page);
  }
  const used = Buffer.concat(pages);
  const params = { [constants.ZSTD_c_compressionLevel]: 1 };
  return { used: used.length, compressed: zstdCompressSync(used, { params }).length };
}

async function sizes(): Promise<void> {
  const nbody = new LocalProgram('v8', 'nbody', source('nbody'), ['1000000']);
  const guest = new LocalGuest(nbody);
  guest.stopAtPoll(POLLS);
  const [whole, without] = [concat(await guest.checkpoint(nbody.module)), concat(await guest.checkpoint(undefined))];
  await report(
    'image-size',
    result(
      { name: 'image of nbody, with its module', unit: 'KiB', baselineName: 'its memory and module' },
      [whole.length / 1024],
      [(guest.instance.memory().length + nbody.module.length) / 1024],
      { withoutModule: rounded(without.length / 1024), module: rounded(nbody.module.length / 1024) },
    ),
  );
  guest.close();
  const { mebibytes, percent } = HEAP;
  const heap = new LocalProgram('v8', 'heap', source('heap'), [String(mebibytes), String(percent)]);
  const full = new LocalGuest(heap);
  full.stopAfter('filled');
  const image = concat(await full.checkpoint(undefined));
  const { used, compressed } = usedPagesCompressed(full, heap.initial);
  await report(
    'image-size-heap',
    result(
      {
        name: `image of a heap of ${mebibytes} MiB with ${percent} % in use, without the module`,
        unit: 'KiB',
        baselineName: 'its used pages in one zstd stream of the same level',
      },
      [image.length / 1024],
      [compressed / 1024],
      { usedPages: rounded(used / 1024) },
    ),
  );
  full.close();
}

export async function checkpointBenchmark(rounds = QUICK ? 3 : 300): Promise<void> {
  const v8 = await series('v8', rounds);
  const wamr = await series('wamr', rounds);
  for (const what of ['checkpoint', 'restore'] as const)
    await report(
      what,
      result(
        { name: `${what} of nbody in a running process`, unit: 'ms', baselineName: 'a copy of its memory' },
        v8[what],
        v8.copy,
        { p99: rounded(percentile(v8[what], 0.99)), wamr: rounded(median(wamr[what])) },
      ),
    );
  await sizes();
}

if (import.meta.main) {
  const { values } = parseArgs({ options: { rounds: { type: 'string', default: '300' } } });
  await checkpointBenchmark(Number(values.rounds));
}
