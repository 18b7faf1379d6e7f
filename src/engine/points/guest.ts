/**
 * One guest with stable points, on any engine.
 *
 * Theory of operation. A stop is asked for by the signal, which raises the flag that the guest's polls read; the next poll calls
 * `kedge.poll`, and if that agrees all functions leave, frame by frame, through `FrameTransfer`. A host call that suspends sets
 * `kedge:unwind` and the same happens. The call into the guest then returns, and it is `stopped`. Going on calls `kedge:resume:`,
 * which enters the frames from the outermost to the innermost; if the innermost stands at a host call, that is issued again.
 *
 * A module with a start function has two stages, each with frames of its own; the first is over before `_start` begins.
 *
 * Limits: how deep a guest may recurse is the engine's affair (V8: the stack of the thread, WAMR: `STACK_SIZE`). Frames of the
 * resume versions are larger, so a guest that was near the limit may not fit again: KEDGE_STACK_TOO_DEEP.
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
import { STACK_EXHAUSTED } from '../traps.ts';
import { PAGE_SIZE } from '../wasm/initial-memory.ts';
import type { ModuleInfo } from '../wasm/module.ts';
import { checkStack, type PointsModule, sameValues } from './check.ts';
import type { HostCall, Machine, MakeMachine } from './machine.ts';
import { readReferences } from './references.ts';
import { corrupt, decodeStack, encodeStack, ENCODING, type Frame, type Stack } from './stack.ts';
import { State } from './state.ts';
import { FrameTransfer } from './transfer.ts';

type Phase = 'fresh' | 'running' | 'unwinding' | 'stopped' | 'ended';

const NOTHING = new Uint8Array(0);

export class PointsGuest implements Instance {
  readonly #checked: PointsModule;
  readonly #module: InstrumentedModule;
  readonly #stop: StopSignal;
  readonly #context: CallContext;
  readonly #machine: Machine;
  readonly #transfer: FrameTransfer;
  readonly #state: State;
  #phase: Phase = 'fresh';
  #stage: Stack['stage'];
  /** Of a stopped guest, outermost first. */
  #frames: readonly Frame[] = [];
  /** The host call at which a stopped guest stands. */
  #call: CallState | undefined = undefined;
  /** The same while its frames enter, until it is issued again. */
  #again: CallState | undefined = undefined;

  constructor(
    checked: PointsModule,
    make: MakeMachine,
    imports: HostImports,
    stop: StopSignal,
    context: HostCallContext,
  ) {
    const { module, table } = checked;
    if (!(context instanceof CallContext)) {
      throw new TypeError('make the context with createHostCallContext()');
    }
    if ((module.flag === 'count') !== (stop.count !== undefined)) {
      throw new TypeError('a module that counts polls goes with createCountedStop(), any other does not');
    }
    this.#checked = checked;
    this.#module = module;
    this.#stop = stop;
    this.#context = context;
    this.#stage = table.hasStart ? 'start' : 'main';
    const offered = resolveImports(module.imports, imports);
    this.#transfer = new FrameTransfer(
      table,
      readReferences(() => this.#machine, table),
    );
    this.#machine = make({
      imports: module.imports.flatMap((wanted, n) => {
        const found = offered[n];
        return found === undefined ? [] : [this.#wrap(wanted, found)];
      }),
      own: { ...this.#transfer.functions, poll: () => this.#poll() },
    });
    this.#state = new State(this.#machine, table, this.#transfer);
    context.bind(
      () => this.#machine.memory(this.#machine.hostMemory),
      () => stop.requested(),
    );
  }

  memory(index = 0): Uint8Array {
    return this.#machine.memory(index);
  }

  growMemory(pages: number, index = 0): Uint8Array {
    const missing = pages - this.memory(index).length / PAGE_SIZE;
    if (missing > 0 && !this.#machine.grow(index, missing)) {
      throw new KedgeError('KEDGE_RESTORE_MEMORY', `cannot have ${pages} pages of guest memory`);
    }
    return this.memory(index);
  }

  memories(): readonly Uint8Array[] {
    return [this.memory(), ...Array.from({ length: this.#machine.otherMemories }, (_, n) => this.memory(n + 1))];
  }

  start(): Outcome {
    this.#expect('fresh');
    return this.#run(false);
  }

  resume(): Outcome {
    if (this.#phase === 'fresh') {
      return this.start();
    }
    this.#expect('stopped');
    this.#transfer.enter(this.#frames);
    this.#again = this.#call;
    return this.#run(true);
  }

  capture(): ComputeState {
    if (this.#phase !== 'fresh') {
      this.#expect('stopped');
    }
    const memory = this.memory();
    const others = this.memories().slice(1);
    const { originalHash, policy } = this.#module;
    return {
      originalHash,
      memory,
      memoryPages: memory.length / PAGE_SIZE,
      ...(others.length === 0 ? {} : { otherMemories: others }),
      globals: this.#state.numbers(),
      frames: { encoding: ENCODING, policy, bytes: this.#phase === 'stopped' ? this.#encoded() : NOTHING },
      ...(this.#call === undefined ? {} : { call: this.#call }),
    };
  }

  #encoded(): Uint8Array {
    return encodeStack({ stage: this.#stage, frames: this.#frames, ...this.#state.capture() });
  }

  restore(state: ComputeState, original?: ModuleInfo): void {
    this.#expect('fresh');
    checkFits(state, this.#module);
    const stack = state.frames.bytes.length === 0 ? undefined : decodeStack(state.frames.bytes);
    const { stackBytes } = this.#machine;
    if (stack !== undefined) checkStack(stack, state.call, this.#checked, { stackBytes, original });
    fillMemory(this.growMemory(state.memoryPages), state.memory, state.memoryPages, PAGE_SIZE);
    const others = state.otherMemories ?? [];
    if (others.length !== this.#machine.otherMemories) {
      throw new KedgeError('KEDGE_FRAMES_MISMATCH', `the captured state has ${others.length + 1} memories`);
    }
    others.forEach((captured, n) => {
      const pages = captured.length / PAGE_SIZE;
      fillMemory(this.growMemory(pages, n + 1), captured, pages, PAGE_SIZE);
    });
    this.#state.setNumbers(state.globals);
    if (stack === undefined) return;
    this.#state.restore(stack);
    this.#stage = stack.stage;
    this.#frames = stack.frames;
    this.#call = state.call;
    this.#phase = 'stopped';
  }

  #expect(phase: Phase): void {
    if (this.#phase !== phase) {
      throw new KedgeError('KEDGE_ENGINE_STATE', `the guest is ${this.#phase}, not ${phase}`);
    }
  }

  #run(entering: boolean): Outcome {
    const { count } = this.#stop;
    if (count === undefined) return this.#go(entering);
    this.#machine.setCount(count.left);
    try {
      return this.#go(entering);
    } finally {
      count.left = this.#machine.count() ?? count.left;
    }
  }

  #go(entering: boolean): Outcome {
    for (let enter = entering; ; enter = false) {
      this.#phase = 'running';
      this.#machine.settle();
      try {
        this.#machine.call(enter ? 'kedge:resume:' : this.#stage === 'start' ? 'kedge:start' : '_start');
      } catch (error) {
        return this.#thrown(error);
      }
      // Host functions have changed it meanwhile.
      if ((this.#phase as Phase) === 'unwinding') {
        this.#machine.setUnwinding(0);
        this.#frames = this.#transfer.left();
        this.#phase = 'stopped';
        return { kind: 'stopped' };
      }
      if (!this.#transfer.whole || this.#again !== undefined) {
        this.#phase = 'ended';
        throw corrupt('they do not lead back into the guest');
      }
      if (this.#stage === 'main') {
        this.#phase = 'ended';
        return { kind: 'exited', code: 0 };
      }
      this.#stage = 'main';
    }
  }

  #thrown(error: unknown): Outcome {
    const phase = this.#phase;
    this.#phase = 'ended';
    if (error instanceof GuestExit) return { kind: 'exited', code: error.exitCode };
    const message = this.#machine.trapOf(error);
    if (message === undefined) throw error;
    const entering = !this.#transfer.whole || this.#again !== undefined;
    if (phase === 'running' && !entering) return { kind: 'trapped', message };
    if (message === STACK_EXHAUSTED) {
      throw new KedgeError('KEDGE_STACK_TOO_DEEP', `the guest's stack is too deep (${entering ? 'entering' : phase})`, {
        hint: 'let the guest recurse less deeply',
        cause: error,
      });
    }
    throw corrupt(`the code does not fit them: ${message}`);
  }

  /** Asked by the guest when it finds its flag raised: 1 stops it here. */
  #poll(): number {
    if (this.#again !== undefined) throw this.#lostCall();
    if (!this.#stop.requested()) {
      this.#machine.settle();
      return 0;
    }
    this.#call = undefined;
    this.#unwind();
    return 1;
  }

  #unwind(): void {
    this.#transfer.begin();
    this.#phase = 'unwinding';
  }

  #wrap(wanted: ImportedFunction, offered: HostFunction): HostCall {
    const context = this.#context;
    const { params, results } = wanted.type;
    const ignored = results[0] === 'i64' ? 0n : 0;
    // The signature was checked against the import's type, so what arrives is what the function takes.
    const call = offered.call as HostCall;
    const bits = (args: readonly HostValue[]): readonly bigint[] =>
      args.map((value, i) => bitsOf(params[i] ?? 'i32', value));
    return (...args) => {
      const again = this.#again;
      if (again === undefined) {
        context.enter(false, undefined);
      } else {
        const same = again.module === wanted.module && again.name === wanted.name;
        if (!this.#transfer.whole || !same || !sameValues(params, again.args, bits(args))) throw this.#lostCall();
        this.#again = undefined;
        context.enter(true, again.pending);
      }
      const result = call(...args);
      if (!context.suspended) {
        return result;
      }
      this.#call = {
        module: wanted.module,
        name: wanted.name,
        args: bits(args),
        ...(context.pending === undefined ? {} : { pending: context.pending }),
      };
      if (!this.#machine.setUnwinding(1)) {
        throw new KedgeError('KEDGE_ENGINE_STATE', 'the guest has no stable point here');
      }
      this.#unwind();
      return ignored;
    };
  }

  #lostCall(): KedgeError {
    return corrupt('they lead to another place than the call that was recorded');
  }
}
