/**
 * One guest in V8.
 *
 * Theory of operation: the instance is in one of the states of `Phase`. A poll (`#poll`) or a host call that suspends
 * puts Asyncify into its unwinding state; `main` then returns with all frames in the frames memory. Going on calls
 * `main` again in the rewinding state, which walks into the innermost frame and there issues the same poll or host call
 * again; that ends the rewinding.
 *
 * Limits: the depth of a guest's recursion is V8's own stack (a worker's `resourceLimits.stackSizeMb`). Fresh code is not
 * optimised yet and its frames may be larger, so a guest that was near the limit may not fit again: KEDGE_STACK_TOO_DEEP.
 */
import { KedgeError } from '../../errors.ts';
import { bitsOf } from '../bits.ts';
import { CallContext } from '../context.ts';
import {
  type CallState,
  type ComputeState,
  GuestExit,
  type HostCallContext,
  type HostFunction,
  type HostImports,
  type HostValue,
  type ImportedFunction,
  type Instance,
  type InstrumentedModule,
  type Outcome,
  type StopSignal,
} from '../engine.ts';
import { checkFits, fillMemory } from '../fits.ts';
import { resolveImports } from '../imports.ts';
import { NAMES } from '../instrument/names.ts';
import { STACK_EXHAUSTED, trapOfV8 } from '../traps.ts';
import { PAGE_SIZE } from '../wasm/initial-memory.ts';
import { type InstrumentedExports, readExports } from './exports.ts';
import { FrameStack } from './frames.ts';

type Phase = 'fresh' | 'running' | 'unwinding' | 'rewinding' | 'stopped' | 'ended';

type Offered = Readonly<Record<string, Readonly<Record<string, unknown>>>>;

/** Instantiates; what fails there is the module's fault (a data segment outside its memory) or a lack of memory. */
function instantiate(compiled: WebAssembly.Module, offered: Offered): Readonly<Record<string, unknown>> {
  try {
    return new WebAssembly.Instance(compiled, offered).exports;
  } catch (cause) {
    const why = cause instanceof Error ? cause.message.replace(/^WebAssembly\.Instance\(\): /u, '') : String(cause);
    throw new KedgeError('KEDGE_MODULE_INVALID', `the module cannot be instantiated: ${why}`, { cause });
  }
}

type HostCall = (...args: HostValue[]) => HostValue | undefined;

const NO_MEMORY = new Uint8Array(0);

export class V8Instance implements Instance {
  readonly #module: InstrumentedModule;
  readonly #stop: StopSignal;
  readonly #context: CallContext;
  readonly #exports: InstrumentedExports;
  readonly #stack: FrameStack | undefined;
  #phase: Phase = 'fresh';
  /** The host call at which the guest stands, or undefined at a poll. */
  #call: CallState | undefined = undefined;
  #memory: Uint8Array = NO_MEMORY;

