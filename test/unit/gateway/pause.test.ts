/** A flow of which something always waits in a queue is made to stand still until the kernel can carry it in order. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { GATEWAY_DROPS } from '../../../src/gateway/drops.ts';
import { FastPath, isCarried } from '../../../src/gateway/fast-path.ts';
import { talked } from './factories.ts';
import { FakeKernel } from './fast-kernel.ts';
import type { Bench } from './lang.ts';
import { OUTSIDE_ADDRESS, type Segment } from './segments.ts';

const SENT = 14_480;
/** Milliseconds after which a flow is paused, and how long at most. */
const PATIENCE = 20;
const PAUSE = 15;
/** For so long nothing must have come before the kernel carries it. */
const QUIET = 3;

class Busy {
  readonly kernel = new FakeKernel();
  readonly t: Bench = talked(SENT, 0, {
    fast: (arena) =>
      new FastPath(arena, OUTSIDE_ADDRESS, {
        flows: this.kernel,
        devices: { outsideTun: 7, legs: [2, 3].map((device) => ({ device, tun: device + 10 })) },
      }),
  });
  readonly flow = this.t.slot();

  /** Its packets are counted; there is one that the pump has not seen. */
  constructor() {
    this.batch(true);
    const { fast } = this.t.ctx;
    for (const way of ['toPeer', 'toGuest'] as const) {
      assert.ok(this.kernel.toPump(this.flow, way));
      fast.meet(this.flow, { ihl: 20, ttl: 63, reserved: true }, way === 'toPeer');
    }
    this.kernel.toPump(this.flow);
  }

  get carried(): boolean {
    return isCarried(this.t.f, this.flow);
  }

  get superseded(): number {
    return this.t.arena.drops[GATEWAY_DROPS.superseded] ?? 0;
  }

  /** The pump is at the end of a batch. `idle` says that it has read all there was. */
  batch(idle: boolean): void {
    const { ctx } = this.t;
    ctx.fast.admit(idle, ctx.now, ctx.out);
    ctx.out.flush();
  }

  /** Never idle for so long that the flow is paused. */
  pause(): void {
    this.batch(false);
    this.t.ctx.now += PATIENCE;
    this.batch(false);
    assert.ok(this.t.ctx.fast.pausing);
  }

  fromPeer(segment: Segment): void {
    this.kernel.toPump(this.flow, 'toGuest');
    this.t.fromPeer(segment);
  }

  fromGuest(segment: Segment): void {
    this.kernel.toPump(this.flow, 'toPeer');
    this.t.fromGuest('a', segment);
  }

  /** What the kernel had counted, the pump has seen. */
  catchUp(): void {
    this.t.ctx.fast.meet(this.flow, { ihl: 20, ttl: 63, reserved: false }, true);
  }
}

