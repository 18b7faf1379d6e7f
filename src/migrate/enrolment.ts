/**
 * What others know of an agent's guests: the gateway, which has them as this host's, and the record on disk, by which the next agent
 * signs off those that this one leaves when it is killed.
 */
import { randomUUID } from 'node:crypto';
import { KedgeError } from '../errors.ts';
import type { GatewayClient } from '../gateway/admin/client.ts';
import type { Identity } from './kept.ts';
import type { RunSpec } from './protocol.ts';
import type { Registry } from './registry.ts';

export type EnrolmentOptions = {
  readonly gateway: GatewayClient;
  /** The gateway's leg to this host. */
  readonly leg: string;
  /** Which guests are ours, for an agent that starts after this one was killed. */
  readonly registry: Registry;
  readonly warn: (what: string) => void;
};

export type NewGuest = Pick<RunSpec, 'publish'> & { readonly name: string; readonly address: string | undefined };

export class Enrolment {
  readonly #options: EnrolmentOptions;

  constructor(options: EnrolmentOptions) {
    this.#options = options;
  }

  /** Called before the gateway may have the guest here: an agent that dies in between has noted it. Throws KEDGE_AGENT_STATE. */
  record(id: string): void {
    this.#options.registry.add(id);
  }

  unrecord(id: string): void {
    const { registry, warn } = this.#options;
    try {
      registry.remove(id);
    } catch (error) {
      // The agent after this one finds that the gateway does not know the guest.
      warn(String(error));
    }
  }

  /** A new guest at the gateway, on our leg. Throws what the gateway refuses it for; then it is not on record either. */
  async register({ name, publish, address }: NewGuest): Promise<Pick<Identity, 'id' | 'address'>> {
    const id = randomUUID();
    const { gateway, leg } = this.#options;
    this.record(id);
    try {
      const wanted = address === undefined ? {} : { address };
      const { guest: registered } = await gateway.register({ id, name, leg, publish, ...wanted });
      return { id, address: registered.address };
    } catch (error) {
      this.unrecord(id);
      throw error;
    }
  }

  /** Takes back the registration of a guest that came to nothing. Never throws. */
  async takeBack({ id, epoch }: Pick<Identity, 'id' | 'epoch'>): Promise<void> {
    await this.#options.gateway.unregister(id, { epoch }).catch(() => undefined);
    this.unrecord(id);
  }

  /** Tells the gateway that a guest has ended here. Never throws: a gateway that was not told is warned of. */
  async signOff({ id, epoch, name }: Identity): Promise<void> {
    const { gateway, warn } = this.#options;
    try {
      await gateway.unregister(id, { epoch });
    } catch (error) {
      const code = error instanceof KedgeError ? error.code : undefined;
      // It has gone on elsewhere in the meantime, or nobody knows it any more.
      if (code === 'KEDGE_EPOCH_STALE' || code === 'KEDGE_GUEST_UNKNOWN') return;
      warn(`guest ${name} has ended, but the gateway was not told: ${String(error)}`);
    }
  }
}
