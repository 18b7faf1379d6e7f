/**
 * An instance whose exports are called one after the other, without the life of a guest: what `PointsGuest` does for `_start`, for any
 * export that takes and gives nothing. Scripts of the core test suite and random modules are run in this way.
 */
import { createHash } from 'node:crypto';
import { bitsOf } from '../../../src/engine/bits.ts';
import type { CallState, CompiledModule, GlobalState, Policy } from '../../../src/engine/engine.ts';
import { ENGINES, type EngineName } from '../../../src/engine/engines.ts';
import { addMemory, canonicalBits } from '../../../src/engine/hash.ts';
import { checkStack, resultCounts } from '../../../src/engine/points/check.ts';
import { instrument } from '../../../src/engine/points/instrument.ts';
import type { HostCall, Machine } from '../../../src/engine/points/machine.ts';
import { readReferences } from '../../../src/engine/points/references.ts';
import { decodeStack, encodeStack, type Frame } from '../../../src/engine/points/stack.ts';
import { State } from '../../../src/engine/points/state.ts';
import { PointTable } from '../../../src/engine/points/table.ts';
import { FrameTransfer } from '../../../src/engine/points/transfer.ts';
import { createStopSignal } from '../../../src/engine/stop.ts';
import { v8Machine } from '../../../src/engine/v8/engine.ts';
import { wamrMachine } from '../../../src/engine/wamr/engine.ts';
import { type ModuleInfo, parseModule } from '../../../src/engine/wasm/module.ts';
import { PAGE_SIZE } from '../../../src/engine/wasm/initial-memory.ts';

/** WAMR clears the whole stack of each instance, and here are thousands. */
const STACK = 512 * 1024;
const MACHINES: Readonly<Record<EngineName, (...args: Parameters<typeof v8Machine>) => Machine>> = {
  v8: v8Machine,
  wamr: (compiled, host, stop) => wamrMachine(compiled, host, stop, STACK),
};

/** For all instances of this thread, of which one runs at a time: a signal has a memory of its own, which takes long to make. */
const STOP = createStopSignal();

/** A module made ready for an engine. */
export interface Form {
  readonly engine: EngineName;
  readonly compiled: CompiledModule;
  readonly table: PointTable;
  /** Of the original's functions; see `resultCounts`. */
  readonly results: Uint16Array;
  readonly original: ModuleInfo;
}

/** Throws the KedgeError that says why it cannot run there. */
export function formOf(engine: EngineName, module: Uint8Array, policy: Policy): Form {
  const adapter = ENGINES[engine];
  const instrumented = instrument(module, policy, adapter.flag);
  return {
    engine,
    compiled: adapter.compile(instrumented),
    table: new PointTable(instrumented.bytes),
    results: resultCounts(parseModule(instrumented.bytes)),
    original: parseModule(module),
  };
}

export type Ended =
  { readonly kind: 'returned' } | { readonly kind: 'stopped' } | { readonly kind: 'trapped'; readonly message: string };

/** All that an instance is made of, between calls or in one. */
export interface Snapshot {
  /** All of them, in the module's order. */
  readonly memories: readonly Uint8Array[];
  readonly globals: readonly GlobalState[];
  /** As an image has it. */
  readonly stack: Uint8Array;
}

/** What the host does: gives a result, or, if it says so, has the call issued again later. */
export interface BareHost {
  readonly call: (module: string, name: string, args: readonly (number | bigint)[]) => number | bigint | undefined;
  /** Asked at each issue that is not the second of a call. */
  readonly suspends?: () => boolean;
}

/** Asked at each poll: stop here, go on, or go on and do not ask again in this call. */
export type Asked = () => 'stop' | 'on' | 'never';

export class Bare {
  readonly #table: PointTable;
  readonly #transfer: FrameTransfer;
  readonly #machine: Machine;
  readonly #state: State;
  readonly #host: BareHost;
  #asked: Asked | undefined;
  #unwinding = false;
  #again = false;
  #frames: readonly Frame[] = [];
  #call: CallState | undefined = undefined;
  readonly #form: Form;

