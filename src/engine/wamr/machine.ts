/**
 * One instance of an instrumented module in WAMR.
 *
 * The native binding holds nothing of JavaScript: the host functions are given with every call into the guest and are called from
 * there. What a host function throws comes out of `call` unchanged, so `GuestExit` works as it does everywhere. Linear memory is
 * seen through one view, which is empty (detached) once the memory moved or grew.
 *
 * Limits: a view of linear memory may not be transferred to another thread. The depth of a guest's recursion is `STACK_SIZE`,
 * whatever the thread's own stack is.
 */
import { KedgeError } from '../../errors.ts';
import { native } from '../../native.ts';
import type { HostValue, StopSignal } from '../engine.ts';
import type { HostCall, HostSide, Machine } from '../points/machine.ts';
import { endBySignal, followSignal } from '../stop.ts';
import { trapText } from '../traps.ts';

export type NativeModule = InstanceType<typeof native.WamrModule>;

/** Bytes for the frames of a guest. WAMR clears them all when an instance is made, so they are there from the beginning. */
const STACK_SIZE = 6 << 20;

const NO_MEMORY = new Uint8Array(0);

export class WamrMachine implements Machine {
  readonly #loaded: NativeModule;
  readonly #instance: InstanceType<typeof native.WamrInstance>;
  readonly #functions: readonly HostCall[];
  readonly #settle: () => void;
  #memory: Uint8Array = NO_MEMORY;
  /** WAMR runs no module that has several. */
  readonly otherMemories = 0;
  readonly hostMemory = 0;
  readonly stackBytes: number;

  constructor(loaded: NativeModule, host: HostSide, stop: StopSignal, stackBytes = STACK_SIZE) {
    this.stackBytes = stackBytes;
    this.#loaded = loaded;
    // In the order in which the instrumented module imports them: the original's first.
    this.#functions = loaded.imports().map(({ module, name }, n) => {
      const call = host.imports[n] ?? (module === 'kedge' ? host.own[name] : undefined);
      if (call === undefined) {
        throw new KedgeError('KEDGE_MODULE_INVALID', `the instrumented module imports ${module}.${name}`);
      }
      return call as HostCall;
    });
    try {
      this.#instance = new native.WamrInstance(loaded, stackBytes);
    } catch (cause) {
      const why = cause instanceof Error ? cause.message : String(cause);
      throw new KedgeError('KEDGE_MODULE_INVALID', `the module cannot be instantiated: ${why}`, { cause });
    }
    const flag = stop.count === undefined ? this.#instance.shareFlag('kedge:stop') : 0;
    this.#settle = flag === 0 ? () => {} : followSignal(stop, flag).settle;
    endBySignal(stop, this.#instance.shareEnd());
  }

  memory(index: number): Uint8Array {
    if (index === 0 && this.#memory.length === 0) {
      this.#memory = new Uint8Array(this.#instance.memory());
    }
    return this.#memory;
  }

  grow(index: number, pages: number): boolean {
    return index === 0 && this.#instance.grow(pages);
  }

  call(name: string, ...args: readonly HostValue[]): unknown {
    return this.#instance.call(name, args, this.#functions);
  }

  parameters(name: string): number {
    return /\((.*)\)/u.exec(this.#loaded.function(name) ?? '')?.[1]?.length ?? 0;
  }

  setUnwinding(value: 0 | 1): boolean {
    return this.#instance.setGlobal('kedge:unwind', value, 0);
  }

  tableSize(name: string): number {
    return this.#instance.tableSize(name) ?? 0;
  }

  /** A reference is a function index of the instrumented module. */
  tableGet(name: string, at: number): unknown {
    const index = this.#instance.tableGet(name, at);
    return index < 0 ? null : index;
  }

  settle(): void {
    this.#settle();
  }

  count(): number | undefined {
    const bits = this.#instance.getGlobal('kedge:stop');
    return bits === null ? undefined : bits[0] | 0;
  }

  setCount(left: number): void {
    this.#instance.setGlobal('kedge:stop', left, 0);
  }

  dispose(): void {
    this.#instance.dispose();
  }

  trapOf(error: unknown): string | undefined {
    return error instanceof Error && 'code' in error && error.code === 'KEDGE_TRAP'
      ? trapText(error.message)
      : undefined;
  }
}
