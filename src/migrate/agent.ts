/**
 * The agent of a host: warm, unprivileged, owner of its guests. It makes them, hands them over, takes them in, and tells the gateway
 * when one has ended. What it owns it owns alone: no guest is in two agents' hands, because the gateway gives an epoch once.
 */
import { engineOf } from '../engine/engines.ts';
import { instrumentFor } from '../engine/points/instrument.ts';
import { KedgeError, withHint } from '../errors.ts';
import type { GatewayClient } from '../gateway/admin/client.ts';
import { Guest } from '../guest/guest.ts';
import { SpareWorker } from '../guest/spare.ts';
import { decodeImage } from '../image/reader.ts';
import type { Image } from '../image/reader.ts';
import type { Ipv4 } from '../rewrite/numbers.ts';
import { parseIpv4 } from '../rewrite/numbers.ts';
import { checkpoint } from './checkpoint.ts';
import type { Write } from './checkpoint.ts';
import { identityOf } from './cut.ts';
import type { EnrolmentOptions } from './enrolment.ts';
import { Enrolment } from './enrolment.ts';
import { GuestList } from './guests.ts';
import type { Code, Identity } from './kept.ts';
import { Kept, Log } from './kept.ts';
import type { Limits } from './limits.ts';
import { LIMITS } from './limits.ts';
import type { GuestInfo, Incoming, MoveResult, RestoreOptions, RunSpec } from './protocol.ts';
import { move } from './source.ts';
import { StageRunner } from './stages.ts';
import type { StageTime } from './stages.ts';
import { fill, takeOver } from './target.ts';
import type { Transport } from './transport.ts';

/** How long an agent that stops waits for what is under way, milliseconds. */
const CLOSE_LIMIT = 10_000;

export type AgentOptions = EnrolmentOptions & {
  readonly transport: Transport;
  /**
   * Directories of this host that guests from elsewhere may have, by the guest's name for them. What another host gave is never
   * taken from a move or an image: it would name any path that this agent can read.
   */
  readonly directories: ReadonlyMap<string, string>;
  readonly limits?: Limits;
};

const PORTS_OF_COPY =
  'give the copy other ports: kedge restore FILE --without-flows --publish OUTSIDE:GUEST, or none: --no-publish';
const NO_FRAMES: Uint8Array = new Uint8Array(0);

/** A guest that another agent is about to send. */
export type Arrival = {
  /** Takes the image. When it throws, the guest is not here. */
  take(image: Uint8Array): Promise<readonly StageTime[]>;
  /** Forgets it, unless it was taken. */
  drop(): Promise<void>;
};

/** Throws KEDGE_GUEST_ADDRESS. */
function guestAddress(text: string): Ipv4 {
  const address = parseIpv4(text);
  if (address === undefined) throw new KedgeError('KEDGE_GUEST_ADDRESS', `${text} is not an IPv4 address`);
  return address;
}

export class Agent {
  readonly #options: AgentOptions;
  readonly #gateway: GatewayClient;
  readonly #enrolment: Enrolment;
  readonly #guests = new GuestList();
  /** What must come to its end before the agent does. */
  readonly #underWay = new Set<Promise<unknown>>();
  /** Guests that are prepared for, and not here yet. */
  readonly #arriving = new Set<Kept>();
  readonly #spare = new SpareWorker();
  /** Settles for each guest when it has ended and the gateway knows. */
  readonly #over = new WeakMap<Kept, Promise<void>>();
  #closing = false;

  constructor(options: AgentOptions) {
    this.#options = options;
    this.#gateway = options.gateway;
    this.#enrolment = new Enrolment(options);
    this.#spare.refill();
  }

  /** How long it waits for its guests, and for the other end of a hand-over. */
  get limits(): Limits {
    return this.#options.limits ?? LIMITS;
  }

  list(): GuestInfo[] {
    return this.#guests.all().map((kept) => kept.info());
  }

  /** A guest by name or id. Throws KEDGE_GUEST_UNKNOWN. */
  find(name: string): Kept {
    return this.#guests.find(name);
  }

  /** Work that brings a guest here. Throws KEDGE_AGENT_STOPPING once the agent is stopping. */
  async #bringing<T>(work: () => Promise<T>): Promise<T> {
    if (this.#closing) throw new KedgeError('KEDGE_AGENT_STOPPING', 'this agent is stopping and takes no guest');
    const promise = work();
    this.#underWay.add(promise);
    try {
      return await promise;
    } finally {
      this.#underWay.delete(promise);
      this.#refill();
    }
  }

  /** Has a worker in store again, but not at the cost of a guest that is about to arrive. */
  #refill(): void {
    if (this.#underWay.size === 0 && this.#arriving.size === 0 && !this.#closing) this.#spare.refill();
  }

