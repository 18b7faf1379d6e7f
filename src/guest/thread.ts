/**
 * One guest in its worker thread: engine, WASI and sockets live here, and all calls of the guest block only here.
 *
 * Theory of operation. While the guest runs, this thread executes nothing else: messages wait. Its keeper stops it by the stop flag
 * and the wake descriptor; the guest unwinds to its stable point, `start` or `resume` returns, and the event loop takes the
 * messages that carry out a move. When the guest has ended, connections it closed are looked after by a timer until their peers
 * have everything.
 */
import { createHostCallContext } from '../engine/context.ts';
import type { CallState, CompiledModule, Engine, Instance, Outcome, StopSignal } from '../engine/engine.ts';
import { ENGINES } from '../engine/engines.ts';
import { stopSignalOf } from '../engine/stop.ts';
import { initialMemories } from '../engine/wasm/initial-memory.ts';
import { type ModuleInfo, parseModule } from '../engine/wasm/module.ts';
import { coded, KedgeError } from '../errors.ts';
import { encodeCbor } from '../image/cbor.ts';
import { applyDeltas, collectDeltas } from '../image/memory-delta.ts';
import { native } from '../native.ts';
import type { WakeFd } from '../native.ts';
import type { Ipv4 } from '../rewrite/numbers.ts';
import type { SocketHost } from '../wasi-sock/core.ts';
import { SocketTable } from '../wasi-sock/table.ts';
import type { FlowReport } from '../wasi-sock/save.ts';
import { Wasi } from '../wasi/imports.ts';
import type { SavedWasi } from '../wasi/saved.ts';
import { AT_REST, LOG_LIMIT, LOG_OUTSTANDING, logCost, REST_OTHER, REST_STOPPED } from './protocol.ts';
import type {
  LentSection,
  Requests,
  RestoredGuest,
  SavedGuest,
  WorkerError,
  WorkerMessage,
  WorkerRequest,
  WorkerStart,
} from './protocol.ts';
import { accounted } from './descriptors.ts';
import { checkHandles } from './handles-check.ts';
import { capture, Lending } from './capture.ts';
import type { Captured } from './capture.ts';

/** How often an ended guest's connections are looked after, milliseconds. */
const LINGER_TICK = 50;

type Live = { readonly sockets: SocketTable; readonly wasi: Wasi; readonly instance: Instance };

/** What there is of the guest. `fresh`: nothing yet. `ended`: its code is done, its sockets may linger. */
type State =
  | { readonly name: 'fresh' }
  | ({ readonly name: 'restored' | 'running' | 'stopped'; readonly savedWasi?: SavedWasi } & Live)
  | { readonly name: 'ended'; readonly sockets: SocketTable; readonly code: number };

export type Say = (message: WorkerMessage, transfer?: ArrayBuffer[]) => void;

/** An error as it goes to the keeper. */
export function plain({ code, message, hint }: KedgeError): WorkerError {
  return { code, message, hint };
}

export class GuestThread {
  readonly #given: WorkerStart;
  readonly #say: Say;
  readonly #stop: StopSignal;
  readonly #host: SocketHost;
  readonly #engine: Engine;
  readonly #compiled: CompiledModule;
  readonly #original: ModuleInfo;
  readonly #initial: readonly Uint8Array[];
  readonly #words: Int32Array;
  #state: State = { name: 'fresh' };
  #lingerTimer: NodeJS.Timeout | undefined;
  /** Of a guest that stands still, between drain and save. */
  #captured: Captured | undefined;
  /** What of its memory the keeper reads from where it is. */
  #lending: Lending | undefined;
  /** It stands still until its image is stored or sent. */
  #stays = false;

