/**
 * One guest in WAMR, without stable points: it runs to its end.
 *
 * Theory of operation: guest code runs inside `call` of the native instance, in this thread, and host functions are called
 * from there. What a host function throws comes out of `call` unchanged, so `GuestExit` works as it does everywhere. Linear
 * memory is seen through one view, which is empty (detached) once the memory moved or grew.
 *
 * Limits: a view of linear memory may not be transferred to another thread. The depth of a guest's recursion is `STACK_SIZE`, whatever the thread's own stack is.
 */
import { KedgeError } from '../../errors.ts';
import { native } from '../../native.ts';
import { CallContext } from '../context.ts';
import {
  type ComputeState,
  GuestExit,
  type HostCallContext,
  type HostFunction,
  type HostImports,
  type HostValue,
  type Instance,
  type InstrumentedModule,
  type Outcome,
  type StopSignal,
} from '../engine.ts';
import { checkFits, fillMemory } from '../fits.ts';
import { resolveImports } from '../imports.ts';
import { NAMES } from '../instrument/names.ts';
import { PAGE_SIZE } from '../wasm/initial-memory.ts';

type Phase = 'fresh' | 'running' | 'ended';
type HostCall = (...args: HostValue[]) => HostValue | undefined;

/** Bytes for the frames of a guest. */
const STACK_SIZE = 1 << 20;

const NOTHING = new Uint8Array(0);

export class WamrInstance implements Instance {
  readonly #module: InstrumentedModule;
  readonly #context: CallContext;
  readonly #native: InstanceType<typeof native.WamrInstance>;
  readonly #functions: readonly HostCall[];
  #phase: Phase = 'fresh';
  #memory: Uint8Array = NOTHING;

  constructor(
    module: InstrumentedModule,
    loaded: InstanceType<typeof native.WamrModule>,
    imports: HostImports,
    stop: StopSignal,
    context: HostCallContext,
  ) {
    if (!(context instanceof CallContext)) {
      throw new TypeError('make the context with createHostCallContext()');
    }
    this.#module = module;
    this.#context = context;
    this.#functions = resolveImports(module.imports, imports).map((offered) => this.#wrap(offered));
    this.#native = instantiate(loaded);
    context.bind(
      () => this.memory(),
      () => stop.requested(),
    );
  }

  memory(): Uint8Array {
    if (this.#memory.length === 0) {
      this.#memory = new Uint8Array(this.#native.memory());
    }
    return this.#memory;
  }

  growMemory(pages: number): Uint8Array {
    const missing = pages - this.memory().length / PAGE_SIZE;
    if (missing > 0 && !this.#native.grow(missing)) {
      throw new KedgeError('KEDGE_RESTORE_MEMORY', `cannot have ${pages} pages of guest memory`);
    }
    return this.memory();
  }

  start(): Outcome {
    this.#expect('fresh');
    this.#phase = 'running';
    try {
      this.#native.call(NAMES.main, [], this.#functions);
      return { kind: 'exited', code: 0 };
    } catch (error) {
      if (error instanceof GuestExit) return { kind: 'exited', code: error.exitCode };
      if (isTrap(error)) return { kind: 'trapped', message: error.message };
      throw error;
    } finally {
      this.#phase = 'ended';
    }
  }

  resume(): Outcome {
    return this.start();
  }

  capture(): ComputeState {
    this.#expect('fresh');
    const memory = this.memory();
    const { originalHash, encoding, policy, hash, globals } = this.#module;
    return {
      originalHash,
      memory,
      memoryPages: memory.length / PAGE_SIZE,
      globals: globals.map((type, n) => ({
        type,
        bits: BigInt.asUintN(64, BigInt(this.#native.call(NAMES.getGlobal(n), [], this.#functions) as bigint)),
      })),
      frames: { encoding, policy, moduleHash: hash, bytes: NOTHING },
    };
  }

  restore(state: ComputeState): void {
    this.#expect('fresh');
    checkFits(state, this.#module);
    if (state.frames.bytes.length > 0) {
      throw new KedgeError('KEDGE_FRAMES_MISMATCH', 'a guest without stable points has no frames');
    }
    fillMemory(this.growMemory(state.memoryPages), state, PAGE_SIZE);
    state.globals.forEach((global, n) => {
      // CBOR gives small integers back as numbers.
      this.#native.call(NAMES.setGlobal(n), [BigInt.asIntN(64, BigInt(global.bits))], this.#functions);
    });
  }

  #expect(phase: Phase): void {
    if (this.#phase !== phase) {
      throw new KedgeError('KEDGE_ENGINE_STATE', `the guest is ${this.#phase}, not ${phase}`);
    }
  }

  #wrap(offered: HostFunction): HostCall {
    const context = this.#context;
    // The signature was checked against the import's type, so what arrives is what the function takes.
    const call = offered.call as HostCall;
    return (...args) => {
      context.enter(false, undefined);
      const result = call(...args);
      if (context.suspended) {
        throw new KedgeError('KEDGE_ENGINE_STATE', 'a guest instrumented with policy none cannot be stopped');
      }
      return result;
    };
  }
}

function instantiate(loaded: InstanceType<typeof native.WamrModule>): InstanceType<typeof native.WamrInstance> {
  try {
    return new native.WamrInstance(loaded, STACK_SIZE);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new KedgeError('KEDGE_MODULE_INVALID', `the module cannot be instantiated: ${why}`, { cause });
  }
}

function isTrap(error: unknown): error is Error {
  return error instanceof Error && 'code' in error && error.code === 'KEDGE_TRAP';
}
