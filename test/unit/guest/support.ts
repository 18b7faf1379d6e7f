/** Guests in threads of their own, with nothing of a host's but what a program cannot do without. */
import type { Worker } from 'node:worker_threads';
import { ENGINES, type EngineName } from '../../../src/engine/engines.ts';
import { instrument } from '../../../src/engine/points/instrument.ts';
import { Guest } from '../../../src/guest/guest.ts';

/** What a guest needs besides its code. */
export const PLAIN = {
  address: 0x64400001,
  args: ['plain'],
  environ: [],
  preopens: [],
  onLog: () => undefined,
  onState: () => undefined,
};

/** Not started yet. Without `worker` it takes one of its own. */
export function plainGuest(module: Uint8Array, engine: EngineName = 'v8', worker?: Worker): Guest {
  return new Guest({
    ...(worker === undefined ? {} : { worker }),
    engine,
    instrumented: instrument(module, 'loop', ENGINES[engine].flag),
    module,
    ...PLAIN,
  });
}