  /** Compiles the module. Nothing runs until a request says so. Throws what the engine says of a module that it cannot run. */
  constructor(given: WorkerStart, say: Say) {
    this.#given = given;
    this.#say = say;
    this.#stop = stopSignalOf(given.stop);
    this.#host = {
      native: accounted(native, given.descriptors),
      wakeFd: given.wakeFd as WakeFd,
      guestAddress: given.address as Ipv4,
      now: () => performance.now(),
    };
    this.#engine = ENGINES[given.engine];
    this.#compiled = this.#engine.compile(given.instrumented);
    this.#original = parseModule(given.module);
    this.#initial = initialMemories(given.module, this.#original);
    this.#words = new Int32Array(given.words);
  }

  /**
   * Walks through what a move does, with nothing in it, so that a move does not wait for the first call of everything: V8 compiles
   * a function when it is called first.
   */
  rehearse(): void {
    const empty = new SocketTable(this.#host);
    const first = this.#assemble(empty, undefined);
    const saved = this.#capture(first);
    const wasi = checkHandles(
      encodeCbor({ version: 1, exited: null, wasi: first.wasi.save(), sockets: empty.save([]) }, 'handles'),
    );
    first.wasi.close();
    empty.destroy();
    const sockets = SocketTable.restore(this.#host, wasi.sockets, []);
    const second = this.#assemble(sockets, wasi.wasi ?? undefined);
    if (saved.memory instanceof Uint8Array) this.#fill(second.instance, { ...saved, memory: saved.memory });
    second.wasi.close();
    sockets.destroy();
  }

  #live(): Live {
    const state = this.#state;
    if (state.name !== 'stopped' && state.name !== 'restored')
      throw new KedgeError('KEDGE_ENGINE_STATE', `the guest is ${state.name}`);
    return state;
  }

  /** Sends output to the keeper, and waits while too much is on its way; a stop does not wait for that. */
  #print(stream: 'stdout' | 'stderr', bytes: Uint8Array): void {
    const words = this.#words;
    Atomics.add(words, LOG_OUTSTANDING, logCost(bytes));
    this.#say({ kind: 'log', stream, bytes });
    for (
      let n = Atomics.load(words, LOG_OUTSTANDING);
      n > LOG_LIMIT && !this.#stop.requested();
      n = Atomics.load(words, LOG_OUTSTANDING)
    )
      Atomics.wait(words, LOG_OUTSTANDING, n, 20);
  }

  #assemble(sockets: SocketTable, saved: SavedWasi | undefined): Live {
    const { args, environ, preopens } = this.#given;
    const context = createHostCallContext();
    const log = (stream: 'stdout' | 'stderr') => (bytes: Uint8Array) => this.#print(stream, bytes);
    const wasi = new Wasi({
      context,
      stdio: { input: { kind: 'none' }, output: log('stdout'), errors: log('stderr') },
      args,
      environ,
      preopens,
      sockets,
      ...(saved === undefined ? {} : { saved }),
    });
    return { sockets, wasi, instance: this.#engine.instantiate(this.#compiled, wasi.imports, this.#stop, context) };
  }

  /** Runs guest code until it stops or ends, and says how. */
  #run(guest: Live, go: () => Outcome): void {
    this.#runs(guest, go);
    if (this.#state.name !== 'stopped') this.#rests(REST_OTHER);
  }

  #rests(how: typeof REST_STOPPED | typeof REST_OTHER): void {
    Atomics.store(this.#words, AT_REST, how);
    Atomics.notify(this.#words, AT_REST);
  }

  #runs(guest: Live, go: () => Outcome): void {
    this.#captured = undefined;
    this.#state = { name: 'running', ...guest };
    let outcome: Outcome;
    try {
      outcome = go();
    } catch (error) {
      return this.#crash(guest, error);
    }
    if (outcome.kind === 'stopped') {
      this.#state = { name: 'stopped', ...guest };
      // Seen before the message is: to read one takes its receiver a tenth of a millisecond.
      this.#rests(REST_STOPPED);
      return this.#say({ kind: 'outcome', outcome, lingering: 0 });
    }
    guest.wasi.close();
    const lingering = guest.sockets.closeAll();
    this.#state = { name: 'ended', sockets: guest.sockets, code: outcome.kind === 'exited' ? outcome.code : 134 };
    this.#say({ kind: 'outcome', outcome, lingering });
    this.#linger(guest.sockets);
  }

  /** Frames that lead nowhere, or a fault of the engine: nothing can go on from here, and peers are told by RST. */
  #crash(guest: Live, error: unknown): void {
    guest.wasi.close();
    guest.sockets.destroy();
    this.#state = { name: 'fresh' };
    const message = error instanceof KedgeError ? error.message : error instanceof Error ? error.stack : undefined;
    this.#say({ kind: 'crashed', message: message ?? String(error) });
  }

  #linger(sockets: SocketTable): void {
    this.#lingerTimer ??= setInterval(() => {
      if (sockets.sweep() > 0) return;
      this.#stopLingering();
      this.#say({ kind: 'lingered' });
    }, LINGER_TICK);
  }

  #stopLingering(): void {
    clearInterval(this.#lingerTimer);
    this.#lingerTimer = undefined;
  }

  /** Answers with all of a guest; memory that is lent is read by `memory` requests. */
  #save(id: number, flows: readonly FlowReport[]): void {
    const { handles, ...captured } = this.#state.name === 'ended' ? this.#saveEnded(flows) : this.#saveLive(flows);
    const reply = (memory: Uint8Array | LentSection, transfer: ArrayBuffer[]): void =>
      this.#say({ kind: 'reply', id, result: { ...captured, memory, handles } }, transfer);
    const { memory } = captured;
    if (memory instanceof Uint8Array) return reply(memory, [memory.buffer as ArrayBuffer]);
    const failed = (why: unknown): void => this.#say({ kind: 'error', id, error: plain(coded(why)) });
    void memory.section.then((section) => {
      if (section !== undefined) return reply({ length: section.length, digest: section.digest }, []);
      failed(new KedgeError('KEDGE_ENGINE_STATE', 'the guest went on meanwhile'));
    }, failed);
  }

  #saveEnded(flows: readonly FlowReport[]): SavedGuest {
    const { sockets, code } = this.#state as State & { name: 'ended' };
    const { encoding, policy } = this.#given.instrumented;
    return {
      frames: { encoding, policy, bytes: new Uint8Array() },
      call: undefined,
      globals: [],
      memory: collectDeltas([], []),
      memoryPages: 0,
      otherMemories: [],
      handles: { version: 1, exited: code, wasi: null, sockets: sockets.save(flows) },
    };
  }

  #capture({ instance }: Live): Captured {
    const captured = capture(instance, this.#initial, this.#stays);
    if (captured.memory instanceof Lending) this.#lending = captured.memory;
    return captured;
  }

  #captureAhead(): void {
    if (this.#state.name === 'ended') return;
    try {
      this.#captured ??= this.#capture(this.#live());
    } catch {
      // `save` tries again, and says what is wrong: memory may be short now and not then.
    }
  }

  #saveLive(flows: readonly FlowReport[]): Captured & Pick<SavedGuest, 'handles'> {
    const guest = this.#live();
    const captured = this.#captured ?? this.#capture(guest);
    // Given away: a copy of its memory goes with the message.
    this.#captured = undefined;
    const handles = { version: 1, exited: null, wasi: guest.wasi.save(), sockets: guest.sockets.save(flows) } as const;
    return { ...captured, handles };
  }

  #restore(saved: RestoredGuest, flows: readonly FlowReport[] | 'without-flows'): Requests['restore']['result'] {
    if (this.#state.name !== 'fresh') throw new KedgeError('KEDGE_ENGINE_STATE', `the guest is ${this.#state.name}`);
    const handles = checkHandles(saved.handles);
    const sockets = SocketTable.restore(this.#host, handles.sockets, flows);
    try {
      if (handles.wasi === null) {
        this.#state = { name: 'ended', sockets, code: handles.exited };
        return { refused: sockets.refused };
      }
      const guest = this.#assemble(sockets, handles.wasi);
      try {
        this.#fill(guest.instance, saved);
      } catch (error) {
        guest.wasi.close();
        throw error;
      }
      this.#state = { name: 'restored', ...guest, savedWasi: handles.wasi };
      return { refused: sockets.refused };
    } catch (error) {
      sockets.destroy();
      throw error;
    }
  }

  #fill(instance: Instance, saved: Omit<RestoredGuest, 'handles'>): void {
    const { frames, globals, memoryPages } = saved;
    const memory = instance.growMemory(memoryPages);
    const others = saved.otherMemories.map((pages, n) => instance.growMemory(pages, n + 1));
    applyDeltas(saved.memory, [memory, ...others], [memoryPages, ...saved.otherMemories]);
    const call: { call?: CallState } = saved.call === undefined ? {} : { call: saved.call };
    const state = {
      originalHash: this.#given.instrumented.originalHash,
      memory,
      memoryPages,
      ...(others.length === 0 ? {} : { otherMemories: others }),
      globals,
      frames,
      ...call,
    };
    instance.restore(state, this.#original);
  }

  /** Goes on after a restore; a guest that had ended before only lingers. */
  #release(): void {
    const state = this.#state;
    if (state.name === 'ended') {
      state.sockets.release();
      const outcome = { kind: 'exited', code: state.code } as const;
      this.#say({ kind: 'outcome', outcome, lingering: state.sockets.sweep() });
      return this.#linger(state.sockets);
    }
    const guest = this.#live();
    guest.sockets.release();
    if (state.name === 'restored' && state.savedWasi !== undefined) guest.wasi.continueClock(state.savedWasi);
    this.#run(guest, () => guest.instance.resume());
  }

  #resume(): void {
    if (this.#state.name === 'ended') {
      this.#state.sockets.thaw();
      return this.#linger(this.#state.sockets);
    }
    const guest = this.#live();
    guest.sockets.thaw();
    this.#run(guest, () => guest.instance.resume());
  }

  #drain() {
    if (this.#state.name !== 'ended') return this.#live().sockets.drain();
    this.#stopLingering();
    return this.#state.sockets.drain();
  }

  #destroy(): void {
    this.#stopLingering();
    this.#captured = undefined;
    const state = this.#state;
    if (state.name === 'fresh') return;
    state.sockets.destroy();
    if (state.name !== 'ended') state.wasi.close();
    this.#state = { name: 'fresh' };
  }

  /** Carries out a request; one that ends the guest's rest once nobody reads the memory that was lent. */
  handle(request: WorkerRequest): void {
    const lending = this.#lending;
    if (lending === undefined || request.do === 'save' || request.do === 'memory' || request.do === 'drain')
      return this.#handle(request);
    this.#lending = undefined;
    void lending.end().then(() => this.#handle(request));
  }

  /** What runs guest code comes after the reply, which must not wait for it. */
  #handle(request: WorkerRequest): void {
    const { id } = request;
    let after: (() => void) | undefined;
    try {
      switch (request.do) {
        case 'start': {
          const guest = this.#assemble(new SocketTable(this.#host), undefined);
          this.#say({ kind: 'reply', id, result: null });
          after = () => this.#run(guest, () => guest.instance.start());
          break;
        }
        case 'drain':
          this.#stays = request.args.stays;
          this.#say({ kind: 'reply', id, result: this.#drain() });
          // While the gateway is asked about the cut: what is captured stays as it is until the guest runs.
          after = () => this.#captureAhead();
          break;
        case 'save':
          this.#save(id, request.args.flows);
          break;
        case 'memory': {
          if (this.#lending === undefined) throw new KedgeError('KEDGE_ENGINE_STATE', 'no memory of the guest is lent');
          const result = this.#lending.read(request.args.at, request.args.into);
          this.#say({ kind: 'reply', id, result }, [result.buffer as ArrayBuffer]);
          break;
        }
        case 'restore':
          this.#say({ kind: 'reply', id, result: this.#restore(request.args.saved, request.args.flows) });
          break;
        case 'resume':
        case 'release':
          this.#say({ kind: 'reply', id, result: null });
          after = () => (request.do === 'resume' ? this.#resume() : this.#release());
          break;
        case 'destroy':
          this.#destroy();
          this.#say({ kind: 'reply', id, result: null });
          break;
      }
    } catch (error) {
      this.#say({ kind: 'error', id, error: plain(coded(error)) });
    }
    after?.();
  }
}
