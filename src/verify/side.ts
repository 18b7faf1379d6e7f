/**
 * One guest of the two: runs for a number of points, has its host calls made or replayed, and can be made anew from a state that
 * it was in.
 */
import { bitsOf } from '../engine/bits.ts';
import { createHostCallContext } from '../engine/context.ts';
import {
  type CompiledModule,
  type ComputeState,
  type Engine,
  GuestExit,
  type HostFunction,
  type HostImports,
  type HostValue,
  type ImportedFunction,
  type Instance,
  type Outcome,
} from '../engine/engine.ts';
import { createCountedStop } from '../engine/stop.ts';
import type { Call, CallLog, CallRecord } from './call-log.ts';
import type { Recorder } from './recorder.ts';

/** What a side did in one run. */
export interface Ran {
  /** Points that it passed, the one at which it stopped included. */
  readonly points: number;
  /** `call`: it made another call than the one it was given. */
  readonly end: Outcome | { readonly kind: 'call'; readonly mismatch: CallMismatch };
}

/** A host call that is not the one on record. */
export class CallMismatch extends Error {
  /** Undefined when the first side made no further call. */
  readonly recorded: CallRecord | undefined;
  readonly made: Call;
  /** Where the guest's memory is not what the recorded call found, if that is all. */
  readonly at: { readonly address: number; readonly first: Uint8Array; readonly second: Uint8Array } | undefined;

  constructor(recorded: CallRecord | undefined, made: Call, at?: CallMismatch['at']) {
    super('a host call differs');
    this.name = 'CallMismatch';
    this.recorded = recorded;
    this.made = made;
    this.at = at;
  }
}

/** What all guests of one side have in common. */
export interface SideKind {
  readonly engine: Engine;
  readonly compiled: CompiledModule;
  /** The host's functions; only their types matter where there is no recorder. */
  readonly host: HostImports;
  readonly log: CallLog;
}

export class Side {
  readonly #kind: SideKind;
  readonly #stop = createCountedStop();
  readonly #context = createHostCallContext();
  readonly #instance: Instance;
  readonly #recorder: Recorder | undefined;
  #calls: number;

  /**
   * `calls`: how many were made before. With a recorder, calls that are not on record are made and recorded.
   * Throws KEDGE_IMPORT_UNKNOWN, KEDGE_IMPORT_TYPE, KEDGE_MODULE_INVALID as `Engine.instantiate` does.
   */
  constructor(kind: SideKind, calls: number, recorder?: Recorder) {
    this.#kind = kind;
    this.#calls = calls;
    this.#recorder = recorder;
    const { engine, compiled } = kind;
    this.#instance = engine.instantiate(compiled, this.#imports(), this.#stop, this.#context);
    // The one that host functions see, which need not be the first.
    recorder?.bind(() => this.#context.memory());
  }

  /** Host calls made so far. */
  get calls(): number {
    return this.#calls;
  }

  memories(): readonly Uint8Array[] {
    return this.#instance.memories();
  }

  capture(): ComputeState {
    return this.#instance.capture();
  }

  restore(state: ComputeState): void {
    this.#instance.restore(state);
  }

  /** Goes on until `points` more were passed, or to its end. */
  run(points: number): Ran {
    const { count } = this.#stop;
    count.left = points;
    const end = this.#go();
    return { points: points - count.left, end };
  }

  #go(): Ran['end'] {
    try {
      return this.#instance.resume();
    } catch (error) {
      if (!(error instanceof CallMismatch)) throw error;
      return { kind: 'call', mismatch: error };
    }
  }

  #imports(): HostImports {
    const imports: Record<string, Record<string, HostFunction>> = {};
    for (const wanted of this.#kind.compiled.module.imports) {
      const { module, name } = wanted;
      const offered = Object.hasOwn(this.#kind.host, module) ? this.#kind.host[module] : undefined;
      const real = offered !== undefined && Object.hasOwn(offered, name) ? offered[name] : undefined;
      // One that there is not is refused by the engine, by name.
      if (real !== undefined) (imports[module] ??= {})[name] = this.#wrap(wanted, real);
    }
    return imports;
  }

  #wrap({ module, name, type }: ImportedFunction, real: HostFunction): HostFunction {
    const call = (...args: HostValue[]): HostValue | undefined => {
      const made = { module, name, args: args.map((value, n) => bitsOf(type.params[n] ?? 'i32', value)) };
      const known = this.#kind.log.at(this.#calls);
      if (known !== undefined) {
        this.#replay(known, made);
        return this.#finish(known);
      }
      if (this.#recorder === undefined) throw new CallMismatch(undefined, made);
      const record = this.#recorder.record(made, () => (real.call as (...a: HostValue[]) => HostValue)(...args));
      this.#kind.log.push(record);
      return this.#finish(record);
    };
    return { signature: real.signature, call };
  }

  /** Checks that the call is the same, with the same bytes where it points, and writes what it wrote. */
  #replay(record: CallRecord, made: Call): void {
    const same =
      record.module === made.module &&
      record.name === made.name &&
      record.args.every((bits, n) => bits === made.args[n]);
    if (!same) throw new CallMismatch(record, made);
    const memory = this.#context.memory();
    for (const { at, bytes } of record.before) {
      const own = memory.subarray(at, at + bytes.length);
      if (Buffer.compare(own, bytes) === 0) continue;
      const from = bytes.findIndex((byte, n) => byte !== own[n]);
      const first = bytes.subarray(from, from + SHOWN);
      throw new CallMismatch(record, made, { address: at + from, first, second: own.slice(from, from + SHOWN) });
    }
    for (const { at, bytes } of record.after) memory.set(bytes, at);
  }

  #finish({ end }: CallRecord): HostValue | undefined {
    this.#calls += 1;
    if (end.kind === 'exited') throw new GuestExit(end.code);
    return end.result;
  }
}

/** Bytes of a difference in memory that are kept to be shown. */
const SHOWN = 16;
