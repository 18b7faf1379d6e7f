/** A guest's only connection as the checker will want it: who talks to whom, when it first moved, and what the gateway showed of it. */
import { tupleOf } from './checker.ts';
import type { Tuple } from './checker/conversation.ts';
import type { FlowDetail } from './gateway.ts';
import type { MovingGuest } from './hosts.ts';

export class Watched {
  readonly guest: MovingGuest;
  readonly tuple: Tuple;
  /** Leg and SEQ delta of each epoch, as `gateway flows show ID` prints them. */
  readonly shown: { readonly leg: string; readonly delta: number }[] = [];
  readonly #id: number;

  private constructor(guest: MovingGuest, flow: FlowDetail) {
    this.guest = guest;
    this.tuple = tupleOf(flow);
    this.#id = flow.id;
  }

  /** The connection a guest has now. */
  static async of(guest: MovingGuest): Promise<Watched> {
    const watched = new Watched(guest, await guest.flow());
    await watched.#look();
    return watched;
  }

  get firstMove(): number {
    const [first] = this.guest.moves;
    if (first === undefined) throw new Error(`${this.guest.name} has not moved`);
    return first.from;
  }

  async #look(): Promise<void> {
    const { leg, delta } = JSON.parse(
      await this.guest.hosts.gateway.cli('flows', 'show', String(this.#id), '-o', 'json'),
    ) as FlowDetail;
    this.shown.push({ leg, delta });
  }

  /** Moves the guest, and reads the delta. */
  async move(): Promise<void> {
    await this.guest.move();
    await this.#look();
  }

  /** As {@link MovingGuest.frozenDuring}, and reads the delta. */
  async frozenDuring<T>(work: () => Promise<T>): Promise<T> {
    const result = await this.guest.frozenDuring(work);
    await this.#look();
    return result;
  }
}