describe('a busy flow', () => {
  test('is not paused while it has not waited for long', () => {
    const s = new Busy();
    s.batch(false);
    s.t.ctx.now += PATIENCE - 1;
    s.batch(false);
    assert.ok(!s.t.ctx.fast.pausing);
    s.fromPeer({ ack: SENT });
    s.t.expectToGuest('a', { ack: SENT });
  });

  test('paused, its acknowledgements wait until the kernel carries it', () => {
    const s = new Busy();
    s.pause();
    s.fromGuest({ seq: SENT, len: 1448 });
    s.t.expectToPeer({ seq: SENT, len: 1448 });
    s.fromPeer({ ack: SENT + 500 });
    s.fromPeer({ ack: SENT + 1448 });
    s.fromGuest({ seq: SENT + 1448 });
    s.t.expectNothing();
    s.batch(true);
    assert.ok(!s.carried, 'a packet would be overtaken');
    s.t.expectNothing();
    s.catchUp();
    s.batch(true);
    s.t.ctx.now += QUIET - 1;
    s.batch(true);
    assert.ok(!s.carried, 'an end may have to answer that');
    s.t.ctx.now += 1;
    s.batch(true);
    assert.ok(s.carried);
    s.t.expectToPeer({ seq: SENT + 1448, ack: 0, len: 0 });
    s.t.expectToGuest('a', { ack: SENT + 500, len: 0 });
    s.t.expectToGuest('a', { ack: SENT + 1448, len: 0 });
    s.t.expectNothing();
    assert.equal(s.superseded, 0);
  });

  test('an acknowledgement that passes in the kernel before those that were kept are sent: they are not', () => {
    const s = new Busy();
    s.pause();
    s.fromGuest({ seq: SENT, len: 1448 });
    s.t.drain();
    s.fromPeer({ ack: SENT });
    s.fromGuest({ seq: SENT + 1448 });
    s.catchUp();
    s.batch(true);
    s.t.ctx.now += QUIET;
    s.kernel.admitted = () => s.kernel.carry(s.flow, { sndUna: SENT + 1448 });
    s.batch(true);
    assert.ok(s.carried);
    s.t.expectToPeer({ seq: SENT + 1448, len: 0 });
    s.t.expectNothing();
    assert.equal(s.superseded, 1);
  });

  test('data passes, behind the acknowledgements before it', () => {
    const s = new Busy();
    s.pause();
    s.fromPeer({ ack: SENT });
    s.fromPeer({ seq: 0, ack: SENT, len: 100 });
    s.t.expectToGuest('a', { ack: SENT, len: 0 });
    s.t.expectToGuest('a', { len: 100 });
    s.fromPeer({ seq: 100, ack: SENT });
    s.t.expectNothing();
    s.t.ctx.now += PAUSE;
    s.batch(false);
    s.t.expectToGuest('a', { seq: 100, ack: SENT, len: 0 });
  });

  test('more acknowledgements than there is room for pass, in order', () => {
    const s = new Busy();
    s.pause();
    const most = 64;
    const acks = Array.from({ length: most + 1 }, (_, n) => SENT - most + n);
    for (const ack of acks) s.fromPeer({ ack });
    for (const ack of acks) s.t.expectToGuest('a', { ack });
  });

  test('an end of the guest’s comes behind its acknowledgements, and ends the pause', () => {
    const s = new Busy();
    s.pause();
    s.fromPeer({ ack: SENT });
    s.fromGuest({ seq: SENT });
    s.fromGuest({ seq: SENT, flags: 'FA' });
    s.t.expectToPeer({ seq: SENT, flags: 'A' });
    s.t.expectToPeer({ seq: SENT, flags: 'FA' });
    s.t.expectNothing();
    s.batch(false);
    s.t.expectToGuest('a', { ack: SENT });
    assert.ok(!s.t.ctx.fast.pausing);
  });

  test('the pause ends in time, and the next one comes later', () => {
    const s = new Busy();
    s.pause();
    s.fromPeer({ ack: SENT });
    s.t.ctx.now += PAUSE - 1;
    s.batch(false);
    s.t.expectNothing();
    s.t.ctx.now += 1;
    s.batch(false);
    s.t.expectToGuest('a', { ack: SENT });
    assert.ok(!s.carried && !s.t.ctx.fast.pausing);
    s.t.ctx.now += 2 * PATIENCE;
    s.batch(false);
    assert.ok(!s.t.ctx.fast.pausing);
    s.t.ctx.now += 1000;
    s.batch(false);
    assert.ok(s.t.ctx.fast.pausing);
  });

  test('a flow that freezes is not paused any more: what its peer acknowledged is on record', () => {
    const s = new Busy();
    s.pause();
    s.fromGuest({ seq: SENT, len: 1448 });
    s.t.drain();
    s.fromPeer({ ack: SENT + 1448 });
    assert.equal(s.t.f.sndUna[s.flow], SENT + 1448);
    s.t.freeze();
    s.t.drain();
    s.batch(true);
    assert.ok(!s.t.ctx.fast.pausing);
    s.t.expectNothing();
    assert.equal(s.superseded, 1);
  });

  test('another flow’s segments pass', () => {
    const s = new Busy();
    s.pause();
    s.t.fromPeer({ flags: 'S', win: 64_000 }, { peer: 50_000 });
    assert.equal(s.t.drain().length, 1);
  });
});
