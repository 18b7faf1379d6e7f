/**
 * How fast a large guest becomes an image: one GiB of pages that hold noise, of which no byte can be left out or compressed. From the
 * guest that stands still in its thread to the last byte of its image in memory of its keeper, all digests made, as an agent does when
 * the guest moves away: the bytes come in pieces, as a socket or a file takes them, and noise is read from the guest's memory itself.
 *
 * Beside it, in turns: a plain copy of as many bytes to fresh memory, which is what the kernel takes longest for, and the image of a
 * guest that goes on at once (`kedge checkpoint --leave-running`), for which such a copy is made.
 *
 *     bin/node bench/snapshot.ts [--rounds N]
 *
 * Writes bench/results/snapshot-throughput.json.
 */
import { parseArgs } from 'node:util';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { encodeImage } from '../src/image/writer.ts';
import { manifestOf } from '../src/migrate/cut.ts';
import type { Guest } from '../src/guest/guest.ts';
import type { Identity } from '../src/migrate/kept.ts';
import { host } from './guest/hosted.ts';
import { source } from './guest/programs.ts';
import { median, QUICK, report, result } from './harness.ts';
import { rounded } from './slowdown.ts';

const MEBIBYTES = QUICK ? 16 : 1024;
const BYTES = MEBIBYTES * 1024 * 1024;

const IDENTITY: Identity = {
  id: '7d444840-9dc0-11d1-b245-5ffdce74fad2',
  name: 'heap',
  epoch: 1,
  address: '100.64.0.1',
  engine: 'v8',
  policy: 'loop',
  moduleName: 'heap.wasm',
  moduleHash: '0'.repeat(64),
  args: ['heap'],
  env: {},
  publish: [],
  dirs: [],
  startedAt: '2000-01-01T00:00:00.000Z',
};

/** What the rounds before have left is given back. */
function collector(): () => void {
  setFlagsFromString('--expose-gc');
  return runInNewContext('gc') as () => void;
}

/** Takes the image of a stopped guest, every byte of it, and gives its length. `stays`: it will not go on before. */
async function snapshot(guest: Guest, module: Uint8Array, stays: boolean): Promise<number> {
  await guest.drain(stays);
  const saved = await guest.save([]);
  const image = await encodeImage({ ...saved, manifest: manifestOf(IDENTITY, module, saved, stays), flows: [] });
  let length = 0;
  for (const part of image) {
    if (part instanceof Uint8Array) length += part.length;
    else for await (const piece of part.read()) length += piece.length;
  }
  return length;
}

export async function snapshotBenchmark(rounds = QUICK ? 1 : 7): Promise<void> {
  const module = source('heap');
  const args = [String(MEBIBYTES), '100', '1'];
  const guest = await host({ engine: 'v8', policy: 'loop', module, args, until: 'filled' });
  if ((await guest.stop()) !== 'stopped') throw new Error('the guest has ended');
  const gc = collector();
  const plain = new Uint8Array(BYTES).fill(1);
  /** Gigabytes of the guest a second. */
  const speed = async (work: () => Promise<number> | number): Promise<number> => {
    gc();
    const start = performance.now();
    const length = await work();
    const elapsed = performance.now() - start;
    if (length < BYTES) throw new Error(`there are only ${length} bytes`);
    return BYTES / elapsed / 1e6;
  };
  const [ours, left, copies]: number[][] = [[], [], []];
  for (let round = -1; round < rounds; round += 1) {
    const found = await speed(() => snapshot(guest, module, true));
    const running = await speed(() => snapshot(guest, module, false));
    const copied = await speed(() => plain.slice().length);
    if (round < 0) continue;
    ours?.push(found);
    left?.push(running);
    copies?.push(copied);
  }
  await guest.destroy();
  await report(
    'snapshot-throughput',
    result(
      {
        name: `snapshot of ${MEBIBYTES} MiB of noise to memory`,
        unit: 'GB/s',
        baselineName: 'a copy of as many bytes',
      },
      ours ?? [],
      copies ?? [],
      { series: ours ?? [], copies: copies ?? [], leaveRunning: rounded(median(left ?? [])) },
    ),
  );
}

if (import.meta.main) {
  const { values } = parseArgs({ options: { rounds: { type: 'string', default: '7' } } });
  await snapshotBenchmark(Number(values.rounds));
}
