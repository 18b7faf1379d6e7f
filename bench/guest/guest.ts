/**
 * A small host for programs of `bench/programs`, on V8: as much of WASI as they use, and the host's side of the stable-point
 * pass. It measures what instrumented code costs without anything else of Kedge around it.
 */
import v8 from 'node:v8';
import { memoryImports, type Point, pointsOf } from './points.ts';

// What Kedge sets too: V8 then knows which branches of instrumented code are cold.
v8.setFlagsFromString('--experimental-wasm-branch-hinting');

type Value = number | bigint;
type Callback = (...args: Value[]) => Value | undefined;

/** A module that can be run many times; engines keep what they optimised from run to run. */
export class Program {
  readonly module: WebAssembly.Module;
  readonly points: readonly Point[];
  readonly #memories: ReturnType<typeof memoryImports>;

  constructor(bytes: Uint8Array<ArrayBuffer>) {
    this.module = new WebAssembly.Module(bytes);
    this.points = pointsOf(bytes);
    this.#memories = memoryImports(bytes);
  }

  /** Fresh memories for the imports that want one. */
  memories(stop: WebAssembly.Memory | undefined): ReadonlyMap<string, WebAssembly.Memory> {
    return new Map(
      this.#memories.map(({ name, initial, maximum, shared }) => [
        name,
        stop !== undefined && shared
          ? stop
          : new WebAssembly.Memory({ initial, ...(maximum === undefined ? {} : { maximum }), shared }),
      ]),
    );
  }
}

/** A word that stops the guest when it is not 0; another thread may write it. */
export function stopMemory(): WebAssembly.Memory {
  return new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
}

type Frame = { readonly point: Point; readonly values: Value[] };

/** How many i32 or i64 a value of a type crosses as. */
function words(letter: string): number {
  return letter === 'v' ? 2 : 1;
}

class Exit extends Error {}

/** One run of a program. */
export class Guest {
  readonly #program: Program;
  readonly #exports: Record<string, unknown>;
  readonly #memory: WebAssembly.Memory;
  readonly #stop: Int32Array | undefined;
  readonly #arguments: readonly string[];
  /** Those that left, innermost first. */
  #frames: Frame[] = [];
  /** Those still to enter, outermost last. */
  #pending: Frame[] = [];
  /** Values of the frame that is entered, the first last. */
  #queue: Value[] = [];
  #entry = 0;
  /** All that it wrote. */
  output = '';
  /** Called at each poll that finds the flag set. */
  onPoll: () => boolean = () => true;

  constructor(program: Program, args: readonly string[], stop?: WebAssembly.Memory) {
    this.#program = program;
    this.#arguments = ['program', ...args];
    const memories = program.memories(stop);
    const flag = [...memories.values()].find((memory) => memory.buffer instanceof SharedArrayBuffer);
    this.#stop = flag === undefined ? undefined : new Int32Array(flag.buffer);
    const imports: Record<string, Record<string, unknown>> = {};
    for (const { module, name, kind } of WebAssembly.Module.imports(program.module)) {
      const offered = kind === 'memory' ? memories.get(name) : this.#function(module, name);
      if (offered !== undefined) (imports[module] ??= {})[name] = offered;
    }
    this.#exports = new WebAssembly.Instance(program.module, imports).exports;
    const memory = memories.get('memory:0') ?? this.#exports['memory'] ?? this.#exports['kedge:memory'];
    if (!(memory instanceof WebAssembly.Memory)) throw new Error('the program has no memory');
    this.#memory = memory;
  }

  /** Runs from the beginning: true when it ended, false when it stopped at a stable point. */
  start(): boolean {
    return this.#run(this.#exports['_start'] === undefined ? 'kedge:main' : '_start');
  }

  /** Goes on after a stop, through the resume versions of all frames. */
  resume(): boolean {
    this.#write('kedge:unwind', 0);
    this.#queue = [];
    this.#pending = this.#frames;
    this.#frames = [];
    return this.#run('kedge:resume:');
  }

  /**
   * V8 optimises what is hot at once here and not in another thread, which would wait for its turn on a busy machine. Other guests of
   * this process are not to stand still for it.
   */
  #run(name: string): boolean {
    v8.setFlagsFromString('--wasm-sync-tier-up');
    try {
      (this.#exports[name] as () => void)();
    } catch (error) {
      if (!(error instanceof Exit)) throw error;
    } finally {
      v8.setFlagsFromString('--no-wasm-sync-tier-up');
    }
    return this.#frames.length === 0;
  }