  /** Throws KEDGE_MODULE_INVALID when instantiation traps. The start function has not run. */
  constructor(form: Form, host: BareHost) {
    const { engine, compiled, table } = form;
    this.#form = form;
    this.#table = table;
    this.#host = host;
    this.#transfer = new FrameTransfer(
      table,
      readReferences(() => this.#machine, table),
    );
    const imports = compiled.module.imports.map(({ module, name, type }): HostCall => {
      const ignored = type.results[0] === 'i64' ? 0n : 0;
      return (...args) => {
        if (!this.#suspends()) return host.call(module, name, args);
        this.#call = { module, name, args: args.map((value, n) => bitsOf(type.params[n] ?? 'i32', value)) };
        return ignored;
      };
    });
    const own = { ...this.#transfer.functions, poll: () => this.#poll() };
    this.#machine = MACHINES[engine](compiled, { imports, own }, STOP);
    this.#state = new State(this.#machine, table, this.#transfer);
  }

  #suspends(): boolean {
    if (this.#again) {
      this.#again = false;
      return false;
    }
    if (this.#host.suspends?.() !== true || !this.#machine.setUnwinding(1)) return false;
    this.#unwind();
    return true;
  }

  #poll(): number {
    const answer = this.#asked?.() ?? 'never';
    if (answer === 'never') STOP.clear();
    if (answer !== 'stop') {
      this.#machine.settle();
      return 0;
    }
    this.#unwind();
    return 1;
  }

  #unwind(): void {
    this.#transfer.begin();
    this.#unwinding = true;
    this.#call = undefined;
  }

  /** Runs the start function, if there is one. */
  start(asked?: Asked): Ended {
    return this.#table.hasStart ? this.call('kedge:start', asked) : { kind: 'returned' };
  }

  call(name: string, asked?: Asked): Ended {
    this.#asked = asked;
    if (asked === undefined) STOP.clear();
    else STOP.request();
    this.#machine.settle();
    try {
      this.#machine.call(name);
    } catch (error) {
      const message = this.#machine.trapOf(error);
      if (message === undefined) throw error;
      return { kind: 'trapped', message };
    }
    if (!this.#unwinding) return { kind: 'returned' };
    this.#unwinding = false;
    this.#machine.setUnwinding(0);
    this.#frames = this.#transfer.left();
    return { kind: 'stopped' };
  }

  /** Goes on after `stopped`, or after a restore of one that was. */
  resume(asked?: Asked): Ended {
    this.#transfer.enter(this.#frames);
    this.#again = this.#call !== undefined;
    this.#frames = [];
    return this.call('kedge:resume:', asked);
  }

  capture(): Snapshot & { readonly call: CallState | undefined } {
    const stack = encodeStack({ stage: 'main', frames: this.#frames, ...this.#state.capture() });
    const memories = Array.from({ length: 1 + this.#machine.otherMemories }, (_, n) => this.#machine.memory(n).slice());
    return { memories, globals: this.#state.numbers(), stack, call: this.#call };
  }

  /** Makes this fresh instance equal to another. */
  restore({ memories, globals, stack, call }: Snapshot & { readonly call: CallState | undefined }): void {
    for (const [n, memory] of memories.entries()) {
      const missing = (memory.length - this.#machine.memory(n).length) / PAGE_SIZE;
      if (missing > 0 && !this.#machine.grow(n, missing)) throw new Error('no memory for a restore');
      this.#machine.memory(n).set(memory);
    }
    this.#state.setNumbers(globals);
    const decoded = decodeStack(stack);
    const { compiled, table, results, original } = this.#form;
    // How deep it may be is not the subject here.
    const room = { stackBytes: Infinity, original };
    if (decoded.frames.length > 0) checkStack(decoded, call, { module: compiled.module, table, results }, room);
    this.#state.restore(decoded);
    this.#frames = decoded.frames;
    this.#call = call;
  }

  /** Thousands of instances would wait for a collector that sees little of them. */
  dispose(): void {
    this.#machine.dispose();
  }

  /** The bits of a mutable global that holds a number. */
  global(index: number): bigint {
    return BigInt.asUintN(64, BigInt(this.#machine.call(`kedge:get_global:${index}`) as bigint));
  }
}

/** Equal for equal snapshots; any NaN is one. */
export function snapshotHash({ memories, globals, stack }: Snapshot): string {
  const digest = createHash('sha256');
  for (const memory of memories) {
    digest.update(`${memory.length}\n`);
    addMemory(digest, memory);
  }
  digest.update(stack);
  for (const { type, bits } of globals) digest.update(`${type} ${canonicalBits(type, bits)}\n`);
  return digest.digest('hex');
}