  /**
   * The form of a module for an engine, for a guest that stands at these frames. Throws KEDGE_ENGINE_UNKNOWN, and what the engine
   * says of a module that it cannot run.
   */
  #code(module: Uint8Array, { engine: name, policy }: Pick<Identity, 'engine' | 'policy'>, frames = NO_FRAMES): Code {
    const engine = engineOf(name);
    const instrumented = instrumentFor(frames, module, policy, engine.flag);
    // Compiled on this thread, too: V8 gives guests' threads the same code, with all that it has optimised, for as long as the engine
    // remembers the module. It does so for the few that were used last, whether or not their guests are still here.
    engine.compile(instrumented);
    return { engine: engine.name, module, instrumented };
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
  #prepare(identity: Identity, code: Code, log = new Log()): Kept {
    const address = guestAddress(identity.address);
    const guest = new Guest({
      worker: this.#spare.take(),
      ...code,
      address,
      args: identity.args,
      environ: Object.entries(identity.env).map(([name, value]) => `${name}=${value}`),
      preopens: identity.dirs.map(({ host, guest: name }) => ({ guestPath: name, hostPath: host })),
      onLog: (stream, bytes) => log.add({ stream, bytes }),
      onState: () => undefined,
      stopLimit: this.limits.stop,
    });
    return new Kept(identity, code, guest, log);
  }

  /** From here on the guest is this agent's: listed, and signed off at the gateway when it has ended here. */
  #own(kept: Kept): void {
    this.#guests.add(kept);
    this.#over.set(kept, this.#untilOver(kept));
  }

  async #untilOver(kept: Kept): Promise<void> {
    await kept.guest.ended;
    this.#guests.forgetOldest();
    if (!kept.elsewhere) await this.#enrolment.signOff(kept.identity);
    this.#enrolment.unrecord(kept.identity.id);
  }

  /** Starts a guest whose output goes to `log`. */
  run(spec: RunSpec, module: Uint8Array, log?: Log): Promise<GuestInfo> {
    return this.#bringing(async () => {
      const { name: wanted, moduleName } = spec;
      if (spec.address !== undefined) guestAddress(spec.address);
      using reserved = wanted === undefined ? this.#guests.reserveLike(moduleName) : this.#guests.reserve(wanted);
      const { name } = reserved;
      // A module that cannot run here is refused before anything is registered.
      const { engine = 'v8', policy = 'loop' } = spec;
      const code = this.#code(module, { engine, policy });
      const registered = await this.#enrolment.register({ name, publish: spec.publish, address: spec.address });
      const identity: Identity = {
        ...spec,
        ...registered,
        name,
        epoch: 1,
        engine,
        policy,
        moduleHash: code.instrumented.originalHash,
        startedAt: new Date().toISOString(),
        args: [moduleName, ...spec.args],
      };
      return await this.#begin(identity, code, log, (kept) => kept.guest.start());
    });
  }

  /** Prepares a registered guest and lets it go; a failure takes the registration back. */
  async #begin(
    identity: Identity,
    code: Code,
    log: Log | undefined,
    go: (kept: Kept) => Promise<void>,
  ): Promise<GuestInfo> {
    let kept: Kept | undefined;
    try {
      kept = this.#prepare(identity, code, log);
      await go(kept);
    } catch (error) {
      await kept?.guest.destroy();
      await this.#enrolment.takeBack(identity);
      throw error;
    }
    this.#own(kept);
    return kept.info();
  }

  /** Ends a guest; one that has ended already is taken off the list. Returns where it is, if it has left and may go on there. */
  async stop(name: string): Promise<string | undefined> {
    const kept = this.find(name);
    if (kept.guest.state.name === 'ended') {
      this.#guests.remove(kept);
      return kept.elsewhere ? kept.fate : undefined;
    }
    await kept.during('stopping', () => this.#end(kept));
    return undefined;
  }

  async #end(kept: Kept): Promise<void> {
    kept.fate ??= 'stopped';
    await kept.guest.destroy();
    await this.#over.get(kept);
  }

  /** Hands a guest over, to be executed by another engine if one is named. */
  move(name: string, target: string, engine?: string): Promise<MoveResult> {
    const { transport } = this.#options;
    return move(this.find(name), target, { transport, gateway: this.#gateway, limits: this.limits, engine });
  }

  /** Makes ready for a guest that another agent will send. */
  prepare(incoming: Incoming, module: Uint8Array): Promise<Arrival> {
    const stages = new StageRunner('target');
    return stages.run('prepare', () =>
      this.#bringing(async () => {
        this.#guests.mustBeElsewhere(incoming.id);
        const reserved = this.#guests.reserve(incoming.name);
        let kept: Kept | undefined;
        try {
          const code = this.#code(module, incoming);
          if (code.instrumented.originalHash !== incoming.moduleHash)
            throw new KedgeError('KEDGE_IMAGE_INVALID', 'the module is not the one that was announced');
          const dirs = this.#ownDirectories(incoming.dirs.map(({ guest }) => guest));
          kept = this.#prepare({ ...incoming, dirs, epoch: incoming.epoch + 1 }, code);
          await kept.guest.ready;
          return this.#arrival(kept, reserved);
        } catch (error) {
          reserved[Symbol.dispose]();
          await kept?.guest.destroy();
          throw error;
        }
      }),
    );
  }

  #arrival(kept: Kept, reserved: Disposable): Arrival {
    let taken = false;
    // On record before its image comes: the guest stands still then, and a disk takes its time.
    this.#enrolment.record(kept.identity.id);
    this.#arriving.add(kept);
    return {
      take: async (image) => {
        const times = await this.#bringing(async () => {
          this.#arriving.delete(kept);
          return await this.#take(kept, image);
        });
        taken = true;
        // The list has the guest now: before the source hears of it, so that it may come back at once.
        reserved[Symbol.dispose]();
        return times;
      },
      drop: async () => {
        reserved[Symbol.dispose]();
        this.#arriving.delete(kept);
        if (!taken) {
          this.#enrolment.unrecord(kept.identity.id);
          await kept.guest.destroy();
        }
        this.#refill();
      },
    };
  }

  /** The second half of a hand-over, with the record of it. */
  async #take(kept: Kept, image: Uint8Array): Promise<readonly StageTime[]> {
    const { leg } = this.#options;
    let owned = false;
    const own = (): void => {
      owned = true;
      this.#own(kept);
    };
    this.#enrolment.record(kept.identity.id);
    try {
      return await takeOver(kept, image, { leg, gateway: this.#gateway, commitLimit: this.limits.commit, own });
    } finally {
      if (!owned) this.#enrolment.unrecord(kept.identity.id);
    }
  }

  /** Takes an image; see `checkpoint.ts`. */
  checkpoint(name: string, leaveRunning: boolean, write: Write): Promise<void> {
    return checkpoint(this.find(name), leaveRunning, write, this.#gateway);
  }

  /** Continues the guest of an image here; its output goes to `log`. */
  restore(bytes: Uint8Array, { withoutFlows, publish, ...wanted }: RestoreOptions, log?: Log): Promise<GuestInfo> {
    return this.#bringing(async () => {
      const image = await decodeImage(bytes);
      if (image.module === undefined)
        throw new KedgeError('KEDGE_IMAGE_NO_MODULE', 'the image does not carry its module, so it can only be moved');
      if (!withoutFlows && !image.manifest.claim)
        throw new KedgeError('KEDGE_IMAGE_NO_CLAIM', 'the image was taken while its guest went on running', {
          hint: 'the connections belong to the original: kedge restore FILE --without-flows makes a copy without them',
        });
      const { engine = image.manifest.engine, policy = image.manifest.policy } = wanted;
      const how = { engine, policy: policy === 'none' ? 'loop' : policy } as const;
      const code = this.#code(image.module, how, image.frames.bytes);
      const dirs = this.#ownDirectories(image.manifest.preopens.map(({ guest }) => guest));
      const identity = { ...identityOf(image.manifest, dirs), ...how };
      if (!withoutFlows) return await this.#continue(identity, code, bytes, log);
      return await this.#copy({ ...identity, publish: publish ?? identity.publish }, code, image, log);
    });
  }

  /** The guest itself, with its connections: the gateway gives its next epoch once. */
  async #continue(identity: Identity, code: Code, bytes: Uint8Array, log?: Log): Promise<GuestInfo> {
    using reserved = this.#guests.reserve(identity.name);
    const kept = this.#prepare({ ...identity, name: reserved.name }, code, log);
    try {
      await this.#take(kept, bytes);
    } catch (error) {
      await kept.guest.destroy();
      throw error;
    }
    return kept.info();
  }

  /** Another guest with the same memory: a new id, and the image's address where that is free. */
  async #copy(original: Identity, code: Code, image: Image, log?: Log): Promise<GuestInfo> {
    using reserved = this.#guests.reserveAs(original.name);
    const guests = await this.#gateway.guests();
    const free = !guests.some(({ address }) => address === original.address);
    const { publish } = original;
    const address = free ? original.address : undefined;
    const registered = await this.#enrolment
      .register({ name: reserved.name, publish, address })
      .catch((error: unknown) => {
        throw withHint(error, 'KEDGE_PORT_IN_USE', PORTS_OF_COPY);
      });
    const identity = { ...original, ...registered, name: reserved.name, epoch: 1 };
    return await this.#begin(identity, code, log, async (kept) => {
      await fill(kept, image, 'without-flows');
      await kept.guest.release();
    });
  }

  /**
   * Ends every guest: the agent stops. What is under way may come to its end first, for a guest half taken in is neither here nor
   * there; what does not in time, because the gateway is silent, is left to the agent after this one.
   */
  async close(limit = CLOSE_LIMIT): Promise<void> {
    this.#closing = true;
    const over = Promise.withResolvers<void>();
    const timer = setTimeout(over.resolve, limit);
    await Promise.race([Promise.allSettled(this.#underWay), over.promise]);
    await Promise.all(
      this.#guests.live().map(async (kept) => {
        await Promise.race([kept.idle, over.promise]);
        if (kept.guest.state.name === 'ended') return;
        kept.fate ??= 'stopped';
        await kept.guest.destroy();
        await Promise.race([this.#over.get(kept), over.promise]);
      }),
    );
    clearTimeout(timer);
    await this.#spare.close();
  }
}
