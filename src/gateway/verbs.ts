/**
 * The control verbs of agents, carried out by the pump between two batches (ARCHITECTURE.md, The way of a move). The gateway is the
 * arbiter of a move: the target's commit and the source's abort both end here, one after the other, and whoever comes first wins, so
 * that there is exactly one live guest.
 *
 * A verb is refused before anything changed, or carried out whole.
 */
import { KedgeError } from '../errors.ts';
import { formatIpv4, parseIpv4 } from '../rewrite/numbers.ts';
import type {
  AttachBody,
  AttachResult,
  ClaimBody,
  ControlVerbs,
  EpochBody,
  ExportBody,
  ExportResult,
  FreezeResult,
  RegisterBody,
  RegisterResult,
  RemoveBody,
} from './admin/schema.ts';
import type { PlaneContext } from './context.ts';
import { rstGuest, rstPeer } from './emit.ts';
import { attachedFlow, describe, exportFlows, lacksCut } from './exports.ts';
import { isUnanswered, LIVE, OWNED, SYNCHRONIZED, TCP, TIME_WAIT, UDP, unmovable } from './flow.ts';
import { GUEST_FROZEN, GUEST_RUNNING, GUEST_SEALED, NO_LEG, guestName } from './guests.ts';
import { guestSummary } from './listing.ts';
import { attachFlow, commitFlow, detachFlow, finAcked, freezeFlow, thawFlow } from './splice.ts';
import { isOver } from './state.ts';

/** An attach that neither committed nor detached gives way to another after this long, milliseconds. */
const ATTACH_LEASE = 60_000;

type OfGuest<T> = { readonly id: string } & T;

export class Verbs {
  readonly #ctx: PlaneContext;
  readonly #legs: readonly string[];
  /** When the attach in progress of a guest slot began. */
  readonly #attachedAt = new Map<number, number>();

  constructor(ctx: PlaneContext, legs: readonly string[]) {
    this.#ctx = ctx;
    this.#legs = legs;
  }

  /** Carries out one verb. Throws KedgeError; then nothing has changed. */
  call<V extends keyof ControlVerbs>(verb: V, args: ControlVerbs[V]['args']): ControlVerbs[V]['result'] {
    const table: { [K in keyof ControlVerbs]: (args: ControlVerbs[K]['args']) => ControlVerbs[K]['result'] } = {
      register: (a) => this.#register(a),
      unregister: (a) => this.#unregister(a),
      remove: (a) => this.#remove(a),
      check: (a) => this.#check(a),
      freeze: (a) => this.#freeze(a),
      export: (a) => this.#export(a),
      seal: (a) => this.#seal(a),
      attach: (a) => this.#attach(a),
      commit: (a) => this.#commit(a),
      detach: (a) => this.#detach(a),
      abort: (a) => this.#abort(a),
    };
    return table[verb](args);
  }

  #register(args: RegisterBody): RegisterResult {
    const { guests, ports } = this.#ctx;
    if (guests.find(args.id) !== undefined)
      throw new KedgeError('KEDGE_GUEST_EXISTS', `guest ${args.id} is registered already`);
    const leg = this.#leg(args.leg);
    const address = args.address === undefined ? this.#freeAddress() : this.#givenAddress(args.address);
    const wanted = new Set<string>();
    for (const { proto, outsidePort } of args.publish) {
      const key = `${proto}/${outsidePort}`;
      const number = proto === 'udp' ? UDP : TCP;
      if (wanted.has(key) || !ports.mayPublish(number, outsidePort)) {
        // One that is not published is the way out of some connection, and no guest is listed with it.
        const published = wanted.has(key) || ports.publishedGuest(number, outsidePort) >= 0;
        throw new KedgeError('KEDGE_PORT_IN_USE', `outside port ${key} is taken`, {
          hint: published
            ? 'publish another outside port, or stop the guest that has it: gateway guests list'
            : 'publish another outside port, or wait until what a guest has opened from it is over: gateway flows list',
        });
      }
      wanted.add(key);
    }
    const slot = guests.add(args.id, args.name, address, leg);
    if (slot === undefined)
      throw new KedgeError('KEDGE_GUESTS_FULL', 'the gateway holds as many guests as it has room for', {
        hint: 'stop one, or give up one that nobody will continue: gateway guests list, gateway guests rm',
      });
    for (const p of args.publish) ports.publish(p.proto === 'udp' ? UDP : TCP, p.outsidePort, slot, p.guestPort);
    return { guest: guestSummary(this.#ctx.arena, this.#legs, slot, args.publish, 0) };
  }

  #leg(name: string): number {
    const leg = this.#legs.indexOf(name);
    if (leg < 0)
      throw new KedgeError('KEDGE_LEG_UNKNOWN', `no leg is named ${name}`, {
        hint: `the gateway's legs are: ${this.#legs.join(', ')}`,
      });
    return leg;
  }

