/**
 * Runs one module on two engines in lock step and finds the first point at which they differ.
 *
 * Theory of operation. Both engines run the same instrumented form, whose polls count points down; so each can be stopped after any
 * number of points, at the speed of a run that is not stopped. The first side runs by a stride of points and calls the host really;
 * its calls are recorded. Then the second does, and is given what is on record. Where both have stopped, all of their states must be
 * equal; that becomes the mark to which `locate` goes back when the next stride ends in a difference.
 *
 * Not seen is a difference that leaves no trace in the state at the end of its stride, nor in a host call. With a stride of 1 there is
 * none.
 */
import type { Engine, Policy } from '../engine/engine.ts';
import { instrument } from '../engine/points/instrument.ts';
import { decodeStack } from '../engine/points/stack.ts';
import { PointTable } from '../engine/points/table.ts';
import { describeInstruction } from '../engine/wasm/instructions.ts';
import { showLine, sourceLines } from '../engine/wasm/lines.ts';
import { functionNames } from '../engine/wasm/names.ts';
import { CallLog } from './call-log.ts';
import type { Difference } from './difference.ts';
import { locate } from './locate.ts';
import { Pair, type Both, type Mark, type PairKind, type Step } from './pair.ts';
import { Recorder } from './recorder.ts';
import type { Divergence, End, Place, Verdict } from './verdict.ts';
import { World, type WorldOptions } from './world.ts';

export interface VerifyOptions extends WorldOptions {
  readonly module: Uint8Array;
  /** The first calls the host, the second is given what it got. */
  readonly engines: Both<Engine>;
  readonly policy: Policy;
  /** Points between two comparisons, 1 to 2^31 - 1. */
  readonly stride: number;
  /** Points after which it is enough. */
  readonly limit?: number;
  /** Called after each stride. */
  readonly progress?: (done: { readonly points: number; readonly calls: number }) => void;
}

/**
 * Throws what `instrument` and the engines say of a module that cannot be run (KEDGE_MODULE_UNSUPPORTED, KEDGE_MODULE_INVALID,
 * KEDGE_IMPORT_UNKNOWN and others), KEDGE_PREOPEN_INVALID, and KEDGE_STACK_TOO_DEEP for a guest that cannot be stopped where it is.
 */
export function verify(options: VerifyOptions): Verdict {
  const { module, engines, policy } = options;
  const form = instrument(module, policy, 'count');
  const compiled = [engines[0].compile(form), engines[1].compile(form)] as const;
  const recorder = new Recorder();
  const world = new World(recorder, options);
  let equal = false;
  try {
    const table = new PointTable(form.bytes);
    const kind = { engines, compiled, table, host: world.wasi.imports, log: new CallLog() };
    const verdict = new Comparer(kind, recorder, options).run();
    equal = verdict.equal;
    return verdict;
  } finally {
    world.close(equal);
  }
}

class Comparer {
  readonly #kind: PairKind;
  readonly #recorder: Recorder;
  readonly #options: VerifyOptions;
  #nan: number | null = null;

  constructor(kind: PairKind, recorder: Recorder, options: VerifyOptions) {
    this.#kind = kind;
    this.#recorder = recorder;
    this.#options = options;
  }

  run(): Verdict {
    const { stride, limit = Infinity, progress } = this.#options;
    const { log } = this.#kind;
    const pair = Pair.begin(this.#kind, this.#recorder);
    const { differences } = pair.compare();
    if (differences.length > 0) return this.#diverged(0, { calls: 0, place: null, differences, unseen: 0 });
    let mark = pair.mark(0);
    for (;;) {
      const length = Math.min(stride, limit - mark.points);
      const step = pair.run(length);
      const [{ end, points }] = step.ran;
      if (step.differences.length > 0) return this.#locate(mark, length, step.differences);
      this.#note(step, mark.points + points);
      const passed = mark.points + points;
      progress?.({ points: passed, calls: log.end });
      if (end.kind === 'exited' || end.kind === 'trapped') return this.#ended(mark, points, end);
      if (passed >= limit) return this.#equal(passed, { kind: 'limit' });
      mark = pair.mark(passed, mark);
      log.forget(mark.calls);
    }
  }

  /** Nothing but memory is left of guests that have ended, so they are looked at once more where they stood last. */
  #ended(mark: Mark, points: number, end: End): Verdict {
    const { differences } = points === 0 ? { differences: [] } : Pair.at(this.#kind, mark).run(points);
    return differences.length > 0 ? this.#locate(mark, points, differences) : this.#equal(mark.points + points, end);
  }

  #note({ nan }: Step, points: number): void {
    if (nan) this.#nan ??= points;
  }

  #equal(points: number, end: End): Verdict {
    return { equal: true, points, calls: this.#kind.log.end, end, divergence: null, nan: this.#nan };
  }

  #diverged(point: number, divergence: Omit<Divergence, 'point'>): Verdict {
    const { calls } = divergence;
    return { equal: false, points: point, calls, end: null, divergence: { point, ...divergence }, nan: this.#nan };
  }

  /** They differ somewhere in so many points from the mark on, or right behind these. */
  #locate(mark: Mark, length: number, differences: readonly Difference[]): Verdict {
    const found = locate(this.#kind, mark, length);
    if (found === undefined) {
      const { calls, points } = mark;
      return this.#diverged(points + length, { calls, place: this.#place(mark), differences, unseen: length - 1 });
    }
    return this.#diverged(mark.points + found.points, {
      calls: found.equal.calls,
      place: this.#place(found.equal),
      differences: found.differences,
      unseen: found.unseen,
    });
  }

  /** Where a guest stands innermost. */
  #place({ states: [{ frames }] }: Mark): Place | null {
    if (frames.bytes.length === 0) return null;
    const frame = decodeStack(frames.bytes).frames.at(-1);
    if (frame === undefined) return null;
    const { module } = this.#options;
    const names = functionNames(module);
    const line = sourceLines(module, [frame.offset]).get(frame.offset);
    return {
      function: frame.function,
      name: names.get(frame.function) ?? null,
      offset: frame.offset,
      instruction: describeInstruction(module, frame.offset, names),
      source: line === undefined ? null : showLine(line),
    };
  }
}
