/**
 * What one packet costs in `src/rewrite`, in nanoseconds and bytes of garbage: parse, and parse with the full translation of a
 * spliced segment. Prints a table; with `--json` one object. Run: bin/node bench/micro-rewrite.ts
 */
import { SegmentWriter } from '../src/rewrite/build.ts';
import { seqAdd, toSeq } from '../src/rewrite/numbers.ts';
import type { Ipv4, Port } from '../src/rewrite/numbers.ts';
import { Packet } from '../src/rewrite/packet.ts';
import {
  finish,
  setAck,
  setDestination,
  setSeq,
  setSource,
  setTimestamps,
  setWindow,
  translateSack,
} from '../src/rewrite/translate.ts';

/** Packets in one batch; each in a slot of its own, as the pump reads them. */
const BATCH = 64;
const SLOT = 65_600;
const ROUNDS = 15_000;
const REPEATS = 5;

const GUEST = 0x64400001 as Ipv4;
const OUTSIDE = 0xc0a80001 as Ipv4;
const PEER = 0xcb007107 as Ipv4;

type Kind = { name: string; payload: number; gsoSize: number; blocks: number; partial: boolean };

const KINDS: readonly Kind[] = [
  { name: 'ACK', payload: 0, gsoSize: 0, blocks: 0, partial: true },
  { name: 'ACK, 3 SACK blocks', payload: 0, gsoSize: 0, blocks: 3, partial: true },
  { name: '1448 bytes', payload: 1448, gsoSize: 0, blocks: 0, partial: true },
  { name: '1448 bytes, full checksum', payload: 1448, gsoSize: 0, blocks: 0, partial: false },
  { name: '63712 bytes, GSO', payload: 44 * 1448, gsoSize: 1448, blocks: 0, partial: true },
];

const buffer = new Uint8Array(BATCH * SLOT);
const lengths = new Int32Array(BATCH);
const packet = new Packet();
packet.attach(buffer);

function fill(kind: Kind): void {
  const w = new SegmentWriter();
  for (let i = 0; i < BATCH; i++) {
    w.reset();
    w.src = GUEST;
    w.dst = PEER;
    w.srcPort = 40_000 as Port;
    w.dstPort = 443 as Port;
    w.seq = toSeq(0x90000000 + i * 7919);
    w.ack = toSeq(0xf0000000 + i);
    w.flags = 0x18;
    w.window = 502;
    w.setTimestamps(0x80000000 + i, 0x12345678);
    for (let block = 0; block < kind.blocks; block++)
      w.addSack(seqAdd(w.ack, 5000 * block + 1448), seqAdd(w.ack, 5000 * block + 2896));
    w.payloadLen = kind.payload;
    w.gsoSize = kind.gsoSize;
    w.partial = kind.partial;
    lengths[i] = w.write(buffer, i * SLOT);
  }
}

function parseBatch(): number {
  let bad = 0;
  for (let i = 0; i < BATCH; i++) if (packet.parse(i * SLOT, lengths[i] ?? 0) !== 0) bad++;
  return bad;
}

/** Guest to peer and back again, so that the packet can be used once more: two translations, each with its parse. */
function translateBatch(): number {
  let bad = 0;
  const p = packet;
  for (let i = 0; i < BATCH; i++) {
    if (p.parse(i * SLOT, lengths[i] ?? 0) !== 0) bad++;
    setSource(p, OUTSIDE, 50_000 as Port);
    splice(p, 0x7654321, 77);
  }
  for (let i = 0; i < BATCH; i++) {
    if (p.parse(i * SLOT, lengths[i] ?? 0) !== 0) bad++;
    setSource(p, GUEST, 40_000 as Port);
    setDestination(p, PEER, 443 as Port);
    splice(p, -0x7654321, -77);
  }
  return bad;
}

function splice(p: Packet, delta: number, ticks: number): void {
  setSeq(p, seqAdd(p.seq, delta));
  setAck(p, seqAdd(p.ack, -delta));
  setWindow(p, p.window ^ 1);
  setTimestamps(p, (p.tsVal + ticks) >>> 0, (p.tsEcr - ticks) >>> 0);
  if (p.sackAt !== 0) translateSack(p, -delta, p.ack, seqAdd(p.ack, 2 ** 20));
  finish(p);
}

type Figure = { nanoseconds: number; garbage: number };

/**
 * The best of several runs; the machine does other things too. Garbage is counted in single batches, so that the collector does
 * not run in between; where it did, the heap shrank and the batch does not count.
 */
function measure(batch: () => number, packets: number): Figure {
  let best = Number.POSITIVE_INFINITY;
  let garbage = Number.POSITIVE_INFINITY;
  for (let repeat = 0; repeat < REPEATS; repeat++) {
    const start = process.hrtime.bigint();
    for (let round = 0; round < ROUNDS; round++) if (batch() !== 0) throw new Error('a packet was refused');
    const elapsed = Number(process.hrtime.bigint() - start);
    best = Math.min(best, elapsed / (ROUNDS * packets));
  }
  for (let repeat = 0; repeat < REPEATS; repeat++) {
    const heap = process.memoryUsage().heapUsed;
    for (let round = 0; round < 100; round++) batch();
    const grown = process.memoryUsage().heapUsed - heap;
    if (grown >= 0) garbage = Math.min(garbage, grown / (100 * packets));
  }
  return { nanoseconds: Math.round(best * 10) / 10, garbage: Math.round(garbage * 100) / 100 };
}

const results = KINDS.map((kind) => {
  fill(kind);
  const parse = measure(parseBatch, BATCH);
  const spliced = measure(translateBatch, 2 * BATCH);
  return {
    packet: kind.name,
    parseNs: parse.nanoseconds,
    splicedNs: spliced.nanoseconds,
    garbageBytes: Math.max(parse.garbage, spliced.garbage),
  };
});

if (process.argv.includes('--json')) console.log(JSON.stringify(results));
else console.table(results);
