/**
 * A peer, a gateway with two legs, and a guest that moves between two hosts, all in one simulated time. The gateway is the real data
 * plane; ends and wires are models. A move takes the steps of the real one (freeze, drain, export until it settles, attach,
 * connect, commit), and may be taken back at each.
 */
import assert from 'node:assert/strict';
import { GUEST_ADDRESS, OUTSIDE_ADDRESS, PEER_ADDRESS } from '../segments.ts';
import { decode } from '../wire.ts';
import type { Seen } from '../wire.ts';
import { Endpoint } from './endpoint.ts';
import type { EndpointOptions } from './endpoint.ts';
import { Gateway } from './gateway.ts';
import { Clock, Link } from './net.ts';
import type { LinkFaults } from './net.ts';
import { Random } from './random.ts';
import type { Scenario } from './scenario.ts';

const ID = '7d444840-9dc0-11d1-b245-5ffdce74fad2';
const TEXT = { guest: '100.64.0.9', peer: '198.51.100.7' };
const OUT = 1;
const IN = 2;

type Leg = 0 | 1;
const NAMES = ['a', 'b'] as const;

export class World {
  readonly scenario: Scenario;
  readonly random: Random;
  readonly clock = new Clock(1_000_000);
  readonly peer: Endpoint;
  /** The guest's socket, of the epoch that runs; undefined when the connection needs none. */
  socket: Endpoint | undefined;
  readonly log: string[] = [];
  moves = 0;
  aborts = 0;
  readonly #gateway: Gateway;
  readonly #toPeer: Link<Uint8Array>;
  readonly #toLeg: Link<Uint8Array>[];
  readonly #fromLeg: Link<Uint8Array>[];
  readonly #fromPeer: Link<Uint8Array>;
  /** Every socket there is, on each host: the newest hears first. */
  readonly #hosts: Endpoint[][] = [[], []];
  /** Whether a listener of the guest is there. */
  readonly #listens: boolean[];
  #leg: Leg = 0;
  #epoch = 1;
  // The guest: what it has written and read, whatever its socket is.
  #written = 0;
  #read = 0;
  #closed = false;
  #peerEnded = false;
  #stopped = false;
  /** At the last export, its socket was connected. */
  #answered = false;
  /** At the last export, its connect was not answered. */
  #connecting = false;
  #edge = -1;
  #tsVal: number | undefined;

