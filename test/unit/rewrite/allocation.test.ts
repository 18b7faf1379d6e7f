/**
 * The way of a packet makes no garbage: what is allocated per packet is a pause of all connections sooner or later.
 *
 * Each step is measured on its own. A number above 2^31 that is handed to a function which V8 did not inline becomes an object for
 * the call; whether that happens depends on the caller, not on what is tested here.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SegmentWriter } from '../../../src/rewrite/build.ts';
import { seqAdd, toSeq } from '../../../src/rewrite/numbers.ts';
import type { Ipv4, Port } from '../../../src/rewrite/numbers.ts';
import { Packet } from '../../../src/rewrite/packet.ts';
import {
  finish,
  setAck,
  setDestination,
  setSeq,
  setSource,
  setTimestamps,
  setWindow,
  translateSack,
} from '../../../src/rewrite/translate.ts';
import { garbage } from '../../support/garbage.ts';

const buffer = new Uint8Array(256);
const p = new Packet();
p.attach(buffer);
const writer = new SegmentWriter();
let length = 0;
const LOWEST = toSeq(0x90000000);
const HIGHEST = toSeq(0x90100000);

/** Writes a segment whose numbers do not fit in 31 bits. */
function write(i: number): void {
  writer.reset();
  writer.src = 0xc0a80001 as Ipv4;
  writer.seq = toSeq(0xfffff000 + i);
  writer.ack = toSeq(0x90000000 + i);
  writer.flags = 0x10;
  writer.setTimestamps(0xf0000000 + i, 0x80000000);
  writer.addSack(toSeq(0x90001000 + i), toSeq(0x90002000 + i));
  length = writer.write(buffer, 0);
}

const steps: Record<string, (i: number) => void> = {
  write,
  parse: () => void p.parse(0, length),
  setSource: (i) => setSource(p, 0xe4400001 as Ipv4, (i & 0xffff) as Port),
  setDestination: (i) => setDestination(p, 0xcb007107 as Ipv4, (i & 0xffff) as Port),
  setSeq: () => setSeq(p, seqAdd(p.seq, -0x7654321)),
  setAck: () => setAck(p, seqAdd(p.ack, 0x7654321)),
  setWindow: (i) => setWindow(p, i & 0xffff),
  setTimestamps: () => setTimestamps(p, (p.tsVal + 99) >>> 0, (p.tsEcr - 99) >>> 0),
  // Too large to be inlined wherever it is called: its bounds are objects that are there already.
  translateSack: (i) => translateSack(p, (i & 1) * 2 - 1, LOWEST, HIGHEST),
  finish: () => finish(p),
};

for (const [name, step] of Object.entries(steps)) {
  test(`${name} allocates nothing`, () => {
    write(0);
    assert.equal(p.parse(0, length), 0);
    // Its deltas are applied, as those of any packet are: summed up without end they would be of another kind of number some day,
    // and what V8 had compiled would be of no use any more.
    const least = garbage((i) => {
      step(i);
      finish(p);
    });
    assert.ok(least <= 1, `${least} bytes a call`);
  });
}
