/**
 * The worker thread of one guest: engine, WASI and sockets live here, and all calls of the guest block only here.
 *
 * Theory of operation. While the guest runs, this thread executes nothing else: messages wait. Its keeper stops it by the stop flag
 * and the wake descriptor; the guest unwinds to its stable point, `start` or `resume` returns, and the event loop takes the
 * messages that carry out a move. When the guest has ended, connections it closed are looked after by a timer until their peers
 * have everything.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { createHostCallContext } from '../engine/context.ts';
import type { CallState, CompiledModule, Instance, Outcome } from '../engine/engine.ts';
import { stopSignalOf } from '../engine/stop.ts';
import { ENGINES } from '../engine/engines.ts';
import { initialMemory } from '../engine/wasm/initial-memory.ts';
import { KedgeError } from '../errors.ts';
import { applyDelta, collectDelta } from '../image/memory-delta.ts';
import { native as unaccounted } from '../native.ts';
import type { WakeFd } from '../native.ts';
import type { Ipv4 } from '../rewrite/numbers.ts';
import type { SocketHost } from '../wasi-sock/core.ts';
import { SocketTable } from '../wasi-sock/table.ts';
import type { FlowReport } from '../wasi-sock/save.ts';
import { Wasi } from '../wasi/imports.ts';
import type { SavedWasi } from '../wasi/saved.ts';
import { LOG_LIMIT, logCost } from './protocol.ts';
import type { RestoredGuest, SavedGuest, WorkerError, WorkerMessage, WorkerRequest, WorkerStart } from './protocol.ts';
import { accounted } from './descriptors.ts';
import { checkHandles } from './handles-check.ts';

/** How often an ended guest's connections are looked after, milliseconds. */
const LINGER_TICK = 50;

if (parentPort === null) throw new Error('a guest runs as a worker');
const port = parentPort;
const given = workerData as WorkerStart;
const stop = stopSignalOf(given.stop);
const wakeFd = given.wakeFd as WakeFd;
const native = accounted(unaccounted, given.descriptors);
const host: SocketHost = {
  native,
  wakeFd,
  guestAddress: given.address as Ipv4,
  now: () => performance.now(),
};
const engine = ENGINES[given.engine];
const initial = initialMemory(given.module);
/** Set before the first request comes. */
let compiled: CompiledModule;

type Live = { readonly sockets: SocketTable; readonly wasi: Wasi; readonly instance: Instance };

/** What there is of the guest. `fresh`: nothing yet. `ended`: its code is done, its sockets may linger. */
type State =
  | { readonly name: 'fresh' }
  | ({ readonly name: 'restored' | 'running' | 'stopped'; readonly savedWasi?: SavedWasi } & Live)
  | { readonly name: 'ended'; readonly sockets: SocketTable; readonly code: number };
let state: State = { name: 'fresh' };
let lingerTimer: NodeJS.Timeout | undefined;

function say(message: WorkerMessage, transfer: ArrayBuffer[] = []): void {
  port.postMessage(message, transfer);
}

function live(): Live {
  if (state.name !== 'stopped' && state.name !== 'restored')
    throw new KedgeError('KEDGE_ENGINE_STATE', `the guest is ${state.name}`);
  return state;
}

const outstanding = new Int32Array(given.logOutstanding);

/** Sends output to the keeper, and waits while too much is on its way; a stop does not wait for that. */
function print(stream: 'stdout' | 'stderr', bytes: Uint8Array): void {
  Atomics.add(outstanding, 0, logCost(bytes));
  say({ kind: 'log', stream, bytes });
  for (let n = Atomics.load(outstanding, 0); n > LOG_LIMIT && !stop.requested(); n = Atomics.load(outstanding, 0))
    Atomics.wait(outstanding, 0, n, 20);
}

