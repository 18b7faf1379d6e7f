/**
 * What one packet costs in the data plane, devices apart: nanoseconds, and bytes of garbage. And what the verbs of a move cost for a
 * guest with ten thousand connections, milliseconds. Prints tables; with `--json` one object. Run: bin/node bench/micro-plane.ts
 */
import { createArena } from '../src/gateway/arena.ts';
import { PlaneContext } from '../src/gateway/context.ts';
import { inlineThePath } from '../src/gateway/jit.ts';
import { OutQueue } from '../src/gateway/out-queue.ts';
import { Plane } from '../src/gateway/plane.ts';
import { Verbs } from '../src/gateway/verbs.ts';
import { SegmentWriter } from '../src/rewrite/build.ts';
import type { Ipv4, Port, Seq } from '../src/rewrite/numbers.ts';
import { parseIpv4 } from '../src/rewrite/numbers.ts';

const ROUNDS = 300_000;
const REPEATS = 5;
const MANY_FLOWS = 10_000;
const MSS = 1448;

const ID = '7d444840-9dc0-11d1-b245-5ffdce74fad2';
const GUEST = ip('100.64.0.9');
const PEER = ip('198.51.100.7');
const OUTSIDE = ip('192.0.2.1');
const PEER_ISN = 0xf0001000;
const ISN = { a: 0xe0002000, b: 0x90003000 } as const;

function ip(text: string): Ipv4 {
  const address = parseIpv4(text);
  if (address === undefined) throw new Error(text);
  return address;
}

type Leg = 'a' | 'b';

/** A gateway whose output goes nowhere. Segments are written where they are read. */
class Bed {
  readonly buffer = new Uint8Array(4 * 1024 * 1024);
  readonly view = new DataView(this.buffer.buffer);
  readonly ctx: PlaneContext;
  readonly plane: Plane;
  readonly verbs: Verbs;
  readonly writer = new SegmentWriter();
  sent = 0;

  constructor(maxFlows: number) {
    const arena = createArena({ maxFlows, maxGuests: 4, custodyBytes: 64 * 1024 * 1024 });
    const out = new OutQueue(this.buffer, 1024 * 1024, 512, (_buffer, _descriptors, count) => {
      this.sent += count;
    });
    const pool = { base: ip('100.64.0.0'), prefix: 10 };
    this.ctx = new PlaneContext(arena, out, { outsideAddress: OUTSIDE, pool, mtu: 1500 });
    this.ctx.now = 1000;
    this.plane = new Plane(this.ctx);
    this.verbs = new Verbs(this.ctx, ['a', 'b']);
    const publish = [{ proto: 'tcp' as const, outsidePort: 8080, guestPort: 80 }];
    this.verbs.call('register', { id: ID, name: 'bench', address: '100.64.0.9', leg: 'a', publish });
  }

  /** Writes a segment of the peer at the start of the buffer; gives its length. */
  fromPeer(port: number, flags: number, seq: number, ack: number, length: number): number {
    return this.#write(PEER, OUTSIDE, port, 8080, flags, PEER_ISN + 1 + seq, ISN.a + 1 + ack, length);
  }

  fromGuest(leg: Leg, port: number, flags: number, seq: number, ack: number, length: number): number {
    return this.#write(GUEST, PEER, 80, port, flags, ISN[leg] + 1 + seq, PEER_ISN + 1 + ack, length);
  }

  #write(
    src: Ipv4,
    dst: Ipv4,
    srcPort: number,
    dstPort: number,
    flags: number,
    seq: number,
    ack: number,
    length: number,
  ): number {
    const w = this.writer;
    w.reset();
    w.src = src;
    w.dst = dst;
    w.srcPort = srcPort as Port;
    w.dstPort = dstPort as Port;
    w.flags = flags;
    w.seq = (seq >>> 0) as Seq;
    w.ack = (ack >>> 0) as Seq;
    w.window = 60_000;
    if (flags & 2) {
      w.mss = 1460;
      w.wscale = 7;
      w.sackPermitted = true;
    }
    w.setTimestamps(5000, 4000);
    w.payloadLen = length;
    return w.write(this.buffer, 0);
  }

  take(device: number, length: number): void {
    this.plane.packet(device, 0, length);
    this.ctx.out.flush();
  }

  connect(port: number): void {
    this.take(0, this.fromPeer(port, 0x02, -1, 0, 0));
    this.take(1, this.fromGuest('a', port, 0x12, -1, 0, 0));
    this.take(0, this.fromPeer(port, 0x10, 0, 0, 0));
  }

  /** Moves the guest with its connections to leg b. Gives the milliseconds that each verb took. */
  move(ports: readonly number[]): Record<string, number> {
    const took: Record<string, number> = {};
    const timed = <T>(name: string, verb: () => T): T => {
      const start = performance.now();
      const result = verb();
      took[name] = Math.round((performance.now() - start) * 10) / 10;
      return result;
    };
    const local = { address: '100.64.0.9', port: 80 };
    const socket = { local, received: 0, written: 0, lingering: false };
    const sockets = ports.map((port) => ({ ...socket, remote: { address: '198.51.100.7', port } }));
    timed('freeze', () => this.verbs.call('freeze', { id: ID, epoch: 1 }));
    timed('export', () => this.verbs.call('export', { id: ID, epoch: 1, sockets }));
    timed('attach', () => this.verbs.call('attach', { id: ID, epoch: 2, leg: 'b' }));
    for (const port of ports) {
      this.take(2, this.fromGuest('b', port, 0x02, -1, 0, 0));
      this.take(2, this.fromGuest('b', port, 0x10, 0, 0, 0));
    }
    timed('commit', () => this.verbs.call('commit', { id: ID, epoch: 2 }));
    this.ctx.out.flush();
    return took;
  }
}

