/** A guest as its agent keeps it: who it is, how it is doing, and what it printed. */
import type { InstrumentedModule } from '../engine/engine.ts';
import type { EngineName } from '../engine/engines.ts';
import { KedgeError } from '../errors.ts';
import type { Guest, GuestState } from '../guest/guest.ts';
import type { GuestInfo, Incoming } from './protocol.ts';

export type LogPart = { readonly stream: 'stdout' | 'stderr'; readonly bytes: Uint8Array };

/** Bytes of output an agent remembers of each guest; what a part costs besides its bytes counts too. */
const LOG_BYTES = 1024 * 1024;
const PART_COST = 64;
const LONGEST_PART = LOG_BYTES - PART_COST;
/** How far a guest may print ahead of the reader that it waits for. */
const AHEAD = LOG_BYTES / 2;

/** Output with its place: parts are counted from 0, `at` are the bytes before it. */
type Remembered = LogPart & { readonly number: number; readonly at: number };

/** `missed` are the bytes that were forgotten between the part before and this one. */
export type ReadPart = LogPart & { readonly missed: number };

/**
 * The last of what a guest printed. Readers take it at their own pace; one that is too slow misses what was forgotten, and is told. One
 * reader can be waited for: then nothing is forgotten that it has not taken, and `add` says when there is room for more.
 */
export class Log {
  readonly #parts: Remembered[] = [];
  #bytes = 0;
  #next = 0;
  /** Bytes that were printed, remembered or not. */
  #printed = 0;
  #more = Promise.withResolvers<void>();
  /** Bytes that the reader has taken which is waited for; undefined when none is. */
  #awaited: number | undefined;
  #room = Promise.withResolvers<void>();

  /** `waits`: for the reader that `readAwaited` makes, from now on until `release`. */
  constructor(waits = false) {
    if (waits) this.#awaited = 0;
  }

  /** Of a part that is longer than the log only the end is kept. Returns what settles when more can come, if it should wait for that. */
  add({ stream, bytes }: LogPart): Promise<void> | undefined {
    // A copy, since a view of the end would hold the whole.
    const kept = bytes.length > LONGEST_PART ? bytes.slice(-LONGEST_PART) : bytes;
    this.#printed += bytes.length;
    this.#parts.push({ stream, bytes: kept, number: this.#next++, at: this.#printed - kept.length });
    this.#bytes += kept.length + PART_COST;
    this.#forget();
    this.#wake();
    return this.#isFull() ? this.#room.promise : undefined;
  }

  #isFull(): boolean {
    return this.#awaited !== undefined && this.#printed - this.#awaited > AHEAD;
  }

  #forget(): void {
    for (let first = this.#parts[0]; first !== undefined && this.#bytes > LOG_BYTES; first = this.#parts[0]) {
      if (this.#awaited !== undefined && first.at >= this.#awaited) return;
      this.#bytes -= first.bytes.length + PART_COST;
      this.#parts.shift();
    }
  }

  #awaitedAt(taken: number | undefined): void {
    this.#awaited = taken;
    this.#forget();
    if (this.#isFull()) return;
    this.#room.resolve();
    this.#room = Promise.withResolvers();
  }

  /** Nobody is waited for any more. */
  release(): void {
    this.#awaitedAt(undefined);
  }

  /** As `read`, for the reader that is waited for: what it has not asked for yet is kept. */
  async *readAwaited(until: Promise<unknown>): AsyncGenerator<ReadPart, void> {
    let taken = 0;
    for await (const part of this.read(until)) {
      taken += part.missed + part.bytes.length;
      yield part;
      if (this.#awaited !== undefined) this.#awaitedAt(taken);
    }
  }

  #wake(): void {
    this.#more.resolve();
    this.#more = Promise.withResolvers();
  }

  /** What is remembered, and then what comes, until `until` settles: what was there by then is given still. */
  async *read(until: Promise<unknown>): AsyncGenerator<ReadPart, void> {
    let taken = 0;
    let over = false;
    const end = (): void => {
      over = true;
      this.#wake();
    };
    until.then(end, end);
    // A promise that is settled already is seen before the first wait.
    await Promise.resolve();
    for (let wanted = 0; ;) {
      const first = this.#parts[0]?.number ?? this.#next;
      const part = this.#parts[Math.max(wanted, first) - first];
      if (part !== undefined) {
        const { stream, bytes, number, at } = part;
        wanted = number + 1;
        const missed = at - taken;
        taken = at + bytes.length;
        yield { stream, bytes, missed };
      } else if (over) {
        return;
      } else {
        await this.#more.promise;
      }
    }
  }
}

