/** A guest of Kedge as an agent keeps it, in a worker thread of its own, on a loopback address. */
import process from 'node:process';
import type { Policy } from '../../src/engine/engine.ts';
import { ENGINES, type EngineName } from '../../src/engine/engines.ts';
import { instrument } from '../../src/engine/points/instrument.ts';
import { Guest } from '../../src/guest/guest.ts';
import { waitFor } from '../../test/support/wait.ts';

let last = 0;

/** 127.x.y.z, host-order: one that no other guest of this process has, and hardly one of another process. */
function ownAddress(): number {
  last = (last % 254) + 1;
  return ((0x7f << 24) | ((process.pid & 0xffff) << 8) | last) >>> 0;
}

/** How a guest is to be run. */
export type Hosted = {
  readonly engine: EngineName;
  readonly policy: Policy;
  readonly module: Uint8Array;
  readonly args: readonly string[];
  /** Waits until it has printed something that contains this. */
  readonly until?: string;
  /** Milliseconds after which a stop counts as impossible. */
  readonly stopLimit?: number;
};

/** Starts one; it runs when this returns. */
export async function host({ engine, policy, module, args, until, stopLimit }: Hosted): Promise<Guest> {
  let output = '';
  const guest = new Guest({
    engine,
    instrumented: instrument(module, policy, ENGINES[engine].flag),
    module,
    address: ownAddress(),
    args: ['program', ...args],
    environ: [],
    preopens: [],
    onLog: (_, bytes) => void (output += new TextDecoder().decode(bytes)),
    onState: () => undefined,
    ...(stopLimit === undefined ? {} : { stopLimit }),
  });
  await guest.ready;
  await guest.start();
  if (until !== undefined)
    await waitFor(() => output.includes(until), {
      interval: 1,
      what: 'the guest to begin',
      explain: () => `${JSON.stringify(guest.state)} ${output}`,
    });
  return guest;
}
