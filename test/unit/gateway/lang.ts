/**
 * A small language for tests of the data plane (after smoltcp's socket tests): a gateway with two legs, one guest and one peer, without
 * devices, without time of its own. Segments are written as offsets of the two streams, so that sequence numbers may lie
 * anywhere and a test still reads `seq: 0`.
 *
 * What the gateway emits is read by `wire.ts`, which shares no code with it, and held against what must be true of every packet:
 * checksums, the bytes of the streams, a right edge and a TSval towards the peer that never go back, no RST that no test asked for.
 */
import assert from 'node:assert/strict';
import type { ControlVerbs } from '../../../src/gateway/admin/schema.ts';
import { createArena } from '../../../src/gateway/arena.ts';
import type { Arena, ArenaLimits } from '../../../src/gateway/arena.ts';
import { PlaneContext } from '../../../src/gateway/context.ts';
import { STATES } from '../../../src/gateway/flow.ts';
import { readCounters, showFlow } from '../../../src/gateway/listing.ts';
import type { FastPath } from '../../../src/gateway/fast-path.ts';
import { OutQueue } from '../../../src/gateway/out-queue.ts';
import { Plane } from '../../../src/gateway/plane.ts';
import { Verbs } from '../../../src/gateway/verbs.ts';
import { SegmentWriter } from '../../../src/rewrite/build.ts';
import type { Port, Seq } from '../../../src/rewrite/numbers.ts';
import { GUEST_ADDRESS, OUTSIDE_ADDRESS, PEER_ADDRESS, SIDE, address } from './segments.ts';
import type { Expected, Segment, Side } from './segments.ts';
import { IN_STREAM, OUT_STREAM, watchGuest, watchPeer } from './watch.ts';
import type { Shown } from './watch.ts';
import { decode, flagBits, patternBytes } from './wire.ts';
import type { Seen } from './wire.ts';

export const GUEST_ID = '7d444840-9dc0-11d1-b245-5ffdce74fad2';
export const OUTSIDE_PORT = 8080;
export const GUEST_PORT = 80;
export const PEER_PORT = 40_000;

export type Leg = 'a' | 'b';
const LEGS: readonly Leg[] = ['a', 'b'];
const deviceOf = (leg: Leg): number => LEGS.indexOf(leg) + 1;

export type BenchOptions = {
  limits?: Partial<ArenaLimits>;
  peer?: Partial<Side>;
  /** The guest's socket on each leg. */
  a?: Partial<Side>;
  b?: Partial<Side>;
  mtu?: number;
  publish?: boolean;
  /** The fast path of the arena; without, there is no kernel's part. */
  fast?: (arena: Arena) => FastPath;
};

const BUFFER = 4 * 1024 * 1024;
const INPUT = 1024 * 1024;

export class Bench {
  readonly arena: Arena;
  readonly ctx: PlaneContext;
  readonly plane: Plane;
  readonly verbs: Verbs;
  readonly peer: Side;
  readonly sockets: Record<Leg, Side>;
  /** Packets that were emitted and not expected yet. */
  readonly emitted: Seen[] = [];
  /** Highest offset that the peer was acknowledged. */
  acknowledged = 0;
  /** RSTs may go to the peer. */
  allowReset = false;
  readonly #shown: Shown = { edge: 0, tsVal: undefined };
  readonly #writer = new SegmentWriter();
  readonly #out: OutQueue;
  epoch = 1;