type Figure = { nanoseconds: number; garbage: number };

/** The best of several runs. Garbage is counted where the collector did not run in between. */
function measure(step: () => void): Figure {
  let best = Number.POSITIVE_INFINITY;
  let garbage = Number.POSITIVE_INFINITY;
  for (let repeat = 0; repeat < REPEATS; repeat++) {
    const start = process.hrtime.bigint();
    for (let round = 0; round < ROUNDS; round++) step();
    best = Math.min(best, Number(process.hrtime.bigint() - start) / ROUNDS);
    const heap = process.memoryUsage().heapUsed;
    for (let round = 0; round < 2000; round++) step();
    const grown = process.memoryUsage().heapUsed - heap;
    if (grown >= 0) garbage = Math.min(garbage, grown / 2000);
  }
  return { nanoseconds: best, garbage };
}

/** What every step below does beside the plane: it writes the headers anew, for a translated packet cannot be used twice. */
function writing(bed: Bed): number {
  return measure(() => bed.fromPeer(40_000, 0x18, 0, 0, MSS)).nanoseconds;
}

const PORT = 40_000;
const ACK = 0x10;
const DATA = 0x18;

function plain(): Bed {
  const bed = new Bed(16);
  bed.connect(PORT);
  return bed;
}

function spliced(): Bed {
  const bed = plain();
  bed.move([PORT]);
  // The new socket's window catches up with what was promised: packets pass.
  const { f } = bed.ctx;
  f.guestEdge[0] = f.maxEdge[0]!;
  bed.take(2, bed.fromGuest('b', PORT, ACK, 0, 0, 0));
  if (f.hold[0] !== 0) throw new Error('the splice is not complete');
  return bed;
}

/** A step of a bed that stays in its state for ever. */
type Kind = { name: string; packets: number; make: () => () => void };

const KINDS: readonly Kind[] = [
  {
    name: 'plain, data to the guest',
    packets: 1,
    make: () => {
      const bed = plain();
      return () => bed.take(0, bed.fromPeer(PORT, DATA, 0, 0, MSS));
    },
  },
  {
    name: 'plain, data to the peer',
    packets: 1,
    make: () => {
      const bed = plain();
      return () => bed.take(1, bed.fromGuest('a', PORT, DATA, 0, 0, MSS));
    },
  },
  {
    name: 'spliced, data to the guest',
    packets: 1,
    make: () => {
      const bed = spliced();
      return () => bed.take(0, bed.fromPeer(PORT, DATA, 0, 0, MSS));
    },
  },
  {
    name: 'spliced, data to the peer',
    packets: 1,
    make: () => {
      const bed = spliced();
      return () => bed.take(2, bed.fromGuest('b', PORT, DATA, 0, 0, MSS));
    },
  },
  {
    name: 'spliced, ACK to the guest',
    packets: 1,
    make: () => {
      const bed = spliced();
      return () => bed.take(0, bed.fromPeer(PORT, ACK, 0, 0, 0));
    },
  },
  {
    name: 'held, data into custody and on, and its ACK',
    packets: 2,
    make: () => {
      const bed = plain();
      bed.move([PORT]);
      const { f } = bed.ctx;
      let at = 0;
      return () => {
        // It never lets go: what was promised stays ahead of the guest's window.
        f.maxEdge[0] = at + 64 * 1024 * 1024;
        bed.take(0, bed.fromPeer(PORT, DATA, at, 0, MSS));
        at += MSS;
        bed.take(2, bed.fromGuest('b', PORT, ACK, 0, at, 0));
      };
    },
  },
];

inlineThePath();
const beside = writing(plain());
const packets = KINDS.map(({ name, packets: count, make }) => {
  const { nanoseconds, garbage } = measure(make());
  return {
    step: name,
    packets: count,
    nanoseconds: Math.round((nanoseconds - beside * count) * 10) / 10,
    garbageBytes: Math.round(garbage * 10) / 10,
  };
});

const crowd = new Bed(MANY_FLOWS + 1);
const ports = Array.from({ length: MANY_FLOWS }, (_, i) => 2000 + i);
for (const port of ports) crowd.connect(port);
const verbs = crowd.move(ports);

if (process.argv.includes('--json')) console.log(JSON.stringify({ packets, flows: MANY_FLOWS, verbs }));
else {
  console.table(packets);
  console.log(`a move of ${MANY_FLOWS} connections, ms:`, verbs);
}