function makeWasi(sockets: SocketTable, saved: SavedWasi | undefined) {
  const context = createHostCallContext();
  const log = (stream: 'stdout' | 'stderr') => (bytes: Uint8Array) => print(stream, bytes);
  const wasi = new Wasi({
    context,
    stdio: { input: { kind: 'none' }, output: log('stdout'), errors: log('stderr') },
    args: given.args,
    environ: given.environ,
    preopens: given.preopens,
    sockets,
    ...(saved === undefined ? {} : { saved }),
  });
  return { wasi, context };
}

function assemble(sockets: SocketTable, saved: SavedWasi | undefined): Live {
  const { wasi, context } = makeWasi(sockets, saved);
  return { sockets, wasi, instance: engine.instantiate(compiled, wasi.imports, stop, context) };
}

/** Runs guest code until it stops or ends. */
function run(guest: Live, go: () => Outcome): void {
  state = { name: 'running', ...guest };
  let outcome: Outcome;
  try {
    outcome = go();
  } catch (error) {
    return crash(guest, error);
  }
  if (outcome.kind === 'stopped') {
    state = { name: 'stopped', ...guest };
    return say({ kind: 'outcome', outcome, lingering: 0 });
  }
  guest.wasi.close();
  const lingering = guest.sockets.closeAll();
  state = { name: 'ended', sockets: guest.sockets, code: outcome.kind === 'exited' ? outcome.code : 134 };
  say({ kind: 'outcome', outcome, lingering });
  linger(guest.sockets);
}

/** Frames that lead nowhere, or a fault of the engine: nothing can go on from here, and peers are told by RST. */
function crash(guest: Live, error: unknown): void {
  guest.wasi.close();
  guest.sockets.destroy();
  state = { name: 'fresh' };
  const message = error instanceof KedgeError ? error.message : error instanceof Error ? error.stack : undefined;
  say({ kind: 'crashed', message: message ?? String(error) });
}

function plain({ code, message, hint }: KedgeError): WorkerError {
  return { code, message, hint };
}

function linger(sockets: SocketTable): void {
  lingerTimer ??= setInterval(() => {
    if (sockets.sweep() > 0) return;
    clearInterval(lingerTimer);
    lingerTimer = undefined;
    say({ kind: 'lingered' });
  }, LINGER_TICK);
}

function save(flows: readonly FlowReport[]): SavedGuest {
  if (state.name === 'ended') {
    const { sockets, code } = state;
    const { encoding, policy } = given.instrumented;
    return {
      frames: { encoding, policy, bytes: new Uint8Array() },
      call: undefined,
      globals: [],
      memory: collectDelta(new Uint8Array(), initial),
      memoryPages: 0,
      handles: { version: 1, exited: code, wasi: null, sockets: sockets.save(flows) },
    };
  }
  const { sockets, wasi, instance } = live();
  const { frames, call, globals, memory, memoryPages } = instance.capture();
  return {
    frames: { ...frames, bytes: frames.bytes.slice() },
    call,
    globals,
    memory: collectDelta(memory, initial),
    memoryPages,
    handles: { version: 1, exited: null, wasi: wasi.save(), sockets: sockets.save(flows) },
  };
}

function restore(saved: RestoredGuest, flows: readonly FlowReport[] | 'without-flows'): void {
  if (state.name !== 'fresh') throw new KedgeError('KEDGE_ENGINE_STATE', `the guest is ${state.name}`);
  const handles = checkHandles(saved.handles);
  const sockets = SocketTable.restore(host, handles.sockets, flows);
  try {
    if (handles.wasi === null) {
      state = { name: 'ended', sockets, code: handles.exited };
      return;
    }
    const guest = assemble(sockets, handles.wasi);
    try {
      fill(guest.instance, saved);
    } catch (error) {
      guest.wasi.close();
      throw error;
    }
    state = { name: 'restored', ...guest, savedWasi: handles.wasi };
  } catch (error) {
    sockets.destroy();
    throw error;
  }
}

