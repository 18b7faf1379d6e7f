/** One instance of an instrumented module in V8. */
import { isMainThread, resourceLimits } from 'node:worker_threads';
import { KedgeError } from '../../errors.ts';
import type { HostValue, InstrumentedModule, StopSignal } from '../engine.ts';
import type { HostSide, Machine } from '../points/machine.ts';
import { STACK_EXHAUSTED, trapText } from '../traps.ts';
import type { MemoryEntry } from '../wasm/module.ts';

/** What the instrumented module says of its memories. */
export interface Memories {
  /** Those that it imports because a poll reads another, by name. */
  readonly imported: ReadonlyMap<string, MemoryEntry>;
  /** Index of the one that host functions use. */
  readonly host: number;
}

type Offered = Record<string, Record<string, unknown>>;

const NO_MEMORY = new Uint8Array(0);
const OURS = 'kedge';

/** What V8 gives a thread by default, and what Node keeps of a worker's stack for itself. */
const MAIN_STACK = 984 * 1024;
const KEPT_BACK = 192 * 1024;
const STACK = isMainThread ? MAIN_STACK : (resourceLimits.stackSizeMb ?? 4) * 2 ** 20 - KEPT_BACK;

export class V8Machine implements Machine {
  readonly #exports: Readonly<Record<string, unknown>>;
  readonly #memories: readonly WebAssembly.Memory[];
  readonly #unwinding: WebAssembly.Global | undefined;
  readonly #views: Uint8Array[];
  readonly #count: WebAssembly.Global | undefined;
  readonly hostMemory: number;
  readonly stackBytes = STACK;

  constructor(
    module: InstrumentedModule,
    compiled: WebAssembly.Module,
    memories: Memories,
    host: HostSide,
    stop: StopSignal,
  ) {
    const offered: Offered = {};
    module.imports.forEach((wanted, n) => {
      (offered[wanted.module] ??= {})[wanted.name] = host.imports[n];
    });
    const own: Record<string, unknown> = { ...host.own, stop: stop.handle };
    try {
      for (const [name, { initial, maximum }] of memories.imported) {
        own[name] = new WebAssembly.Memory(maximum === undefined ? { initial } : { initial, maximum });
      }
      this.#exports = new WebAssembly.Instance(compiled, { ...offered, [OURS]: own }).exports;
    } catch (cause) {
      // The module's fault (a data segment outside its memory) or a lack of memory.
      const why = cause instanceof Error ? cause.message.replace(/^WebAssembly\.\w+\(\): /u, '') : String(cause);
      throw new KedgeError('KEDGE_MODULE_INVALID', `the module cannot be instantiated: ${why}`, { cause });
    }
    this.#memories = exportedMemories(this.#exports);
    this.#views = this.#memories.map(() => NO_MEMORY);
    this.hostMemory = memories.host;
    const unwinding = this.#exports['kedge:unwind'];
    this.#unwinding = unwinding instanceof WebAssembly.Global ? unwinding : undefined;
    const count = this.#exports['kedge:stop'];
    this.#count = count instanceof WebAssembly.Global ? count : undefined;
  }

  get otherMemories(): number {
    return Math.max(0, this.#memories.length - 1);
  }

  memory(index: number): Uint8Array {
    const buffer = this.#memories[index]?.buffer;
    const view = this.#views[index] ?? NO_MEMORY;
    if (buffer === undefined || view.buffer === buffer) return view;
    return (this.#views[index] = new Uint8Array(buffer));
  }

  grow(index: number, pages: number): boolean {
    try {
      return this.#memories[index]?.grow(pages) !== undefined;
    } catch {
      return false;
    }
  }

  call(name: string, ...args: readonly HostValue[]): unknown {
    return this.#function(name)(...args);
  }

  parameters(name: string): number {
    return this.#function(name).length;
  }

  #function(name: string): (...args: readonly HostValue[]) => unknown {
    const found = this.#exports[name];
    if (typeof found !== 'function') throw missing(name);
    return found as (...args: readonly HostValue[]) => unknown;
  }

  setUnwinding(value: 0 | 1): boolean {
    if (this.#unwinding === undefined) return false;
    this.#unwinding.value = value;
    return true;
  }

  tableSize(name: string): number {
    return this.#table(name).length;
  }

  tableGet(name: string, at: number): unknown {
    return this.#table(name).get(at);
  }

  #table(name: string): WebAssembly.Table {
    const found = this.#exports[name];
    if (!(found instanceof WebAssembly.Table)) throw missing(name);
    return found;
  }

  settle(): void {
    // The guest reads the signal's own memory.
  }

  count(): number | undefined {
    return this.#count === undefined ? undefined : Number(this.#count.value);
  }

  setCount(left: number): void {
    if (this.#count !== undefined) this.#count.value = left;
  }

  dispose(): void {
    // The collector sees what an instance holds.
  }

  trapOf(error: unknown): string | undefined {
    if (error instanceof RangeError && error.message.includes('call stack')) return STACK_EXHAUSTED;
    return error instanceof WebAssembly.RuntimeError ? trapText(error.message) : undefined;
  }
}

function exportedMemories(exports: Readonly<Record<string, unknown>>): readonly WebAssembly.Memory[] {
  const found: WebAssembly.Memory[] = [];
  for (;;) {
    const memory = exports[`kedge:memory:${found.length}`];
    if (!(memory instanceof WebAssembly.Memory)) return found;
    found.push(memory);
  }
}

function missing(name: string): KedgeError {
  return new KedgeError('KEDGE_MODULE_INVALID', `the instrumented module lacks its export ${name}`);
}
