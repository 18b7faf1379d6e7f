/** The guests of an agent by name, and names that are promised to guests on their way. */
import { KedgeError } from '../errors.ts';
import type { Kept } from './kept.ts';

/** Guests that have ended and are still listed. */
const REMEMBERED = 64;

/** A name that nobody else gets until this is disposed. */
export type Reservation = Disposable & { readonly name: string };

function alive(kept: Kept | undefined): boolean {
  return kept !== undefined && kept.guest.state.name !== 'ended';
}

export class GuestList {
  /** In order of their coming. Ended ones stay until their name is used again, or there are too many. */
  readonly #guests = new Map<string, Kept>();
  /** Names of guests that are being made or taken in: two that come at once must not become one entry. */
  readonly #promised = new Set<string>();

  all(): Kept[] {
    return [...this.#guests.values()];
  }

  /** Those that have not ended. */
  live(): Kept[] {
    return this.all().filter(alive);
  }

  /** A guest by name or id. Throws KEDGE_GUEST_UNKNOWN. */
  find(name: string): Kept {
    const kept = this.#guests.get(name) ?? this.all().find(({ identity }) => identity.id === name);
    if (kept === undefined)
      throw new KedgeError('KEDGE_GUEST_UNKNOWN', `no guest is called ${name}`, { hint: 'kedge ps lists them' });
    return kept;
  }

  #isTaken(name: string): boolean {
    return this.#promised.has(name) || alive(this.#guests.get(name));
  }

  /** Throws KEDGE_GUEST_EXISTS when that very guest lives here: it was sent to where it is. */
  mustBeElsewhere(id: string): void {
    const kept = this.live().find(({ identity }) => identity.id === id);
    if (kept !== undefined)
      throw new KedgeError('KEDGE_GUEST_EXISTS', `guest ${kept.identity.name} runs at this agent already`, {
        hint: 'name the agent of another host with --to',
      });
  }

  /** Throws KEDGE_GUEST_EXISTS when a live guest has the name, or one on its way. */
  reserve(name: string): Reservation {
    if (this.#isTaken(name))
      throw new KedgeError('KEDGE_GUEST_EXISTS', `a guest called ${name} is here already`, {
        hint: 'give this one another --name, or stop that one',
      });
    this.#promised.add(name);
    let kept = true;
    // Once: by the second time the name may be promised to another.
    const dispose = (): void => {
      if (kept) this.#promised.delete(name);
      kept = false;
    };
    return { name, [Symbol.dispose]: dispose };
  }

  /** A free name made of words that a module or another guest is called by. */
  reserveLike(words: string): Reservation {
    const stem = /[A-Za-z0-9][A-Za-z0-9_-]{0,40}/.exec(words)?.[0] ?? 'guest';
    let name = stem;
    for (let n = 2; this.#isTaken(name); n++) name = `${stem}-${n}`;
    return this.reserve(name);
  }

  /** This name, or when it is taken one like it. */
  reserveAs(name: string): Reservation {
    return this.#isTaken(name) ? this.reserveLike(name) : this.reserve(name);
  }

  /** Lists a guest in the place of one of its name that has ended. */
  add(kept: Kept): void {
    this.#guests.delete(kept.identity.name);
    this.#guests.set(kept.identity.name, kept);
  }

  /** Takes one that has ended off the list. */
  remove(kept: Kept): void {
    if (this.#guests.get(kept.identity.name) === kept) this.#guests.delete(kept.identity.name);
  }

  forgetOldest(): void {
    const ended = this.all().filter((kept) => !alive(kept));
    for (const kept of ended.slice(0, Math.max(0, ended.length - REMEMBERED))) this.remove(kept);
  }
}