function fill(instance: Instance, saved: RestoredGuest): void {
  const { frames, globals, memoryPages } = saved;
  const memory = instance.growMemory(memoryPages);
  applyDelta(saved.memory, memory, memoryPages);
  const call: { call?: CallState } = saved.call === undefined ? {} : { call: saved.call };
  instance.restore({
    originalHash: given.instrumented.originalHash,
    memory,
    memoryPages,
    globals,
    frames,
    ...call,
  });
}

/** Goes on after a restore; a guest that had ended before only lingers. */
function release(): void {
  if (state.name === 'ended') {
    state.sockets.release();
    say({ kind: 'outcome', outcome: { kind: 'exited', code: state.code }, lingering: state.sockets.sweep() });
    return linger(state.sockets);
  }
  const guest = live();
  guest.sockets.release();
  if (state.name === 'restored' && state.savedWasi !== undefined) guest.wasi.continueClock(state.savedWasi);
  run(guest, () => guest.instance.resume());
}

function resume(): void {
  if (state.name === 'ended') {
    state.sockets.thaw();
    return linger(state.sockets);
  }
  const guest = live();
  guest.sockets.thaw();
  run(guest, () => guest.instance.resume());
}

function drain() {
  if (state.name === 'ended') {
    clearInterval(lingerTimer);
    lingerTimer = undefined;
    return state.sockets.drain();
  }
  return live().sockets.drain();
}

function destroy(): void {
  clearInterval(lingerTimer);
  lingerTimer = undefined;
  if (state.name === 'fresh') return;
  state.sockets.destroy();
  if (state.name !== 'ended') state.wasi.close();
  state = { name: 'fresh' };
}

/** Carries out a request. What runs guest code comes after the reply, which must not wait for it. */
function handle(request: WorkerRequest): void {
  const { id } = request;
  let after: (() => void) | undefined;
  try {
    switch (request.do) {
      case 'start': {
        const guest = assemble(new SocketTable(host), undefined);
        say({ kind: 'reply', id, result: null });
        after = () => run(guest, () => guest.instance.start());
        break;
      }
      case 'drain':
        say({ kind: 'reply', id, result: drain() });
        break;
      case 'save': {
        const result = save(request.args.flows);
        say({ kind: 'reply', id, result }, [result.memory.buffer as ArrayBuffer]);
        break;
      }
      case 'restore':
        restore(request.args.saved, request.args.flows);
        say({ kind: 'reply', id, result: null });
        break;
      case 'resume':
      case 'release':
        say({ kind: 'reply', id, result: null });
        after = request.do === 'resume' ? resume : release;
        break;
      case 'destroy':
        destroy();
        say({ kind: 'reply', id, result: null });
        break;
    }
  } catch (error) {
    if (!(error instanceof KedgeError)) throw error;
    say({ kind: 'error', id, error: plain(error) });
  }
  after?.();
}

/**
 * Walks once through what a restore does, with nothing in it, so that a move does not wait for the first call of everything:
 * V8 compiles a function when it is called first.
 */
function rehearse(): void {
  const empty = new SocketTable(host);
  const saved = empty.save([]);
  empty.destroy();
  const sockets = SocketTable.restore(host, saved, []);
  const { wasi } = assemble(sockets, undefined);
  checkHandles({ version: 1, exited: null, wasi: wasi.save(), sockets: saved });
  wasi.close();
  sockets.destroy();
}

/** Makes ready, and listens from then on; a module that the engine cannot run is told and nothing else happens here. */
function begin(): void {
  try {
    compiled = engine.compile(given.instrumented);
  } catch (error) {
    if (!(error instanceof KedgeError)) throw error;
    return say({ kind: 'refused', error: plain(error) });
  }
  try {
    rehearse();
  } catch (error) {
    // What is wrong with the module or its directories is the answer to `start` or `restore`.
    if (!(error instanceof KedgeError)) throw error;
  }
  port.on('message', (request: WorkerRequest) => handle(request));
  say({ kind: 'ready' });
}

begin();
