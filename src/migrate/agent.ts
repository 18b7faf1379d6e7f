/**
 * The agent of a host: warm, unprivileged, owner of its guests. It makes them, hands them over, takes them in, and tells the gateway
 * when one has ended. What it owns it owns alone: no guest is in two agents' hands, because the gateway gives an epoch once.
 */
import { randomUUID } from 'node:crypto';
import type { InstrumentedModule, Policy } from '../engine/engine.ts';
import { instrument } from '../engine/instrument/instrument.ts';
import { KedgeError } from '../errors.ts';
import type { GatewayClient } from '../gateway/admin/client.ts';
import { Guest } from '../guest/guest.ts';
import { encodeImage } from '../image/writer.ts';
import { decodeImage } from '../image/reader.ts';
import type { Image } from '../image/reader.ts';
import { parseIpv4 } from '../rewrite/numbers.ts';
import { cut, giveBack, manifestOf } from './cut.ts';
import type { Identity } from './kept.ts';
import { Kept, Log } from './kept.ts';
import type { GuestInfo, Incoming, MoveResult, RunSpec } from './protocol.ts';
import type { Registry } from './registry.ts';
import { move } from './source.ts';
import { StageRunner } from './stages.ts';
import { fill, takeOver } from './target.ts';
import type { StageTime } from './stages.ts';
import type { Transport } from './transport.ts';

/** Guests that have ended and are still listed. */
const REMEMBERED = 64;

export type AgentOptions = {
  readonly gateway: GatewayClient;
  /** The gateway's leg to this host. */
  readonly leg: string;
  readonly transport: Transport;
  /** Which guests are ours, for an agent that starts after this one was killed. */
  readonly registry: Registry;
  /**
   * Directories of this host that guests from elsewhere may have, by the guest's name for them. What another host gave is never
   * taken from a move or an image: it would name any path that this agent can read.
   */
  readonly directories: ReadonlyMap<string, string>;
  /** Where instrumented modules are kept between runs. */
  readonly cacheDirectory?: string | undefined;
  readonly warn: (what: string) => void;
};

export class Agent {
  readonly #options: AgentOptions;
  readonly #gateway: GatewayClient;
  /** By name. Ended ones stay until their name is used again, or there are too many. */
  readonly #guests = new Map<string, Kept>();

  constructor(options: AgentOptions) {
    this.#options = options;
    this.#gateway = options.gateway;
  }

  list(): GuestInfo[] {
    return [...this.#guests.values()].map((kept) => kept.info());
  }

  /** A guest by name or id. Throws KEDGE_GUEST_UNKNOWN. */
  find(name: string): Kept {
    const kept = this.#guests.get(name) ?? [...this.#guests.values()].find(({ identity }) => identity.id === name);
    if (kept === undefined)
      throw new KedgeError('KEDGE_GUEST_UNKNOWN', `no guest is called ${name}`, { hint: 'kedge ps lists them' });
    return kept;
  }

  #mustBeFree(name: string): void {
    const holder = this.#guests.get(name);
    if (holder !== undefined && holder.guest.state.name !== 'ended')
      throw new KedgeError('KEDGE_GUEST_EXISTS', `a guest called ${name} is here already`, {
        hint: 'give this one another --name, or stop that one',
      });
  }

