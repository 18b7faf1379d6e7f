import { KedgeError } from '../../errors.ts';
import type { Unwinding } from './exports.ts';

/** Address of Asyncify's header in the frames memory: two words, the top of the stack and its limit. */
const HEADER = 0;
/** Where the stack begins, growing upwards. */
const BASE = 16;

/**
 * The memory into which frames leave. It belongs to the engine alone; guest code cannot name it. It is as large as its
 * limit, so a stack that does not fit traps at its end instead of overwriting anything.
 */
export class FrameStack {
  readonly #unwinding: Unwinding;

  constructor(unwinding: Unwinding) {
    this.#unwinding = unwinding;
  }

  /** Starts leaving; the frames of the host call's callers follow. */
  startUnwind(): void {
    this.#setTop(BASE);
    this.#unwinding.startUnwind(HEADER);
  }

  stopUnwind(): void {
    this.#unwinding.stopUnwind();
  }

  /** Starts going back into the frames that are in the memory. */
  startRewind(): void {
    this.#unwinding.startRewind(HEADER);
  }

  stopRewind(): void {
    this.#unwinding.stopRewind();
  }

  /** A copy of the frames. */
  read(): Uint8Array {
    return new Uint8Array(this.#unwinding.frames.buffer).slice(BASE, this.#top());
  }

  /** Puts frames back. Throws KEDGE_STACK_TOO_DEEP when they are more than the memory holds. */
  write(frames: Uint8Array): void {
    const memory = new Uint8Array(this.#unwinding.frames.buffer);
    if (BASE + frames.length > memory.length) {
      throw new KedgeError('KEDGE_STACK_TOO_DEEP', `frames of ${frames.length} bytes do not fit`);
    }
    memory.set(frames, BASE);
    this.#setTop(BASE + frames.length);
  }

  /** True when rewinding has used up all frames: the innermost call has been reached. */
  get empty(): boolean {
    return this.#top() === BASE;
  }

  #top(): number {
    return new DataView(this.#unwinding.frames.buffer).getUint32(HEADER, true);
  }

  #setTop(top: number): void {
    const view = new DataView(this.#unwinding.frames.buffer);
    view.setUint32(HEADER, top, true);
    view.setUint32(HEADER + 4, view.byteLength, true);
  }
}
