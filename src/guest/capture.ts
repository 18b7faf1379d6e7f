/**
 * What is taken of a guest that stands still. A large memory of one that stays is lent to its keeper: the section of its image is made
 * in the guest's thread, from where the memory is, and read piece by piece while the image is stored or sent; see `memory-section.ts`.
 */
import type { Instance } from '../engine/engine.ts';
import { PAGE_SIZE } from '../engine/wasm/initial-memory.ts';
import { KedgeError } from '../errors.ts';
import { copyFound, findRuns } from '../image/memory-delta.ts';
import type { Found } from '../image/memory-delta.ts';
import type { MemorySection } from '../image/memory-section.ts';
import { packInPlace } from '../image/memory-section.ts';
import { LEVEL } from '../image/writer.ts';
import type { SavedGuest } from './protocol.ts';

/** Bytes of memory from which on a copy of it takes longer than to lend it. */
const LEND_FROM = 8 * 1024 * 1024;

export type Captured = Omit<SavedGuest, 'handles' | 'memory'> & { readonly memory: Uint8Array | Lending };

/** `initial`: the memories as the module makes them. `stays`: see `Requests`. Throws what the engine says of a guest that is too deep. */
export function capture(instance: Instance, initial: readonly Uint8Array[], stays: boolean): Captured {
  const { frames, call, globals, memory, memoryPages, otherMemories = [] } = instance.capture();
  const found = findRuns([memory, ...otherMemories], initial);
  const large = stays && found.reduce((sum, { data }) => sum + data, 0) >= LEND_FROM;
  return {
    frames: { ...frames, bytes: frames.bytes.slice() },
    call,
    globals,
    memory: large ? new Lending(found) : copyFound(found),
    memoryPages,
    otherMemories: otherMemories.map(({ length }) => length / PAGE_SIZE),
  };
}

export class Lending {
  /** Undefined when it was ended before it was ready. */
  readonly section: Promise<MemorySection | undefined>;
  #ready: MemorySection | undefined;
  #ended = false;

  constructor(found: readonly Found[]) {
    this.section = packInPlace(found, LEVEL, () => this.#ended).then((section) => (this.#ready = section));
    // Nobody may ask for it.
    this.section.catch(() => undefined);
  }

  /** The section's bytes from `at` on, in `into`, as far as that was filled. Throws KEDGE_ENGINE_STATE while there is no section. */
  read(at: number, into: Uint8Array): Uint8Array {
    if (this.#ready === undefined) throw new KedgeError('KEDGE_ENGINE_STATE', 'the memory is not ready to be read');
    return into.subarray(0, this.#ready.read(at, into));
  }

  /** Resolves when nothing reads the memory any more. */
  async end(): Promise<void> {
    this.#ended = true;
    // That it failed is `save`'s to tell.
    await this.section.catch(() => undefined);
    this.#ready = undefined;
  }
}
