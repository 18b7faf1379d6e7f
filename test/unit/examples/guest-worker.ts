/** Runs one guest in this thread; whenever it is stopped, it goes on in a fresh instance with the same sockets. */
import { parentPort, workerData } from 'node:worker_threads';
import { createHostCallContext } from '../../../src/engine/context.ts';
import type { ComputeState, InstrumentedModule, Outcome, StopHandle } from '../../../src/engine/engine.ts';
import { stopSignalOf } from '../../../src/engine/stop.ts';
import { ENGINES, type EngineName } from '../../../src/engine/engines.ts';
import { native, type WakeFd } from '../../../src/native.ts';
import type { Ipv4 } from '../../../src/rewrite/numbers.ts';
import { Wasi } from '../../../src/wasi/imports.ts';
import type { SavedWasi } from '../../../src/wasi/saved.ts';
import { SocketTable } from '../../../src/wasi-sock/table.ts';

export interface GuestWorkerData {
  /** Where it is in turn, a step further at every move. */
  readonly hosts: readonly { readonly engine: EngineName; readonly module: InstrumentedModule }[];
  readonly args: readonly string[];
  readonly address: number;
  readonly stop: StopHandle;
  readonly wakeFd: number;
}

export type GuestWorkerMessage =
  | { readonly kind: 'output'; readonly text: string }
  | { readonly kind: 'moved' }
  | { readonly kind: 'ended'; readonly outcome: Outcome };

const { hosts, args, address, stop: handle, wakeFd } = workerData as GuestWorkerData;
const stop = stopSignalOf(handle);
const wake = wakeFd as WakeFd;
const sockets = new SocketTable({ wakeFd: wake, native, guestAddress: address as Ipv4, now: () => performance.now() });
const say = (message: GuestWorkerMessage): void => parentPort?.postMessage(message);
const decoder = new TextDecoder();
const output = (bytes: Uint8Array): void => say({ kind: 'output', text: decoder.decode(bytes) });

let image: { readonly compute: ComputeState; readonly wasi: SavedWasi } | undefined;
for (let moves = 0; ; moves += 1) {
  const place = hosts[moves % hosts.length];
  if (place === undefined) throw new Error('a guest is somewhere');
  const engine = ENGINES[place.engine];
  const context = createHostCallContext();
  const wasi: Wasi = new Wasi({
    context,
    stdio: { input: { kind: 'none' }, output, errors: output },
    args,
    environ: [],
    sockets,
    ...(image === undefined ? {} : { saved: image.wasi }),
  });
  const instance = engine.instantiate(engine.compile(place.module), wasi.imports, stop, context);
  if (image !== undefined) {
    instance.restore(image.compute);
    stop.clear();
    native.wakeClear(wake);
    say({ kind: 'moved' });
  }
  const outcome: Outcome = instance.resume();
  if (outcome.kind !== 'stopped') {
    sockets.closeAll();
    say({ kind: 'ended', outcome });
    break;
  }
  sockets.drain();
  image = { compute: structuredClone(instance.capture()), wasi: structuredClone(wasi.save()) };
  sockets.thaw();
  wasi.close();
}
