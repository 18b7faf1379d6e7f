/** A guest as its agent keeps it: who it is, how it is doing, and what it printed. */
import type { InstrumentedModule } from '../engine/engine.ts';
import { KedgeError } from '../errors.ts';
import type { Guest, GuestState } from '../guest/guest.ts';
import type { GuestInfo, Incoming } from './protocol.ts';

export type LogPart = { readonly stream: 'stdout' | 'stderr'; readonly bytes: Uint8Array };

/** Bytes of output an agent remembers of each guest. */
const LOG_BYTES = 1024 * 1024;

/** The last of what a guest printed, and who follows it. */
export class Log {
  readonly #parts: LogPart[] = [];
  #bytes = 0;
  readonly #followers = new Set<(part: LogPart) => void>();

  add(part: LogPart): void {
    this.#parts.push(part);
    this.#bytes += part.bytes.length;
    while (this.#bytes > LOG_BYTES && this.#parts.length > 1) this.#bytes -= this.#parts.shift()?.bytes.length ?? 0;
    for (const follow of this.#followers) follow(part);
  }

  parts(): readonly LogPart[] {
    return [...this.#parts];
  }

  /** Calls for each further part until the returned function is called. */
  follow(take: (part: LogPart) => void): () => void {
    this.#followers.add(take);
    return () => this.#followers.delete(take);
  }
}

/** Everything that makes a guest what it is, wherever it runs. The epoch is that of this life. */
export type Identity = Incoming & { readonly module: Uint8Array; readonly instrumented: InstrumentedModule };

/**
 * What an agent is doing with a guest. Only an idle one can be moved, checkpointed or stopped; `stranded` is stopped after a failed
 * move until the gateway can be asked who has it.
 */
export type Task = 'idle' | 'moving' | 'stopping' | 'stranded';

export class Kept {
  readonly identity: Identity;
  readonly guest: Guest;
  readonly log: Log;
  task: Task = 'idle';
  /** Set when nothing is left here: where it went, or why it failed. */
  fate: string | undefined;

  constructor(identity: Identity, guest: Guest, log: Log) {
    this.identity = identity;
    this.guest = guest;
    this.log = log;
  }

  /** Marks the guest for one task; two at once are refused. */
  begin(task: 'moving' | 'stopping'): void {
    if (this.guest.state.name === 'ended') {
      const how = this.fate === undefined ? 'has ended' : `was ${this.fate}`;
      throw new KedgeError('KEDGE_GUEST_ENDED', `guest ${this.identity.name} ${how}`);
    }
    if (this.task !== 'idle')
      throw new KedgeError('KEDGE_GUEST_BUSY', `guest ${this.identity.name} is ${this.task} already`, {
        hint: 'wait until that is done: kedge ps',
      });
    this.task = task;
  }

  info(): GuestInfo {
    const { id, name, address, epoch, publish, moduleName, startedAt } = this.identity;
    const state = this.guest.state;
    return {
      id,
      name,
      address,
      epoch,
      publish,
      engine: 'v8',
      module: moduleName,
      startedAt,
      state: stateName(state, this.task),
      ...ending(state),
      ...(this.fate === undefined ? {} : { message: this.fate }),
    };
  }
}

function stateName(state: GuestState, task: Task): GuestInfo['state'] {
  if (state.name === 'ended') {
    switch (state.end.kind) {
      case 'exited':
      case 'trapped':
        return state.end.kind;
      case 'crashed':
        return 'failed';
      case 'destroyed':
        return 'gone';
    }
  }
  if (task === 'moving' || task === 'stranded') return 'moving';
  return state.name === 'lingering' ? 'lingering' : 'running';
}

function ending(state: GuestState): { exitCode?: number; message?: string } {
  if (state.name !== 'ended' && state.name !== 'lingering') return {};
  const { end } = state;
  if (end.kind === 'exited') return { exitCode: end.code };
  return end.kind === 'destroyed' ? {} : { message: end.message };
}