  #freeName(moduleName: string): string {
    const stem = /[A-Za-z0-9][A-Za-z0-9_-]{0,40}/.exec(moduleName)?.[0] ?? 'guest';
    for (let n = 1; ; n++) {
      const name = n === 1 ? stem : `${stem}-${n}`;
      const holder = this.#guests.get(name);
      if (holder === undefined || holder.guest.state.name === 'ended') return name;
    }
  }

  #instrument(module: Uint8Array, policy: Policy): Promise<InstrumentedModule> {
    const { cacheDirectory } = this.#options;
    return instrument(module, policy, cacheDirectory === undefined ? {} : { cacheDirectory });
  }

  /** This host's directories under the names a guest from elsewhere knows. Throws KEDGE_PREOPEN_INVALID. */
  #ownDirectories(names: readonly string[]): { host: string; guest: string }[] {
    return names.map((guest) => {
      const host = this.#options.directories.get(guest);
      if (host === undefined)
        throw new KedgeError('KEDGE_PREOPEN_INVALID', `this host has no directory for the guest's ${guest}`, {
          hint: `start its agent with --dir HOST-DIRECTORY:${guest}`,
        });
      return { host, guest };
    });
  }

  /** Makes the worker of a guest; nothing runs yet and the agent does not own it yet. */
  #prepare(identity: Identity): Kept {
    const address = parseIpv4(identity.address);
    if (address === undefined)
      throw new KedgeError('KEDGE_GUEST_ADDRESS', `${identity.address} is not an IPv4 address`);
    const log = new Log();
    const guest = new Guest({
      instrumented: identity.instrumented,
      module: identity.module,
      address,
      args: identity.args,
      environ: Object.entries(identity.env).map(([name, value]) => `${name}=${value}`),
      preopens: identity.dirs.map(({ host, guest: name }) => ({ guestPath: name, hostPath: host })),
      onLog: (stream, bytes) => log.add({ stream, bytes }),
      onState: () => undefined,
    });
    return new Kept(identity, guest, log);
  }

  /** From here on the guest is this agent's: listed, recorded, and signed off at the gateway when it ends by itself. */
  #own(kept: Kept): void {
    const { name, id } = kept.identity;
    this.#guests.delete(name);
    this.#guests.set(name, kept);
    this.#options.registry.add(id);
    void kept.guest.ended.then(async (end) => {
      this.#options.registry.remove(id);
      this.#forgetOldest();
      // One that was handed over is another agent's to sign off.
      if (end.kind !== 'destroyed') await this.#signOff(kept);
    });
  }

  async #signOff(kept: Kept): Promise<void> {
    const { id, epoch, name } = kept.identity;
    try {
      await this.#gateway.unregister(id, { epoch });
    } catch (error) {
      this.#options.warn(`guest ${name} has ended, but the gateway was not told: ${String(error)}`);
    }
  }

  #forgetOldest(): void {
    const ended = [...this.#guests].filter(([, kept]) => kept.guest.state.name === 'ended');
    for (const [name] of ended.slice(0, Math.max(0, ended.length - REMEMBERED))) this.#guests.delete(name);
  }

  async run(spec: RunSpec, module: Uint8Array): Promise<GuestInfo> {
    const name = spec.name ?? this.#freeName(spec.moduleName);
    this.#mustBeFree(name);
    // A module that cannot run here is refused before anything is registered.
    const instrumented = await this.#instrument(module, 'loop');
    const id = randomUUID();
    const { leg } = this.#options;
    const address = spec.address === undefined ? {} : { address: spec.address };
    const { guest } = await this.#gateway.register({ id, name, leg, publish: spec.publish, ...address });
    const identity: Identity = {
      ...spec,
      id,
      name,
      address: guest.address,
      epoch: 1,
      moduleHash: instrumented.originalHash,
      startedAt: new Date().toISOString(),
      args: [spec.moduleName, ...spec.args],
      module,
      instrumented,
    };
    return await this.#begin(identity, (kept) => kept.guest.start());
  }

  /** Prepares a registered guest and lets it go; a failure takes the registration back. */
  async #begin(identity: Identity, go: (kept: Kept) => Promise<void>): Promise<GuestInfo> {
    let kept: Kept | undefined;
    try {
      kept = this.#prepare(identity);
      await go(kept);
    } catch (error) {
      await kept?.guest.destroy();
      await this.#gateway.unregister(identity.id, { epoch: identity.epoch }).catch(() => undefined);
      throw error;
    }
    this.#own(kept);
    return kept.info();
  }

  async stop(name: string): Promise<void> {
    const kept = this.find(name);
    if (kept.guest.state.name === 'ended') {
      this.#guests.delete(kept.identity.name);
      return;
    }
    kept.begin('stopping');
    kept.fate = 'stopped';
    await kept.guest.destroy();
    await this.#signOff(kept);
  }

  move(name: string, target: string): Promise<MoveResult> {
    return move(this.find(name), target, this.#options.transport, this.#gateway);
  }

  /** Makes ready for a guest that another agent will send; `take` completes it, `drop` forgets it. */
  async prepare(
    incoming: Incoming,
    module: Uint8Array,
  ): Promise<{
    take: (image: Uint8Array) => Promise<readonly StageTime[]>;
    drop: () => Promise<void>;
  }> {
    const stages = new StageRunner('target');
    return await stages.run('prepare', async () => {
      this.#mustBeFree(incoming.name);
      const instrumented = await this.#instrument(module, 'loop');
      if (instrumented.originalHash !== incoming.moduleHash)
        throw new KedgeError('KEDGE_IMAGE_INVALID', 'the module is not the one that was announced');
      const dirs = this.#ownDirectories(incoming.dirs.map(({ guest }) => guest));
      const kept = this.#prepare({ ...incoming, dirs, epoch: incoming.epoch + 1, module, instrumented });
      await kept.guest.ready;
      return {
        take: async (image) => {
          const times = await takeOver(kept, image, this.#options.leg, this.#gateway);
          this.#own(kept);
          return times;
        },
        drop: () => kept.guest.destroy(),
      };
    });
  }

  /**
   * Takes an image. `write` stores it, and only when it has, the guest here ends (or, left running, goes on at once: such an image
   * has no claim on its connections).
   */
  async checkpoint(name: string, leaveRunning: boolean, write: (image: Uint8Array[]) => Promise<void>): Promise<void> {
    const kept = this.find(name);
    kept.begin('moving');
    const stages = new StageRunner('checkpoint');
    const { id, epoch } = kept.identity;
    try {
      const { saved, flows } = await cut(kept, this.#gateway, stages);
      const { module } = kept.identity;
      const parts = { ...saved, module, flows, manifest: manifestOf(kept.identity, saved, !leaveRunning) };
      // A copy stands still only as long as the copying takes.
      if (leaveRunning && (await giveBack(kept, this.#gateway)) === 'lost')
        throw new KedgeError('KEDGE_GUEST_ENDED', `guest ${name} was taken over elsewhere`);
      await stages.run('write', async () => write(await encodeImage(parts)));
      if (leaveRunning) return;
      await stages.run('seal', () => this.#gateway.seal(id, { epoch }));
    } catch (error) {
      const state = kept.guest.state.name;
      const back = state === 'stopped' || state === 'lingering' ? await giveBack(kept, this.#gateway) : undefined;
      // The image was safe and sealed, and only the gateway's answer was lost.
      if (back === 'sealed') return;
      kept.task = 'idle';
      throw error;
    }
    kept.fate = 'checkpointed';
    await kept.guest.destroy();
  }

  /** Continues the guest of an image here. */
  async restore(bytes: Uint8Array, withoutFlows: boolean): Promise<GuestInfo> {
    const image = await decodeImage(bytes);
    if (image.module === undefined)
      throw new KedgeError('KEDGE_IMAGE_NO_MODULE', 'the image does not carry its module, so it can only be moved');
    if (!withoutFlows && !image.manifest.claim)
      throw new KedgeError('KEDGE_IMAGE_NO_CLAIM', 'the image was taken while its guest went on running', {
        hint: 'the connections belong to the original: kedge restore FILE --without-flows makes a copy without them',
      });
    const identity = await this.#identityOf(image, image.module);
    return withoutFlows ? await this.#copy(identity, image) : await this.#continue(identity, bytes);
  }

  async #identityOf(image: Image, module: Uint8Array): Promise<Identity> {
    const { guest, module: about, args, env, publish, preopens } = image.manifest;
    const instrumented = await this.#instrument(module, image.manifest.policy === 'loop' ? 'loop' : 'loop-all');
    return {
      id: guest.id,
      name: guest.name,
      address: guest.address,
      epoch: guest.epoch + 1,
      publish,
      dirs: this.#ownDirectories(preopens.map(({ guest: name }) => name)),
      env,
      moduleName: about.name,
      moduleHash: about.sha256,
      args,
      startedAt: new Date().toISOString(),
      module,
      instrumented,
    };
  }

  /** The guest itself, with its connections: the gateway gives its next epoch once. */
  async #continue(identity: Identity, bytes: Uint8Array): Promise<GuestInfo> {
    this.#mustBeFree(identity.name);
    const kept = this.#prepare(identity);
    try {
      await takeOver(kept, bytes, this.#options.leg, this.#gateway);
    } catch (error) {
      await kept.guest.destroy();
      throw error;
    }
    this.#own(kept);
    return kept.info();
  }

  /** Another guest with the same memory: a new id, and the image's address where that is free. */
  async #copy(original: Identity, image: Image): Promise<GuestInfo> {
    const { leg } = this.#options;
    const id = randomUUID();
    const holder = this.#guests.get(original.name);
    const taken = holder !== undefined && holder.guest.state.name !== 'ended';
    const name = taken ? this.#freeName(original.name) : original.name;
    const guests = await this.#gateway.guests();
    const free = !guests.some(({ address }) => address === original.address);
    const wanted = free ? { address: original.address } : {};
    const { guest } = await this.#gateway.register({ id, name, leg, publish: original.publish, ...wanted });
    const identity = { ...original, id, name, address: guest.address, epoch: 1 };
    return await this.#begin(identity, async (kept) => {
      await fill(kept, image, 'without-flows');
      await kept.guest.release();
    });
  }

  /** Ends every guest: the agent stops. */
  async close(): Promise<void> {
    const open = [...this.#guests.values()].filter(({ guest }) => guest.state.name !== 'ended');
    await Promise.all(
      open.map((kept) => this.stop(kept.identity.id).catch((error: unknown) => this.#options.warn(String(error)))),
    );
  }
}