  constructor(scenario: Scenario) {
    this.scenario = scenario;
    this.random = new Random(scenario.seed ^ 0x5bd1e995);
    const { random, clock } = this;
    const link = (faults: LinkFaults, to: (packet: Uint8Array) => void): Link<Uint8Array> =>
      new Link(clock, random, faults, to);
    this.#gateway = new Gateway(clock, scenario.custodyBytes, (device, packet) => this.#emitted(device, packet));
    this.#fromPeer = link(scenario.outside, (packet) => this.#gateway.packet(0, packet));
    this.#fromLeg = [1, 2].map((device) => link(scenario.leg, (packet) => this.#gateway.packet(device, packet)));
    this.#toPeer = link(scenario.outside, (packet) => this.#peerGets(decode(0, packet)));
    this.#toLeg = [0, 1].map((leg) => link(scenario.leg, (packet) => this.#hostGets(leg, decode(leg + 1, packet))));
    const { serves } = scenario;
    this.#listens = [serves, false];
    this.#gateway.call('register', {
      id: ID,
      name: 'guest',
      address: TEXT.guest,
      leg: 'a',
      publish: serves ? [{ proto: 'tcp', outsidePort: 8080, guestPort: 80 }] : [],
    });
    this.peer = new Endpoint({
      ...this.#ends(),
      name: 'peer',
      local: { address: PEER_ADDRESS, port: serves ? 40_000 : 443 },
      remote: { address: OUTSIDE_ADDRESS, port: serves ? 8080 : 5000 },
      outBase: 0,
      inBase: 0,
      outStream: IN,
      inStream: OUT,
      send: (packet) => this.#fromPeer.send(packet),
    });
    if (serves) this.peer.connect();
    else {
      this.socket = this.#newSocket(0, 0, 0);
      this.socket.connect();
    }
  }

  #ends(): Omit<
    EndpointOptions,
    'name' | 'local' | 'remote' | 'outBase' | 'inBase' | 'outStream' | 'inStream' | 'send'
  > {
    const { random, clock } = this;
    const shift = random.pick([-1, 0, 2, 7, 10, 14]);
    return {
      clock,
      isn: random.chance(0.3) ? (2 ** 32 - random.between(1, 100_000)) >>> 0 : random.between(0, 2 ** 32 - 1),
      shift,
      mss: random.pick([536, 1400, 1460]),
      sack: random.chance(0.7),
      clockOffset: random.between(0, 2 ** 32 - 1),
      // Less than a unit of its scale could never be told.
      buffer: Math.max(2 ** (shift + 1), random.pick([4000, 30_000, 64_000, 300_000])),
    };
  }

  #newSocket(leg: Leg, outBase: number, inBase: number): Endpoint {
    const { serves } = this.scenario;
    const made = new Endpoint({
      ...this.#ends(),
      name: `guest on ${NAMES[leg]}`,
      local: { address: GUEST_ADDRESS, port: serves ? 80 : 5000 },
      remote: { address: PEER_ADDRESS, port: serves ? 40_000 : 443 },
      outBase,
      inBase,
      outStream: OUT,
      inStream: IN,
      send: (packet) => this.#fromLeg[leg]!.send(packet),
    });
    this.#hosts[leg]!.unshift(made);
    return made;
  }

  // --- wires ---

  #emitted(device: number, packet: Uint8Array): void {
    if (device === 0) this.#watch(decode(0, packet));
    if (device === 0) this.#toPeer.send(packet);
    else this.#toLeg[device - 1]!.send(packet);
  }

  /** What must be true of all that leaves towards the peer. */
  #watch(seen: Seen): void {
    const { ctx } = this.#gateway;
    const flow = ctx.flows.findOutside(6, seen.srcPort, seen.dst, seen.dstPort);
    if (flow < 0 || (ctx.f.flags[flow]! & (1 << 10)) === 0 || !seen.flags.includes('A')) return;
    const unit = seen.flags.includes('S') ? 1 : 2 ** ctx.f.announcedShift[flow]!;
    const ack = (seen.ack - ctx.f.inBase[flow]!) | 0;
    assert.ok(ack <= this.peer.most, `ACK ${ack} of bytes the peer never sent`);
    if (seen.flags.includes('R')) return;
    const edge = ack + seen.window * unit;
    assert.ok(edge >= this.#edge, `the right edge went back from ${this.#edge} to ${edge}`);
    this.#edge = edge;
    if (seen.ts === undefined) return;
    assert.ok(this.#tsVal === undefined || ((seen.ts[0] - this.#tsVal) | 0) >= 0, 'TSval went back');
    this.#tsVal = seen.ts[0];
  }

  #peerGets(seen: Seen): void {
    if (seen.flags.includes('R')) assert.fail('a RST reached the peer');
    if (this.peer.state === 'closed' && seen.flags === 'S') return this.peer.accept(seen);
    this.peer.receive(seen);
  }

  #hostGets(leg: number, seen: Seen): void {
    const [socket] = this.#hosts[leg]!;
    const syn = seen.flags.includes('S') && !seen.flags.includes('A');
    if (syn && this.#listens[leg] === true && (socket === undefined || socket.state === 'closed')) {
      const made = this.#newSocket(leg as Leg, 0, 0);
      // No accept has returned it yet, so the runtime learns of it when the handshake is done.
      made.accept(seen);
      return;
    }
    socket?.receive(seen);
  }

  // --- the guest's program, and the peer's ---

  /** Both ends read and write a little. */
  act(): void {
    const { random, scenario, peer } = this;
    if (peer.state === 'open') {
      peer.take(random.between(0, 60_000));
      const to = Math.min(scenario.into, peer.written + random.between(0, 40_000));
      peer.write(to);
      if (to === scenario.into && random.chance(0.1)) peer.close();
    }
    if (this.#stopped) return;
    const accepted = this.#hosts[this.#leg]![0];
    if (this.socket === undefined && !this.#peerEnded && accepted?.state === 'open' && this.#read === 0)
      this.socket = accepted;
    const { socket } = this;
    if (socket?.state !== 'open') return;
    this.#read += socket.take(random.between(0, 60_000));
    this.#peerEnded ||= socket.peerEnded && socket.read === socket.inEnd;
    this.#written = Math.min(scenario.out, this.#written + random.between(0, 40_000));
    socket.write(this.#written);
    if (this.#written === scenario.out && random.chance(0.1)) this.#close();
  }

  #close(): void {
    this.#closed = true;
    this.socket?.close();
  }

  get done(): boolean {
    const { peer, scenario } = this;
    return (
      peer.read === scenario.out &&
      this.#read === scenario.into &&
      peer.peerEnded &&
      this.#peerEnded &&
      peer.finAcked &&
      !this.#stopped
    );
  }

  progress(): string {
    const { peer, socket } = this;
    return (
      `out ${peer.read}/${this.scenario.out}, in ${this.#read}/${this.scenario.into}, FINs ${peer.peerEnded} ${this.#peerEnded}, ` +
      `peer ${peer.state} ${peer.una}-${peer.nxt} edge ${peer.edge}, guest ${socket?.state} ${socket?.una}-${socket?.nxt}, ` +
      `moves ${this.moves}, aborts ${this.aborts}, stopped ${this.#stopped}`
    );
  }

  // --- moves ---

  #delay(most: number): number {
    return this.random.next() * most;
  }

  #note(text: string): void {
    this.log.push(`${(this.clock.now - 1_000_000).toFixed(1)} ${text}`);
  }

  /** Begins a move; `then` runs when it has ended one way or the other. */
  move(then: () => void): void {
    this.#stopped = true;
    this.#note(`freeze at epoch ${this.#epoch} on ${NAMES[this.#leg]}`);
    this.#gateway.call('freeze', { id: ID, epoch: this.#epoch });
    this.clock.after(this.#delay(20), () => this.#export(then, 0));
  }

  #export(then: () => void, attempt: number): void {
    const { socket, scenario } = this;
    assert.ok(attempt < 200, 'an export that never settles');
    const accepted = this.#hosts[this.#leg]![0];
    // The drain takes over what waits in the listener's queue.
    if (socket === undefined && !this.#peerEnded && accepted?.state === 'open' && this.#read === 0)
      this.socket = accepted;
    const drained = this.socket;
    if (drained !== undefined && drained.state === 'open') {
      this.#read += drained.take(Infinity);
      this.#peerEnded ||= drained.peerEnded;
    }
    const local = { address: TEXT.guest, port: scenario.serves ? 80 : 5000 };
    const remote = { address: TEXT.peer, port: scenario.serves ? 40_000 : 443 };
    const known = drained !== undefined && !drained.reset;
    const sockets = known ? [{ local, remote, received: this.#read, written: this.#written, lingering: false }] : [];
    const result = this.#gateway.call('export', { id: ID, epoch: this.#epoch, sockets });
    if (!result.settled) {
      this.#note(`unsettled: ${result.reasons.join()}`);
      return this.clock.after(5, () => this.#export(then, attempt + 1));
    }
    this.#answered = known && drained.state === 'open';
    this.#connecting = known && drained.state === 'syn-sent';
    this.#note(`exported at ${this.#read}: ${JSON.stringify(result.flows[0] ?? {})}`);
    if (this.random.chance(0.15)) return this.clock.after(this.#delay(300), () => this.#abort(then));
    const leg = this.random.chance(0.8) ? ((1 - this.#leg) as Leg) : this.#leg;
    const seal = leg === this.#leg || this.random.chance(0.2);
    if (seal) {
      this.#gateway.call('seal', { id: ID, epoch: this.#epoch });
      this.#listens[this.#leg] = false;
      this.#destroy(this.#leg, this.#hosts[this.#leg]!);
    }
    // On the way to a host nothing overtakes the RST that ended an old socket; here it may, unless that is waited for.
    const visited = leg === this.#leg || this.#hosts[leg]!.length > 0;
    const settled = visited ? 3 * (scenario.leg.delay + scenario.leg.jitter) : 0;
    // While a socket of the last visit is there, no other could have its 4-tuple.
    if (leg !== this.#leg) this.#destroy(leg, this.#hosts[leg]!);
    this.clock.after(settled + this.#delay(200), () => this.#attach(then, leg, seal));
  }

  #abort(then: () => void): void {
    this.#note('abort');
    this.aborts++;
    this.#gateway.call('abort', { id: ID, epoch: this.#epoch });
    this.#stopped = false;
    this.#go();
    then();
  }

  /** The program runs again: what it wants is given to its socket. */
  #go(): void {
    this.socket?.write(this.#written);
    if (this.#closed) this.socket?.close();
  }

  #attach(then: () => void, leg: Leg, sealed: boolean): void {
    const { flows, claim } = this.#gateway.call('attach', { id: ID, epoch: this.#epoch + 1, leg: NAMES[leg] });
    const [flow] = flows;
    this.#note(`attach on ${NAMES[leg]}: ${JSON.stringify(flow ?? {})}`);
    assert.ok(flow === undefined || !flow.reset, 'attach says reset');
    this.#listens[leg] = this.scenario.serves;
    let fresh: Endpoint | undefined;
    if (flow !== undefined && !(flow.finAcked && this.#peerEnded)) {
      assert.equal(flow.received, this.#read);
      fresh = this.#newSocket(leg, flow.acked, flow.received);
      fresh.connect();
    }
    // A connect that the peer has not answered is not waited for.
    const waits = fresh !== undefined && this.#answered;
    const step = (left: number): void => {
      if (fresh?.reset === true) assert.fail('the new socket was refused');
      if (waits && fresh?.state !== 'open') {
        assert.ok(left > 0, 'the new socket never connects');
        return this.clock.after(5, () => step(left - 1));
      }
      if (!sealed && this.random.chance(0.2)) {
        if (this.random.chance(0.5)) this.#gateway.call('detach', { id: ID, epoch: this.#epoch + 1, claim });
        if (fresh !== undefined) {
          fresh.abort(false);
          this.#hosts[leg]!.splice(this.#hosts[leg]!.indexOf(fresh), 1);
        }
        this.#listens[leg] = leg === this.#leg && this.scenario.serves;
        return this.#abort(then);
      }
      this.clock.after(this.#delay(100), () => this.#commit(then, leg, fresh, claim));
    };
    step(20_000);
  }

  /** Ends sockets of a host. */
  #destroy(leg: Leg, sockets: readonly Endpoint[]): void {
    for (const each of sockets.slice()) {
      each.abort(this.random.chance(0.7));
      const at = this.#hosts[leg]!.indexOf(each);
      if (at >= 0) this.#hosts[leg]!.splice(at, 1);
    }
  }

  #commit(then: () => void, leg: Leg, fresh: Endpoint | undefined, claim: number): void {
    this.#note(`commit on ${NAMES[leg]}`);
    this.moves++;
    this.#gateway.call('commit', { id: ID, epoch: this.#epoch + 1, claim });
    this.#epoch++;
    const left = this.#leg;
    this.#leg = leg;
    const old = this.#hosts[left]!.filter((each) => each !== fresh);
    if (left !== leg) this.#listens[left] = false;
    if (left !== leg) this.clock.after(this.#delay(50), () => this.#destroy(left, old));
    if (fresh === undefined && this.#connecting) {
      // No SYN of it ever reached the gateway: it begins when the guest is there.
      fresh = this.#newSocket(leg, 0, 0);
      fresh.connect();
    }
    this.socket = fresh;
    this.#stopped = false;
    this.#go();
    then();
  }

  tick(): void {
    this.#gateway.tick();
  }
}
