/** The two sides, run in turn by the same number of points and compared. */
import type { CompiledModule, ComputeState, Engine, HostImports } from '../engine/engine.ts';
import type { PointTable } from '../engine/points/table.ts';
import type { CallLog } from './call-log.ts';
import { compareMemories, compareStates, type Comparison, type Difference, memoriesOf } from './difference.ts';
import { describeEnd, differentCall } from './ends.ts';
import type { Recorder } from './recorder.ts';
import { Side, type Ran } from './side.ts';

const NO_MEMORY = new Uint8Array(0);

export type Both<Item> = readonly [first: Item, second: Item];

/** What a guest was at a point, on both sides: equal, but for the bits of NaNs. */
export interface Mark {
  /** Points passed. */
  readonly points: number;
  /** Host calls made. */
  readonly calls: number;
  readonly states: Both<ComputeState>;
}

export interface Step extends Comparison {
  readonly ran: Both<Ran>;
}

/** All that is needed to make pairs. */
export interface PairKind {
  readonly engines: Both<Engine>;
  readonly compiled: Both<CompiledModule>;
  readonly table: PointTable;
  readonly host: HostImports;
  readonly log: CallLog;
}

export class Pair {
  readonly #kind: PairKind;
  readonly #sides: Both<Side>;

  private constructor(kind: PairKind, calls: number, recorder?: Recorder) {
    const { engines, compiled, host, log } = kind;
    this.#kind = kind;
    this.#sides = [
      new Side({ engine: engines[0], compiled: compiled[0], host, log }, calls, recorder),
      new Side({ engine: engines[1], compiled: compiled[1], host, log }, calls),
    ];
  }

  /** Guests that have not begun, of which the first calls the host really. Throws as `Engine.instantiate` does. */
  static begin(kind: PairKind, recorder: Recorder): Pair {
    return new Pair(kind, 0, recorder);
  }

  /** Guests as they were; they do what they did then, with all host calls from the log. */
  static at(kind: PairKind, mark: Mark): Pair {
    const pair = new Pair(kind, mark.calls);
    pair.#sides.forEach((side, n) => side.restore(mark.states[n === 0 ? 0 : 1]));
    return pair;
  }

  /** Runs both by so many points, or to their ends, and compares. */
  run(points: number): Step {
    const [a, b] = this.#sides;
    const ran = [a.run(points), b.run(points)] as const;
    return { ...this.#compare(ran), ran };
  }

  /** Compares guests that have not begun. */
  compare(): Comparison {
    const [a, b] = this.#sides;
    return compareStates(this.#kind.table, [a.capture(), b.capture()]);
  }

  /** The state of both, which stand still at equal points. A copy, in the room of another mark's if that is given. */
  mark(points: number, old?: Mark): Mark {
    const [a, b] = this.#sides;
    const states = [a.capture(), b.capture()] as const;
    const rooms = old === undefined ? [] : memoriesOf(old.states[0]);
    const [memory = NO_MEMORY, ...others] = memoriesOf(states[0]).map((live, n) => {
      const room = rooms[n];
      const copied = room?.length === live.length ? room : new Uint8Array(live.length);
      copied.set(live);
      return copied;
    });
    // Equal on both sides, or there would be no mark.
    const copy = (state: ComputeState): ComputeState => ({
      ...state,
      memory,
      ...(others.length === 0 ? {} : { otherMemories: others }),
    });
    return { points, calls: a.calls, states: [copy(states[0]), copy(states[1])] };
  }

  #compare([first, second]: Both<Ran>): Comparison {
    const [a, b] = this.#sides;
    const differ = (differences: readonly Difference[]): Comparison => ({ differences, nan: false });
    if (second.end.kind === 'call') return differ(differentCall(second.end.mismatch));
    if (first.end.kind === 'call') return differ(differentCall(first.end.mismatch));
    const [one, other] = [first, second].map((ran) => describeEnd(ran.end));
    if (one !== other) return differ([{ kind: 'outcome', first: one ?? '', second: other ?? '' }]);
    if (first.points !== second.points) {
      const [x, y] = [first, second].map((ran) => `${one} after ${ran.points} points`);
      return differ([{ kind: 'outcome', first: x ?? '', second: y ?? '' }]);
    }
    if (first.end.kind === 'stopped') {
      const comparison = compareStates(this.#kind.table, [a.capture(), b.capture()]);
      if (comparison.differences.length > 0 || a.calls === b.calls) return comparison;
    }
    if (a.calls !== b.calls) {
      return differ([{ kind: 'call', first: `${a.calls} host calls`, second: `${b.calls} host calls` }]);
    }
    return differ(compareMemories([a.memories(), b.memories()]));
  }
}
