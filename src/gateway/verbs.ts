/**
 * The control verbs of agents, carried out by the pump between two batches (design §4). The gateway is the arbiter of a move: the
 * target's commit and the source's abort both end here, one after the other, and whoever comes first wins, so that there is
 * exactly one live guest.
 *
 * A verb is refused before anything changed, or carried out whole.
 */
import { KedgeError } from '../errors.ts';
import { formatIpv4, parseIpv4 } from '../rewrite/numbers.ts';
import type {
  AttachBody,
  AttachResult,
  ControlVerbs,
  EpochBody,
  ExportBody,
  ExportResult,
  ExportedFlow,
  FlowBrief,
  FreezeResult,
  RegisterBody,
  RegisterResult,
} from './admin/schema.ts';
import type { PlaneContext } from './context.ts';
import { ackPeer, rstPeer } from './emit.ts';
import { LIVE, NO_FIN, PEER_RESET, REOPENING, STATES, SYNCHRONIZED, TCP, UDP, isFinished, unmovable } from './flow.ts';
import { GUEST_FROZEN, GUEST_RUNNING, GUEST_SEALED, NO_LEG, guestName } from './guests.ts';
import { guestSummary } from './listing.ts';
import { attachFlow, commitFlow, detachFlow, freezeFlow, thawFlow, unackedFrom } from './splice.ts';
import { updateState } from './state.ts';
import { ackPoint } from './windows.ts';

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
      if (wanted.has(key) || !ports.isFree(proto === 'udp' ? UDP : TCP, outsidePort))
        throw new KedgeError('KEDGE_PORT_IN_USE', `outside port ${key} is taken`, {
          hint: 'publish another outside port, or stop the guest that has it: gateway guests list',
        });
      wanted.add(key);
    }
    const slot = guests.add(args.id, args.name, address, leg);
    if (slot === undefined)
      throw new KedgeError('KEDGE_GUESTS_FULL', 'the gateway holds as many guests as it has room for');
    for (const p of args.publish) ports.publish(p.proto === 'udp' ? UDP : TCP, p.outsidePort, slot, p.guestPort);
    return { guest: guestSummary(this.#ctx.arena, this.#legs, slot) };
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
    const { f, flows } = this.#ctx;
    const slots = [];
    for (let i = 0; i < flows.highWater; i++) if (f.flowId[i] !== 0 && f.guest[i] === guest) slots.push(i);
    return slots;
  }

  #unregister(args: OfGuest<EpochBody>): Record<string, never> {
    const ctx = this.#ctx;
    const slot = this.#holder(args);
    for (const flow of this.#flows(slot)) {
      if (ctx.f.proto[flow] === TCP && !isFinished(ctx.f.state[flow]!) && ctx.f.flags[flow]! & SYNCHRONIZED)
        rstPeer(ctx, flow);
      ctx.end(flow);
    }
    ctx.ports.unpublish(slot);
    ctx.guests.remove(slot);
    this.#attachedAt.delete(slot);
    return {};
  }

  #check(args: OfGuest<EpochBody>): { movable: true } {
    const slot = this.#holder(args);
    this.#requireMovable(slot);
    return { movable: true };
  }

  #requireMovable(guest: number): void {
    const { f } = this.#ctx;
    for (const flow of this.#flows(guest)) {
      const why = isFinished(f.state[flow]!) ? undefined : unmovable(f.flags[flow]!);
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
    return { flows: flows.map((flow) => this.#brief(flow)) };
  }

  #brief(flow: number): FlowBrief {
    const { f } = this.#ctx;
    return {
      id: f.flowId[flow]!,
      proto: f.proto[flow] === UDP ? 'udp' : 'tcp',
      state: STATES[f.state[flow]!] ?? 'CLOSED',
      local: { address: formatIpv4(f.guestAddress[flow]!), port: f.guestPort[flow]! },
      remote: { address: formatIpv4(f.peerAddress[flow]!), port: f.peerPort[flow]! },
    };
  }

  #exported(flow: number): ExportedFlow {
    const ctx = this.#ctx;
    const f = ctx.f;
    const { id, local, remote } = this.#brief(flow);
    return {
      id,
      local,
      remote,
      acked: unackedFrom(ctx, flow),
      finAcked: f.outFin[flow] !== NO_FIN && f.sndUna[flow]! > f.outFin[flow]!,
      peerFin: f.inFin[flow] !== NO_FIN && f.ackedToPeer[flow]! > f.inFin[flow]!,
      received: Math.max(0, f.cut[flow]!),
      reset: (f.flags[flow]! & PEER_RESET) !== 0,
      orphan: false,
    };
  }

  /**
   * The cut of every connection: K from the runtime, held against the ACKs its old kernel sent. All or nothing: one connection
   * whose K is not proved yet leaves every record as it was.
   */
  #export(args: OfGuest<ExportBody>): ExportResult {
    const ctx = this.#ctx;
    const f = ctx.f;
    const slot = this.#holder(args);
    if (ctx.g.state[slot] !== GUEST_FROZEN)
      throw new KedgeError('KEDGE_GUEST_NOT_FROZEN', `guest ${args.id} is not frozen`, { hint: 'freeze it first' });
    const sockets = new Map(
      args.sockets.map((s) => [`${s.local.port}/${s.remote.address}:${s.remote.port}`, s] as const),
    );
    const reasons: string[] = [];
    const cuts: { flow: number; received: number }[] = [];
    for (const flow of this.#flows(slot)) {
      if (f.proto[flow] !== TCP || isFinished(f.state[flow]!)) continue;
      const { id, local, remote } = this.#brief(flow);
      const socket = sockets.get(`${local.port}/${remote.address}:${remote.port}`);
      const proved = f.inFin[flow] === NO_FIN ? f.rcvNxt[flow]! : Math.min(f.rcvNxt[flow]!, f.inFin[flow]!);
      if (socket === undefined) {
        if (f.outFin[flow] !== NO_FIN && f.sndUna[flow]! > f.outFin[flow]!) continue;
        if (f.openedByGuest[flow] === 0 && proved <= 0 && f.sndNxt[flow]! <= 0) cuts.push({ flow, received: -1 });
        else reasons.push(`flow ${id} with ${remote.address}:${remote.port} has no socket in the export`);
      } else if (socket.received < proved)
        reasons.push(`flow ${id}: received ${socket.received}, but ${proved} bytes are acknowledged`);
      else if (socket.received > f.peerNxt[flow]! && f.flags[flow]! & SYNCHRONIZED)
        throw new KedgeError(
          'KEDGE_EXPORT_INCONSISTENT',
          `flow ${id}: received ${socket.received} is more than the ${f.peerNxt[flow]!} bytes the peer sent`,
        );
      else cuts.push({ flow, received: socket.received });
    }
    if (reasons.length > 0) return { settled: false, reasons };
    for (const { flow, received } of cuts) this.#setCut(flow, received);
    return {
      settled: true,
      flows: cuts.filter(({ received }) => received >= 0).map(({ flow }) => this.#exported(flow)),
    };
  }

  #setCut(flow: number, received: number): void {
    const ctx = this.#ctx;
    const f = ctx.f;
    if (received < 0) {
      f.flags[flow] = f.flags[flow]! | REOPENING;
      return;
    }
    f.cut[flow] = received;
    if (!(f.flags[flow]! & SYNCHRONIZED)) return;
    if (received > f.rcvNxt[flow]!) f.rcvNxt[flow] = received;
    ctx.custody.release(flow, received);
    const gap = ackPoint(ctx, flow) < f.peerNxt[flow]!;
    if (ackPoint(ctx, flow) > f.ackedToPeer[flow]!) ackPeer(ctx, flow);
    // What was under way to the old kernel is lost: three duplicates make the peer send it again (RFC 5681 §3.2).
    if (gap) for (let i = 0; i < 3; i++) ackPeer(ctx, flow);
    updateState(f, flow);
  }

  #seal(args: OfGuest<EpochBody>): Record<string, never> {
    const slot = this.#holder(args);
    const state = this.#ctx.g.state[slot];
    if (state === GUEST_RUNNING)
      throw new KedgeError('KEDGE_GUEST_NOT_FROZEN', `guest ${args.id} is running`, { hint: 'freeze and export it first' });
    this.#ctx.g.state[slot] = GUEST_SEALED;
    return {};
  }

  #attach(args: OfGuest<AttachBody>): AttachResult {
    const ctx = this.#ctx;
    const { f, g } = ctx;
    const slot = this.#guest(args.id);
    const leg = this.#leg(args.leg);
    const epoch = g.epoch[slot]!;
    if (args.epoch !== epoch + 1)
      throw new KedgeError('KEDGE_EPOCH_CLAIMED', `guest ${args.id} is at epoch ${epoch}; ${args.epoch} cannot follow`, {
        hint: 'this image was restored before, and a guest has one life: kedge restore FILE --without-flows makes another',
      });
    if (g.state[slot] === GUEST_RUNNING)
      throw new KedgeError('KEDGE_GUEST_NOT_FROZEN', `guest ${args.id} is running`, {
        hint: 'the image was taken while it went on: kedge restore FILE --without-flows',
      });
    if (g.nextLeg[slot] !== NO_LEG) {
      if (ctx.now - (this.#attachedAt.get(slot) ?? 0) < ATTACH_LEASE)
        throw new KedgeError('KEDGE_EPOCH_CLAIMED', `guest ${args.id} is being restored on leg ${this.#legs[g.nextLeg[slot]!]}`, {
          hint: 'wait for it to end; gateway guests list shows the state',
        });
      this.#withdraw(slot);
    }
    g.nextLeg[slot] = leg;
    this.#attachedAt.set(slot, ctx.now);
    const flows = this.#flows(slot);
    for (const flow of flows) attachFlow(ctx, flow);
    const connections = flows.filter((flow) => f.proto[flow] === TCP && f.cut[flow]! >= 0);
    return {
      flows: connections.map((flow) => {
        const { id, local, remote, acked, finAcked, received, reset } = this.#exported(flow);
        return { id, local, remote, acked, finAcked, received, reset };
      }),
    };
  }

  #commit(args: OfGuest<EpochBody>): Record<string, never> {
    const ctx = this.#ctx;
    const g = ctx.g;
    const slot = this.#guest(args.id);
    const epoch = g.epoch[slot]!;
    if (args.epoch === epoch && g.state[slot] === GUEST_RUNNING) return {};
    const leg = g.nextLeg[slot]!;
    if (args.epoch !== epoch + 1 || leg === NO_LEG)
      throw new KedgeError('KEDGE_EPOCH_STALE', `guest ${args.id} is not being restored at epoch ${args.epoch}`, {
        hint: 'the source took it back; the guest runs there',
      });
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

  #detach(args: OfGuest<EpochBody>): Record<string, never> {
    const { g } = this.#ctx;
    const slot = this.#guest(args.id);
    const epoch = g.epoch[slot]!;
    if (args.epoch <= epoch)
      throw new KedgeError('KEDGE_EPOCH_COMMITTED', `guest ${args.id} is at epoch ${epoch} already`);
    if (args.epoch === epoch + 1) this.#withdraw(slot);
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