  #givenAddress(text: string): number {
    const address = parseIpv4(text);
    if (address === undefined || !this.#ctx.inPool(address))
      throw new KedgeError('KEDGE_ADDRESS_OUTSIDE_POOL', `${text} is not in the gateway's pool of guest addresses`, {
        hint: 'gateway status shows the pool',
      });
    const holder = this.#ctx.guests.byAddress(address);
    if (holder !== undefined)
      throw new KedgeError('KEDGE_ADDRESS_IN_USE', `${text} belongs to guest ${guestName(this.#ctx.g, holder)}`, {
        hint: 'leave the address out to get a free one',
      });
    return address;
  }

  #freeAddress(): number {
    const { base, prefix } = this.#ctx.settings.pool;
    const size = 2 ** (32 - prefix);
    // Network and broadcast address are left alone, as people expect of a prefix.
    for (let i = 1; i < size - 1; i++) {
      const address = (base + i) >>> 0;
      if (this.#ctx.guests.byAddress(address) === undefined) return address;
    }
    throw new KedgeError('KEDGE_POOL_EXHAUSTED', 'every address of the guest pool is taken');
  }

  /** Slot of a guest whose current epoch the caller must name. */
  #guest(id: string): number {
    const slot = this.#ctx.guests.find(id);
    if (slot === undefined)
      throw new KedgeError('KEDGE_GUEST_UNKNOWN', `the gateway has no guest ${id}`, {
        hint: 'it ended, or the gateway was started anew: kedge restore FILE --without-flows',
      });
    return slot;
  }

  #holder(args: OfGuest<EpochBody>): number {
    const slot = this.#guest(args.id);
    const epoch = this.#ctx.g.epoch[slot]!;
    if (args.epoch !== epoch)
      throw new KedgeError('KEDGE_EPOCH_STALE', `guest ${args.id} is at epoch ${epoch}, not ${args.epoch}`, {
        hint: 'it was restored elsewhere since: gateway guests list',
      });
    return slot;
  }

  /** Slots of a guest's flows. */
  #flows(guest: number): number[] {
    return [...this.#ctx.flowsOf(guest)];
  }

  #unregister(args: OfGuest<EpochBody>): Record<string, never> {
    this.#end(this.#holder(args));
    return {};
  }

  /** An operator's word that nobody will go on with a guest, whose agent may be dead. */
  #remove(args: OfGuest<RemoveBody>): Record<string, never> {
    const ctx = this.#ctx;
    const { g } = ctx;
    const slot = this.#holder(args);
    const name = guestName(g, slot);
    const restoring = this.#legs[g.nextLeg[slot]!];
    if (args.force !== true) {
      if (restoring !== undefined)
        throw new KedgeError('KEDGE_GUEST_BUSY', `guest ${name} is being restored on leg ${restoring}`, {
          hint: 'wait for that to end (gateway guests list), or use --force',
        });
      if (g.state[slot] === GUEST_RUNNING)
        throw new KedgeError('KEDGE_GUEST_RUNNING', `guest ${name} is running on leg ${this.#legs[g.leg[slot]!]}`, {
          hint: 'its agent ends it: kedge stop; use --force when there is no such agent any more',
        });
    }
    this.#withdraw(slot);
    // Its sockets, should there be any, would wait for answers for many minutes.
    if (g.state[slot] === GUEST_RUNNING)
      for (const flow of this.#flows(slot)) if (this.#isOpen(flow)) rstGuest(ctx, flow);
    this.#end(slot);
    return {};
  }

  #isOpen(flow: number): boolean {
    const { f } = this.#ctx;
    return f.proto[flow] === TCP && !isOver(f, flow) && (f.flags[flow]! & SYNCHRONIZED) !== 0;
  }

  /** All that a guest has is free; peers of open connections are told. */
  #end(slot: number): void {
    const ctx = this.#ctx;
    let retire = false;
    for (const flow of this.#flows(slot)) {
      const open = this.#isOpen(flow);
      if (ctx.f.flags[flow]! & OWNED && (open || ctx.f.state[flow] === TIME_WAIT)) {
        // The guest had said its last word before: the peer's FIN, a repeated one too, is answered as by a kernel that outlives its program.
        retire = true;
        continue;
      }
      if (open && !finAcked(ctx, flow)) rstPeer(ctx, flow);
      ctx.end(flow);
    }
    ctx.ports.unpublish(slot);
    ctx.guests.remove(slot, retire);
    this.#attachedAt.delete(slot);
  }

  #check(args: OfGuest<EpochBody>): { movable: true } {
    const slot = this.#holder(args);
    this.#requireMovable(slot);
    return { movable: true };
  }

  #requireMovable(guest: number): void {
    const { f } = this.#ctx;
    for (const flow of this.#flows(guest)) {
      // A SYN is anybody's word; with an option that signs, it is no connection before the guest has answered it.
      const why = isOver(f, flow) || isUnanswered(f, flow) ? undefined : unmovable(f.flags[flow]!);
      if (why === undefined) continue;
      const peer = `${formatIpv4(f.peerAddress[flow]!)}:${f.peerPort[flow]!}`;
      throw new KedgeError('KEDGE_FLOW_UNMOVABLE', `flow ${f.flowId[flow]!} with ${peer} cannot move: ${why}`, {
        hint: `close that connection, or have it made without the option; gateway flows show ${f.flowId[flow]!}`,
      });
    }
  }

  #freeze(args: OfGuest<EpochBody>): FreezeResult {
    const ctx = this.#ctx;
    const slot = this.#holder(args);
    if (ctx.g.state[slot] !== GUEST_RUNNING)
      throw new KedgeError('KEDGE_GUEST_NOT_RUNNING', `guest ${args.id} is frozen already`);
    this.#requireMovable(slot);
    ctx.g.state[slot] = GUEST_FROZEN;
    const flows = this.#flows(slot);
    for (const flow of flows) freezeFlow(ctx, flow);
    return { flows: flows.map((flow) => describe(ctx, flow)) };
  }

  #export(args: OfGuest<ExportBody>): ExportResult {
    const slot = this.#holder(args);
    if (this.#ctx.g.state[slot] !== GUEST_FROZEN)
      throw new KedgeError('KEDGE_GUEST_NOT_FROZEN', `guest ${args.id} is not frozen`, { hint: 'freeze it first' });
    return exportFlows(this.#ctx, this.#flows(slot), args.sockets);
  }

  #seal(args: OfGuest<EpochBody>): Record<string, never> {
    const slot = this.#holder(args);
    this.#requireCut(args.id, slot);
    this.#ctx.g.state[slot] = GUEST_SEALED;
    return {};
  }

  /** The guest must be frozen, and the cut of each of its connections known: else nobody could continue them. */
  #requireCut(id: string, guest: number): void {
    if (this.#ctx.g.state[guest] === GUEST_RUNNING)
      throw new KedgeError('KEDGE_GUEST_NOT_FROZEN', `guest ${id} is running`, {
        hint: 'freeze and export it first; an image that was taken while it went on: kedge restore FILE --without-flows',
      });
    const missing = this.#flows(guest).find((flow) => lacksCut(this.#ctx, flow));
    if (missing !== undefined)
      throw new KedgeError(
        'KEDGE_GUEST_NOT_FROZEN',
        `flow ${this.#ctx.f.flowId[missing]!} of guest ${id} is not exported`,
        {
          hint: 'export it until it settles',
        },
      );
  }

  #attach(args: OfGuest<AttachBody>): AttachResult {
    const ctx = this.#ctx;
    const { f, g } = ctx;
    const slot = this.#guest(args.id);
    const leg = this.#leg(args.leg);
    const epoch = g.epoch[slot]!;
    if (args.epoch !== epoch + 1)
      throw new KedgeError(
        'KEDGE_EPOCH_CLAIMED',
        `guest ${args.id} is at epoch ${epoch}; ${args.epoch} cannot follow`,
        {
          hint: 'this image was restored before, and a guest has one life: kedge restore FILE --without-flows makes another',
        },
      );
    this.#requireCut(args.id, slot);
    if (g.nextLeg[slot] !== NO_LEG) {
      if (ctx.now - (this.#attachedAt.get(slot) ?? 0) < ATTACH_LEASE)
        throw new KedgeError(
          'KEDGE_EPOCH_CLAIMED',
          `guest ${args.id} is being restored on leg ${this.#legs[g.nextLeg[slot]!]}`,
          {
            hint: 'wait for it to end; gateway guests list shows the state',
          },
        );
      this.#withdraw(slot);
    }
    g.nextLeg[slot] = leg;
    g.claim[slot] = g.claim[slot]! + 1;
    this.#attachedAt.set(slot, ctx.now);
    const flows = this.#flows(slot);
    for (const flow of flows) attachFlow(ctx, flow);
    const connections = flows.filter((flow) => f.proto[flow] === TCP && f.cut[flow]! >= 0);
    return {
      claim: g.claim[slot],
      flows: connections.map((flow) => attachedFlow(ctx, flow)),
    };
  }

  /**
   * Whether the caller's attach is the last one. Two targets claim the same epoch when the first was silent beyond its lease, or
   * the source took the guest back and moved it again: then only the number of the claim tells them apart.
   */
  #holdsClaim(slot: number, claim: number | undefined): boolean {
    return claim === undefined || claim === this.#ctx.g.claim[slot];
  }

  #commit(args: OfGuest<ClaimBody>): Record<string, never> {
    const ctx = this.#ctx;
    const g = ctx.g;
    const slot = this.#guest(args.id);
    const epoch = g.epoch[slot]!;
    const mine = this.#holdsClaim(slot, args.claim);
    if (args.epoch === epoch && g.state[slot] === GUEST_RUNNING && mine) return {};
    const leg = g.nextLeg[slot]!;
    if (args.epoch !== epoch + 1 || leg === NO_LEG || !mine)
      throw new KedgeError(
        'KEDGE_EPOCH_STALE',
        `guest ${args.id} is not being restored at epoch ${args.epoch} by this claim`,
        {
          hint: 'the source took it back, or another restore went on: gateway guests list shows where the guest runs',
        },
      );
    g.epoch[slot] = args.epoch;
    g.leg[slot] = leg;
    g.nextLeg[slot] = NO_LEG;
    g.state[slot] = GUEST_RUNNING;
    this.#attachedAt.delete(slot);
    for (const flow of this.#flows(slot)) commitFlow(ctx, flow, leg, args.epoch);
    return {};
  }

  #withdraw(slot: number): void {
    const { g } = this.#ctx;
    const leg = g.nextLeg[slot]!;
    if (leg === NO_LEG) return;
    for (const flow of this.#flows(slot)) detachFlow(this.#ctx, flow, leg);
    g.nextLeg[slot] = NO_LEG;
    this.#attachedAt.delete(slot);
  }

  #detach(args: OfGuest<ClaimBody>): Record<string, never> {
    const { g } = this.#ctx;
    const slot = this.#guest(args.id);
    const epoch = g.epoch[slot]!;
    if (args.epoch <= epoch)
      throw new KedgeError('KEDGE_EPOCH_COMMITTED', `guest ${args.id} is at epoch ${epoch} already`);
    if (args.epoch === epoch + 1 && this.#holdsClaim(slot, args.claim)) this.#withdraw(slot);
    return {};
  }

  #abort(args: OfGuest<EpochBody>): Record<string, never> {
    const ctx = this.#ctx;
    const g = ctx.g;
    const slot = this.#guest(args.id);
    const epoch = g.epoch[slot]!;
    if (epoch > args.epoch)
      throw new KedgeError('KEDGE_EPOCH_COMMITTED', `guest ${args.id} runs at epoch ${epoch}`, {
        hint: 'the move was committed: this copy must end',
      });
    if (epoch < args.epoch) throw new KedgeError('KEDGE_EPOCH_STALE', `guest ${args.id} is at epoch ${epoch}`);
    if (g.state[slot] === GUEST_RUNNING) return {};
    if (g.state[slot] === GUEST_SEALED)
      throw new KedgeError('KEDGE_GUEST_SEALED', `guest ${args.id} lives in an image now`, {
        hint: 'kedge restore FILE continues it',
      });
    this.#withdraw(slot);
    g.state[slot] = GUEST_RUNNING;
    for (const flow of this.#flows(slot)) if (ctx.f.phase[flow] !== LIVE) thawFlow(ctx, flow);
    return {};
  }
}