/** Who a guest is, wherever it runs. The epoch is that of this life. */
export type Identity = Incoming;

/** What it is made of. */
export type Code = {
  readonly engine: EngineName;
  /** The original. */
  readonly module: Uint8Array;
  /** Its form for the engine. */
  readonly instrumented: InstrumentedModule;
};

/**
 * What an agent is doing with a guest. Only an idle one can be moved, checkpointed or stopped; `stranded` is stopped after a failed
 * move until the gateway can be asked who has it.
 */
export type Task = 'idle' | 'moving' | 'stopping' | 'stranded';

export class Kept {
  readonly identity: Identity;
  readonly guest: Guest;
  readonly log: Log;
  /** Undefined when the guest has ended: a list of ended guests holds no modules. */
  #code: Code | undefined;
  #task: Task = 'idle';
  #idle: Promise<void> = Promise.resolve();
  /** What became of a guest that did not end by itself, in words. */
  fate: string | undefined;
  /** It was handed over: another agent, an image or nobody has its epoch now, and this agent does not sign it off. */
  elsewhere = false;

  constructor(identity: Identity, code: Code, guest: Guest, log: Log) {
    this.identity = identity;
    this.#code = code;
    this.guest = guest;
    this.log = log;
    void guest.ended.then(() => (this.#code = undefined));
  }

  get code(): Code {
    if (this.#code === undefined) throw this.#gone();
    return this.#code;
  }

  get task(): Task {
    return this.#task;
  }

  /** Settles when the guest is in no task. */
  get idle(): Promise<void> {
    return this.#idle;
  }

  #gone(): KedgeError {
    const how = this.fate === undefined ? 'has ended' : `was ${this.fate}`;
    return new KedgeError('KEDGE_GUEST_ENDED', `guest ${this.identity.name} ${how}`);
  }

  /** Does one task with the guest. Throws KEDGE_GUEST_BUSY or KEDGE_GUEST_ENDED before anything is done. */
  async during<T>(task: 'moving' | 'stopping', work: () => Promise<T>): Promise<T> {
    if (this.guest.state.name === 'ended') throw this.#gone();
    if (this.#task !== 'idle')
      throw new KedgeError('KEDGE_GUEST_BUSY', `guest ${this.identity.name} is ${this.#task} already`, {
        hint: 'wait until that is done: kedge ps',
      });
    const done = Promise.withResolvers<void>();
    this.#idle = done.promise;
    this.#task = task;
    try {
      return await work();
    } finally {
      this.#task = 'idle';
      done.resolve();
    }
  }

  /** Notes that the guest is handed over; what is left here is only a copy. */
  leave(fate: string): void {
    this.fate = fate;
    this.elsewhere = true;
  }

  /** The task under way can neither go on nor be taken back until the gateway answers. */
  strand(): void {
    if (this.#task === 'moving') this.#task = 'stranded';
  }

  info(): GuestInfo {
    const { id, name, address, epoch, publish, engine, policy, moduleName, startedAt } = this.identity;
    const state = this.guest.state;
    return {
      id,
      name,
      address,
      epoch,
      publish,
      engine,
      policy,
      module: moduleName,
      startedAt,
      state: stateName(state, this.#task),
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