  #function(module: string, name: string): Callback {
    return module === 'kedge' ? this.#ours(name) : this.#wasi(name);
  }

  #ours(name: string): Callback {
    switch (name) {
      case 'poll':
        return () => (this.onPoll() ? 1 : 0);
      case 'frame':
        return (number) => {
          const point = this.#program.points[Number(number)];
          if (point === undefined) throw new Error('a frame at no point');
          this.#frames.push({ point, values: [] });
          return undefined;
        };
      case 'save_i32':
      case 'save_i64':
        return (value) => {
          this.#frames.at(-1)?.values.push(value ?? 0);
          return undefined;
        };
      case 'next':
        return () => this.#next();
      case 'entry':
        return () => this.#entry;
      case 'load_i32':
        return () => Number(this.#queue.pop() ?? 0);
      case 'load_i64':
        return () => BigInt(this.#queue.pop() ?? 0n);
      default:
        return () => 0;
    }
  }

  /** Lines up the values of the next frame inwards. */
  #next(): number {
    const frame = this.#pending.pop();
    if (frame === undefined) throw new Error('there are no more frames');
    const { slot, ordinal, locals, temps, live, operands } = frame.point;
    // Values were saved in the order in which they are loaded; what the point does not name becomes zero.
    let at = 0;
    const take = (letters: readonly string[], held: readonly number[]): Value[] =>
      letters.flatMap((letter, index) => {
        const values = frame.values.slice(at, (at += words(letter)));
        return held.includes(index) ? values : values.map(() => 0);
      });
    this.#queue = [...take(locals, live), ...take(temps, operands)].toReversed();
    this.#entry = ordinal;
    return slot;
  }

  #wasi(name: string): Callback {
    const view = (): DataView => new DataView(this.#memory.buffer);
    const word = (at: Value | undefined, value: number): void => view().setUint32(Number(at), value, true);
    const texts = this.#arguments.map((text) => new TextEncoder().encode(`${text}\0`));
    switch (name) {
      case 'args_sizes_get':
        return (count, size) => {
          word(count, texts.length);
          word(
            size,
            texts.reduce((sum, text) => sum + text.length, 0),
          );
          return 0;
        };
      case 'args_get':
        return (list, buffer) => {
          let at = Number(buffer);
          texts.forEach((text, index) => {
            word(Number(list) + 4 * index, at);
            new Uint8Array(this.#memory.buffer).set(text, at);
            at += text.length;
          });
          return 0;
        };
      case 'environ_sizes_get':
        return (count, size) => {
          word(count, 0);
          word(size, 0);
          return 0;
        };
      case 'environ_get':
        return () => 0;
      case 'fd_write':
        return (_, list, count, written) => {
          let size = 0;
          for (let index = 0; index < Number(count); index += 1) {
            const at = view().getUint32(Number(list) + 8 * index, true);
            const length = view().getUint32(Number(list) + 8 * index + 4, true);
            this.output += new TextDecoder().decode(new Uint8Array(this.#memory.buffer, at, length));
            size += length;
          }
          word(written, size);
          return 0;
        };
      case 'proc_exit':
        return (code) => {
          throw code === 0 ? new Exit() : new Error(`the program ended with ${code}`);
        };
      case 'fd_fdstat_get':
        return (_, at) => {
          new Uint8Array(this.#memory.buffer).fill(0, Number(at), Number(at) + 24);
          view().setUint8(Number(at), 2);
          return 0;
        };
      case 'clock_time_get':
        return (_, __, at) => {
          view().setBigUint64(Number(at), 0n, true);
          return 0;
        };
      // EBADF: there are no directories.
      case 'fd_prestat_get':
        return () => 8;
      // ENOSYS: nothing else is used, only linked.
      default:
        return () => 52;
    }
  }

  /** Asks for a stop, or takes that back. */
  request(wanted: boolean): void {
    if (this.#stop !== undefined) Atomics.store(this.#stop, 0, wanted ? 1 : 0);
    this.#write('kedge:stop', wanted ? 1 : 0);
  }

  /** Writes an exported global, if there is one. */
  #write(name: string, value: number): void {
    const found = this.#exports[name];
    if (typeof found === 'object' && found !== null && 'value' in found) found.value = value;
  }
}