  constructor(options: BenchOptions = {}) {
    this.arena = createArena({ maxFlows: 64, maxGuests: 8, custodyBytes: 16 * 1024 * 1024, ...options.limits });
    this.peer = { ...SIDE, isn: 0xffff_f000, clock: 0x7fff_f000, ...options.peer };
    this.sockets = {
      a: { ...SIDE, isn: 0xffff_ff00, clock: 1_000_000, ...options.a },
      b: { ...SIDE, isn: 77_777, clock: 5_000, ...options.b },
    };
    const buffer = new Uint8Array(BUFFER);
    this.#out = new OutQueue(buffer, INPUT, 256, (bytes, descriptors, count) => {
      for (let i = 0; i < count; i++) {
        const at = descriptors[3 * i + 1]!;
        this.#saw(decode(descriptors[3 * i]!, bytes.slice(at, at + descriptors[3 * i + 2]!)));
      }
    });
    const settings = {
      outsideAddress: OUTSIDE_ADDRESS,
      pool: { base: address('100.64.0.0'), prefix: 10 },
      mtu: options.mtu ?? 1500,
    };
    this.ctx = new PlaneContext(this.arena, this.#out, settings, options.fast?.(this.arena));
    this.ctx.now = 10_000;
    this.plane = new Plane(this.ctx);
    this.verbs = new Verbs(this.ctx, LEGS);
    this.verb('register', {
      name: 'guest',
      address: '100.64.0.9',
      leg: 'a',
      publish: options.publish === false ? [] : [{ proto: 'tcp', outsidePort: OUTSIDE_PORT, guestPort: GUEST_PORT }],
    });
  }

  // --- time ---

  /** Time passes, in steps of at most `step` milliseconds at which timers run. */
  advance(ms: number, step = 10): void {
    for (let left = ms; left > 0; left -= step) {
      this.ctx.now += Math.min(step, left);
      this.plane.tick();
      this.#out.flush();
    }
  }

  // --- packets in ---

  /** Puts raw bytes, virtio header included, into the plane. */
  raw(device: number, bytes: Uint8Array): void {
    this.#out.buffer.set(bytes, 0);
    this.plane.packet(device, 0, bytes.length);
    this.plane.tick();
    this.#out.flush();
  }

  fromPeer(segment: Segment, ports: { peer?: number; outside?: number } = {}): void {
    const w = this.#writer;
    w.reset();
    w.src = PEER_ADDRESS;
    w.dst = OUTSIDE_ADDRESS;
    w.srcPort = (ports.peer ?? this.ports.peer) as Port;
    w.dstPort = (ports.outside ?? this.ports.outside) as Port;
    this.#send(0, segment, this.peer, IN_STREAM, this.#outOffsetToSeq);
  }

  fromGuest(leg: Leg, segment: Segment, ports: { peer?: number; guest?: number } = {}): void {
    const w = this.#writer;
    w.reset();
    w.src = GUEST_ADDRESS;
    w.dst = PEER_ADDRESS;
    w.srcPort = (ports.guest ?? this.ports.guest) as Port;
    w.dstPort = (ports.peer ?? this.ports.peer) as Port;
    this.#send(deviceOf(leg), segment, this.sockets[leg], OUT_STREAM, this.#inOffsetToSeq);
  }

  /** Ports of the flow under test. */
  ports = { peer: PEER_PORT, outside: OUTSIDE_PORT, guest: GUEST_PORT };

  /** The guest's stream as the peer counts it: by the ISN of the socket that opened it. */
  readonly #outOffsetToSeq = (offset: number): number => this.#wrap(this.firstIsn + 1 + offset);
  readonly #inOffsetToSeq = (offset: number): number => this.#wrap(this.peer.isn + 1 + offset);
  /** ISN of the guest's first socket. */
  get firstIsn(): number {
    return this.firstSocket.isn;
  }
  /** The socket that made the handshake with the peer. */
  firstSocket: Side = SIDE;

  #wrap(value: number): number {
    return ((value % 2 ** 32) + 2 ** 32) % 2 ** 32;
  }

  #send(device: number, s: Segment, side: Side, stream: number, ackSeq: (offset: number) => number): void {
    const w = this.#writer;
    const syn = s.flags?.includes('S') === true;
    const length = s.bytes?.length ?? s.len ?? 0;
    w.flags = flagBits(s.flags ?? (length > 0 ? 'PA' : 'A'));
    const seq = s.seq ?? (syn ? -1 : 0);
    w.seq = this.#wrap(side.isn + 1 + seq - (syn ? 0 : side.base)) as Seq;
    if (w.flags & 16) w.ack = ackSeq(s.ack ?? 0) as Seq;
    w.window = s.win ?? 500;
    w.mss = s.mss ?? (syn ? side.mss : 0);
    w.wscale = s.ws ?? (syn ? side.shift : -1);
    w.sackPermitted = s.sackOk ?? (syn && side.sackOk);
    if (s.ts !== false && (s.ts !== undefined || side.ts)) {
      const [value, echo] = s.ts ?? [this.tsOf(side), 0];
      w.setTimestamps(value >>> 0, echo >>> 0);
    }
    for (const [from, to] of s.sack ?? []) w.addSack(ackSeq(from) as Seq, ackSeq(to) as Seq);
    w.payloadLen = length;
    w.gsoSize = s.gso ?? 0;
    w.partial = s.partial ?? true;
    const buffer = this.#out.buffer;
    buffer.set(s.bytes ?? patternBytes(stream, seq, length), w.payloadOffset(0));
    this.plane.packet(device, 0, w.write(buffer, 0));
    this.plane.tick();
    this.#out.flush();
  }

  /** The clock of an end, as its TSval shows it. */
  tsOf(side: Side): number {
    return Math.floor(this.ctx.now + side.clock) >>> 0;
  }

  // --- packets out ---

  #saw(seen: Seen): void {
    this.emitted.push(seen);
    if (seen.proto !== 6) return;
    if (seen.device === 0) watchPeer(this, seen, this.#shown);
    else watchGuest(this, seen);
  }

  /** Whether the flow under test was ever frozen: before that the guest's own numbers pass. */
  managed(): boolean {
    const slot = this.slot();
    return slot >= 0 && (this.arena.flows.flags[slot]! & (1 << 10)) !== 0;
  }

  announcedShift(): number {
    return this.peer.shift >= 0 && this.firstSocket.shift >= 0 ? Math.min(14, this.firstSocket.shift) : 0;
  }

  /** Offset in the peer's stream. Those of a long stream are taken to be near where the flow is. */
  inOffset(seq: number): number {
    const near = this.slot() < 0 ? 0 : this.arena.flows.peerNxt[this.slot()]!;
    return near + ((seq - this.#inOffsetToSeq(near)) | 0);
  }

  outOffset(seq: number): number {
    const near = this.slot() < 0 ? 0 : this.arena.flows.sndNxt[this.slot()]!;
    return near + ((seq - this.#outOffsetToSeq(near)) | 0);
  }

  /** Offset of a socket's own SEQ, or of an ACK to it. */
  socketOffset(leg: Leg, seq: number): number {
    const side = this.sockets[leg];
    return side.base + ((seq - this.#wrap(side.isn + 1)) | 0);
  }

  expectToPeer(expected: Expected): Seen {
    const seen = this.#next(0, 'to the peer');
    const offsets = { seq: this.outOffset(seen.seq), ack: this.inOffset(seen.ack) };
    this.#compare(seen, expected, offsets, this.announcedShift(), (seq) => this.inOffset(seq));
    return seen;
  }

  expectToGuest(leg: Leg, expected: Expected): Seen {
    const seen = this.#next(deviceOf(leg), `to guest ${leg}`);
    const offsets = { seq: this.inOffset(seen.seq), ack: this.socketOffset(leg, seen.ack) };
    this.#compare(seen, expected, offsets, Math.max(0, this.peer.shift), (seq) => this.socketOffset(leg, seq));
    return seen;
  }

  #next(device: number, name: string): Seen {
    const seen = this.emitted.shift();
    assert.ok(seen !== undefined, `nothing was emitted, but a packet ${name} was expected`);
    assert.equal(seen.device, device, `${name}: the next packet is ${brief(seen)} on device ${seen.device}`);
    return seen;
  }

  #compare(
    seen: Seen,
    expected: Expected,
    offsets: { seq: number; ack: number },
    shift: number,
    toOffset: (seq: number) => number,
  ): void {
    const unit = seen.flags.includes('S') ? 1 : 2 ** shift;
    const actual: Record<string, unknown> = {
      flags: [...seen.flags].sort().join(''),
      ...offsets,
      len: seen.payload.length,
      win: seen.window,
      mss: seen.mss,
      ws: seen.wscale,
      sackOk: seen.sackOk,
      tsVal: seen.ts?.[0],
      tsEcr: seen.ts?.[1],
      sack: seen.sack.map(([from, to]) => [toOffset(from), toOffset(to)]),
      gsoSize: seen.gsoSize,
      partial: seen.partial,
      kinds: seen.kinds,
      edge: offsets.ack + seen.window * unit,
    };
    const wanted: Record<string, unknown> = { ...expected };
    if (expected.flags !== undefined) wanted['flags'] = [...expected.flags].sort().join('');
    const compared = Object.fromEntries(Object.keys(wanted).map((key) => [key, actual[key]]));
    assert.deepEqual(compared, wanted, brief(seen));
  }

  expectNothing(): void {
    assert.deepEqual(this.emitted.map(brief), []);
  }

  /** Forgets what was emitted so far, and gives it. */
  drain(): Seen[] {
    return this.emitted.splice(0);
  }

  // --- verbs ---

  /** Carries out a verb for the guest. */
  verb<V extends keyof ControlVerbs>(
    verb: V,
    args: Omit<ControlVerbs[V]['args'], 'id'> & { id?: string },
  ): ControlVerbs[V]['result'] {
    const result = this.verbs.call(verb, { id: GUEST_ID, ...args } as ControlVerbs[V]['args']);
    this.#out.flush();
    return result;
  }

  freeze(): void {
    this.verb('freeze', { epoch: this.epoch });
  }

  /** Exports the flow under test with K bytes received. */
  export(received: number, written = 0): ControlVerbs['export']['result'] {
    return this.verb('export', { epoch: this.epoch, sockets: [this.drained(received, written)] });
  }

  drained(received: number, written = 0): ControlVerbs['export']['args']['sockets'][number] {
    return {
      local: { address: '100.64.0.9', port: this.ports.guest },
      remote: { address: '198.51.100.7', port: this.ports.peer },
      received,
      written,
      lingering: false,
    };
  }

  /** Announces the guest's next socket on a leg. Its first byte is the first that the peer has not acknowledged. */
  attach(leg: Leg): ControlVerbs['attach']['result'] {
    const result = this.verb('attach', { epoch: this.epoch + 1, leg });
    this.sockets[leg].base = result.flows[0]?.acked ?? 0;
    return result;
  }

  commit(): void {
    this.verb('commit', { epoch: this.epoch + 1 });
    this.epoch++;
  }

  abort(): void {
    this.verb('abort', { epoch: this.epoch });
  }

  // --- what the gateway knows ---

  /** Slot of the flow under test, or -1. */
  slot(): number {
    return this.ctx.flows.findGuest(6, GUEST_ADDRESS, this.ports.guest, PEER_ADDRESS, this.ports.peer);
  }

  get f(): Arena['flows'] {
    return this.arena.flows;
  }

  state(): string {
    return STATES[this.f.state[this.slot()]!] ?? '';
  }

  /** All numbers of the flow under test. */
  show() {
    const flow = showFlow(this.arena, { legs: LEGS, outsideAddress: '192.0.2.1' }, this.f.flowId[this.slot()]!);
    assert.ok(flow !== undefined);
    return flow;
  }

  drops(): Readonly<Record<string, number>> {
    return readCounters(this.arena, 2).drops;
  }

  held(): number {
    return this.ctx.custody.held(this.slot());
  }
}

/** One line about a packet, for messages. */
export function brief(seen: Seen): string {
  return `${seen.device === 0 ? 'to peer' : `to leg ${LEGS[seen.device - 1]}`} ${seen.flags} seq ${seen.seq} ack ${seen.ack} len ${seen.payload.length} win ${seen.window}`;
}
