import type { HostCallContext, PendingState } from './engine.ts';

const NO_MEMORY = new Uint8Array(0);

/** What an engine calls on a context; host functions see only `HostCallContext`. */
export class CallContext implements HostCallContext {
  resumed = false;
  pending: PendingState | undefined = undefined;
  /** Set by `suspend`; the engine looks at it when the host function has returned. */
  suspended = false;
  #memory: () => Uint8Array = () => NO_MEMORY;
  #stopRequested: () => boolean = () => false;

  suspend(): void {
    this.suspended = true;
  }

  stopRequested(): boolean {
    return this.#stopRequested();
  }

  memory(): Uint8Array {
    return this.#memory();
  }

  /** Ties the context to the instance whose calls it serves. */
  bind(memory: () => Uint8Array, stopRequested: () => boolean): void {
    this.#memory = memory;
    this.#stopRequested = stopRequested;
  }

  /** Begins one call. */
  enter(resumed: boolean, pending: PendingState | undefined): void {
    this.resumed = resumed;
    this.pending = pending;
    this.suspended = false;
  }
}

/** A context for one guest; make it before the imports, and give it to `Engine.instantiate`. */
export function createHostCallContext(): HostCallContext {
  return new CallContext();
}