  constructor(
    module: InstrumentedModule,
    compiled: WebAssembly.Module,
    imports: HostImports,
    stop: StopSignal,
    context: HostCallContext,
  ) {
    if (!(context instanceof CallContext)) {
      throw new TypeError('make the context with createHostCallContext()');
    }
    this.#module = module;
    this.#stop = stop;
    this.#context = context;
    const functions: Record<string, Record<string, unknown>> = {};
    const resolved = resolveImports(module.imports, imports);
    module.imports.forEach((wanted, index) => {
      const found = resolved[index];
      if (found !== undefined) {
        (functions[wanted.module] ??= {})[wanted.name] = this.#wrap(wanted, found);
      }
    });
    functions[NAMES.module] = { [NAMES.stop]: stop.handle, [NAMES.poll]: () => this.#poll() };
    this.#exports = readExports(instantiate(compiled, functions), module.globals.length);
    this.#stack = this.#exports.unwinding && new FrameStack(this.#exports.unwinding);
    context.bind(
      () => this.memory(),
      () => stop.requested(),
    );
  }

  memory(): Uint8Array {
    const buffer = this.#exports.memory?.buffer;
    if (buffer !== undefined && this.#memory.buffer !== buffer) {
      this.#memory = new Uint8Array(buffer);
    }
    return this.#memory;
  }

  start(): Outcome {
    this.#expect('fresh');
    this.#phase = 'running';
    return this.#run();
  }

  resume(): Outcome {
    if (this.#phase === 'fresh') {
      return this.start();
    }
    this.#expect('stopped');
    this.#stack?.startRewind();
    this.#phase = 'rewinding';
    return this.#run();
  }

  capture(): ComputeState {
    if (this.#phase !== 'fresh') {
      this.#expect('stopped');
    }
    const memory = this.memory();
    const { originalHash, encoding, policy, hash, globals } = this.#module;
    return {
      originalHash,
      memory,
      memoryPages: memory.length / PAGE_SIZE,
      globals: globals.map((type, n) => ({ type, bits: BigInt.asUintN(64, this.#exports.globals[n]?.get() ?? 0n) })),
      frames: {
        encoding,
        policy,
        moduleHash: hash,
        bytes: this.#phase === 'stopped' && this.#stack !== undefined ? this.#stack.read() : NO_MEMORY,
      },
      ...(this.#call === undefined ? {} : { call: this.#call }),
    };
  }

  restore(state: ComputeState): void {
    this.#expect('fresh');
    checkFits(state, this.#module);
    fillMemory(this.growMemory(state.memoryPages), state, PAGE_SIZE);
    // CBOR gives small integers back as numbers.
    state.globals.forEach((global, n) => this.#exports.globals[n]?.set(BigInt.asIntN(64, BigInt(global.bits))));
    if (state.frames.bytes.length > 0) {
      this.#stack?.write(state.frames.bytes);
      this.#phase = 'stopped';
      this.#call = state.call;
    }
  }

  growMemory(pages: number): Uint8Array {
    const missing = pages - this.memory().length / PAGE_SIZE;
    if (missing > 0) {
      try {
        this.#exports.memory?.grow(missing);
      } catch (cause) {
        throw new KedgeError('KEDGE_RESTORE_MEMORY', `cannot have ${pages} pages of guest memory`, { cause });
      }
    }
    return this.memory();
  }

  #expect(phase: Phase): void {
    if (this.#phase !== phase) {
      throw new KedgeError('KEDGE_ENGINE_STATE', `the guest is ${this.#phase}, not ${phase}`);
    }
  }

  #run(): Outcome {
    try {
      this.#exports.main();
    } catch (error) {
      return this.#thrown(error);
    }
    if (this.#phase === 'unwinding') {
      this.#stack?.stopUnwind();
      this.#phase = 'stopped';
      return { kind: 'stopped' };
    }
    if (this.#phase === 'rewinding') {
      this.#phase = 'ended';
      throw new KedgeError('KEDGE_FRAMES_CORRUPT', 'the frames do not lead back into the guest');
    }
    this.#phase = 'ended';
    return { kind: 'exited', code: 0 };
  }

  #thrown(error: unknown): Outcome {
    const phase = this.#phase;
    this.#phase = 'ended';
    if (error instanceof GuestExit) {
      return { kind: 'exited', code: error.exitCode };
    }
    const overflow = error instanceof RangeError && error.message.includes('call stack');
    if (phase === 'running' && (overflow || error instanceof WebAssembly.RuntimeError)) {
      return { kind: 'trapped', message: overflow ? STACK_EXHAUSTED : trapOfV8(error.message) };
    }
    if (overflow || (phase === 'unwinding' && error instanceof WebAssembly.RuntimeError)) {
      throw new KedgeError('KEDGE_STACK_TOO_DEEP', `the guest's stack is too deep (${phase})`, {
        hint: 'give the guest a larger stack or let it recurse less deeply',
        cause: error,
      });
    }
    if (phase === 'rewinding' && error instanceof WebAssembly.RuntimeError) {
      throw new KedgeError('KEDGE_FRAMES_CORRUPT', 'the frames do not fit the code', { cause: error });
    }
    throw error;
  }

  /** Called by the guest at a stable point, when the flag was set; and at the end of rewinding to such a point. */
  #poll(): void {
    // Asked first: should the stack end here, the guest is still where it was.
    const stopping = this.#stop.requested();
    if (this.#phase === 'rewinding') {
      this.#endRewind();
      if (this.#call !== undefined) {
        throw this.#lostCall();
      }
    }
    if (stopping) {
      this.#call = undefined;
      this.#unwind();
    }
  }

  #wrap(wanted: ImportedFunction, offered: HostFunction): HostCall {
    const context = this.#context;
    const { params, results } = wanted.type;
    const ignored = results[0] === 'i64' ? 0n : 0;
    // The signature was checked against the import's type, so what arrives is what the function takes.
    const call = offered.call as HostCall;
    return (...args) => {
      if (this.#phase === 'rewinding') {
        this.#endRewind();
        const interrupted = this.#call;
        if (interrupted?.module !== wanted.module || interrupted.name !== wanted.name) {
          throw this.#lostCall();
        }
        this.#call = undefined;
        context.enter(true, interrupted.pending);
      } else {
        context.enter(false, undefined);
      }
      const result = call(...args);
      if (!context.suspended) {
        return result;
      }
      this.#call = {
        module: wanted.module,
        name: wanted.name,
        args: args.map((value, i) => bitsOf(params[i] ?? 'i32', value)),
        ...(context.pending === undefined ? {} : { pending: context.pending }),
      };
      this.#unwind();
      return ignored;
    };
  }

  #unwind(): void {
    if (this.#stack === undefined) {
      throw new KedgeError('KEDGE_ENGINE_STATE', 'a guest instrumented with policy none cannot be stopped');
    }
    this.#phase = 'unwinding';
    this.#stack.startUnwind();
  }

  #endRewind(): void {
    if (this.#stack?.empty !== true) {
      throw new KedgeError('KEDGE_FRAMES_CORRUPT', 'the frames end too late');
    }
    this.#stack.stopRewind();
    this.#phase = 'running';
  }

  #lostCall(): KedgeError {
    return new KedgeError('KEDGE_FRAMES_CORRUPT', 'the frames lead to another place than the one recorded');
  }
}
