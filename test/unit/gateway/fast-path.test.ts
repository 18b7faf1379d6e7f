import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Arena } from '../../../src/gateway/arena.ts';
import { FastPath, isCarried, isPlain } from '../../../src/gateway/fast-path.ts';
import {
  EXPECTED,
  FROZEN,
  GREETING,
  GUEST_RESET,
  HAS_AO,
  HAS_MD5,
  HAS_MPTCP,
  LACKS_SACK,
  LACKS_WSCALE,
  MANAGED,
  OWNED,
  PEER_RESET,
  REOPENING,
  SYNCHRONIZED,
  UDP,
  WINDOW_CLOSED,
} from '../../../src/gateway/flow.ts';
import { listFlows, showFlow } from '../../../src/gateway/listing.ts';
import { established, spliced, talked } from './factories.ts';
import { FakeKernel } from './fast-kernel.ts';
import type { Bench } from './lang.ts';
import { OUTSIDE_ADDRESS } from './segments.ts';

/** Segments after which a flow is proposed. */
const WORTH = 8;
const DEVICES = { outsideTun: 7, legs: [2, 3].map((device) => ({ device, tun: device + 10 })) };

type Way = 'toPeer' | 'toGuest';
type Header = { readonly ihl: number; readonly ttl: number };
/** As the kernel counts it. */
const PLAIN: Header = { ihl: 20, ttl: 63 };

class Setting {
  readonly t: Bench;
  readonly kernel = new FakeKernel();
  readonly fast: FastPath;
  readonly flow: number;

  constructor(t: Bench = talked(1000, 1000)) {
    this.t = t;
    this.flow = t.slot();
    this.fast = new FastPath(t.arena, OUTSIDE_ADDRESS, { flows: this.kernel, devices: DEVICES });
  }

  get f(): Arena['flows'] {
    return this.t.f;
  }

  get carried(): boolean {
    return isCarried(this.f, this.flow);
  }

  /** The pump takes a packet out of a TUN. */
  pump(reserved = false, header: Partial<Header> = {}, way: Way = 'toPeer'): void {
    this.fast.meet(this.flow, { ...PLAIN, ...header, reserved }, way === 'toPeer');
    this.fast.settle(this.flow);
  }

  /** The pump has read all there was, and written all it had. */
  settleDown(): void {
    this.fast.admit(true, 1, this.t.ctx.out);
  }

  /** A packet in each direction goes to the pump, which takes both. */
  bothWays(): void {
    for (const way of ['toPeer', 'toGuest'] as const) this.pump(this.kernel.toPump(this.flow, way), {}, way);
  }

  /** As many segments as make the flow worth it, and what the pump does then with nothing left to read. */
  propose(): void {
    for (let i = 0; i < WORTH; i++) this.pump(this.kernel.toPump(this.flow));
    this.settleDown();
  }

  admit(): void {
    this.propose();
    this.bothWays();
    this.settleDown();
    assert.ok(this.carried);
  }
}

describe('which flows are plain', () => {
  test('an established one is, spliced or not', () => {
    for (const t of [established(), talked(5000, 3000), spliced()]) assert.ok(isPlain(t.f, t.slot()));
  });

  /** What a flow has → how it gets it. Each alone keeps it with the pump. */
  const special: Readonly<Record<string, (f: Arena['flows'], i: number) => void>> = {
    'no TCP': (f, i) => (f.proto[i] = UDP),
    frozen: (f, i) => (f.phase[i] = FROZEN),
    'another state': (f, i) => (f.state[i] = f.state[i]! + 1),
    'the peer’s FIN': (f, i) => (f.inFin[i] = 5),
    'the guest’s FIN': (f, i) => (f.outFin[i] = 5),
    'peer data held': (f, i) => (f.hold[i] = 1),
    'ranges in custody': (f, i) => (f.rangeCount[i] = 1),
    'a retransmission due': (f, i) => (f.rtoAt[i] = 5),
    'a window to tell again': (f, i) => (f.reopenAt[i] = 5),
    'a socket that has not sent all again': (f, i) => (f.guestNxt[i] = f.sndNxt[i]! - 1),
    'a handshake not done': (f, i) => (f.flags[i] = f.flags[i]! & ~SYNCHRONIZED),
    'an acknowledgement owed to the guest': (f, i) => {
      f.flags[i] = f.flags[i]! | MANAGED;
      f.ackedToGuest[i] = f.sndUna[i]! - 1;
    },
  };
  for (const [name, change] of Object.entries(special))
    test(`not with: ${name}`, () => {
      const t = talked(100, 100);
      change(t.f, t.slot());
      assert.equal(isPlain(t.f, t.slot()), false);
    });

  const flags = {
    PEER_RESET,
    GUEST_RESET,
    HAS_MD5,
    HAS_AO,
    HAS_MPTCP,
    OWNED,
    WINDOW_CLOSED,
    REOPENING,
    GREETING,
    LACKS_SACK,
    LACKS_WSCALE,
    EXPECTED,
  };
  for (const [name, bit] of Object.entries(flags))
    test(`not with the flag ${name}`, () => {
      const t = talked(100, 100);
      t.f.flags[t.slot()] = t.f.flags[t.slot()]! | bit;
      assert.equal(isPlain(t.f, t.slot()), false);
    });

  test('a flow whose peer is held is plain while nothing is held of it', () => {
    const t = spliced();
    const i = t.slot();
    t.f.hold[i] = 1;
    t.f.playNxt[i] = t.f.peerNxt[i]!;
    assert.ok(isPlain(t.f, i));
    t.f.playNxt[i] = t.f.peerNxt[i]! - 1;
    assert.equal(isPlain(t.f, i), false);
  });
});

describe('admission', () => {
  test('a short conversation is never proposed', () => {
    const s = new Setting();
    for (let i = 1; i < WORTH; i++) s.pump();
    s.settleDown();
    assert.deepEqual(s.kernel.asked, []);
  });

  test('the kernel carries a flow once the pump has seen every packet that was counted', () => {
    const s = new Setting();
    s.propose();
    assert.deepEqual(s.kernel.asked, ['propose']);
    s.settleDown();
    assert.ok(!s.carried, 'no packet is counted yet, so one may be on its way unmarked');
    s.bothWays();
    // Two more are on their way; after each the pump believes that it is idle.
    const marks = [s.kernel.toPump(s.flow), s.kernel.toPump(s.flow)];
    assert.deepEqual(marks, [false, false]);
    for (const marked of marks) {
      s.settleDown();
      assert.ok(!s.carried, 'a packet would be overtaken');
      s.pump(marked);
    }
    s.settleDown();
    assert.ok(s.carried);
    assert.deepEqual(s.kernel.asked, ['propose', 'admit 2', 'admit 3', 'admit 4']);
  });

  test('not while packets may be in a queue that was not read empty', () => {
    const s = new Setting();
    s.propose();
    s.bothWays();
    for (let batch = 0; batch < 100; batch++) s.fast.admit(false, 1, s.t.ctx.out);
    assert.ok(!s.carried);
    s.settleDown();
    assert.ok(s.carried);
  });

  test('what waited in the queue of the other direction when the count began is not taken for what was counted', () => {
    const s = new Setting();
    s.propose();
    // The kernel counts two, and the pump sees one of them; then one that is as old as the hills.
    s.pump(s.kernel.toPump(s.flow, 'toGuest'), {}, 'toGuest');
    const late = s.kernel.toPump(s.flow, 'toGuest');
    s.pump(false, {}, 'toPeer');
    s.settleDown();
    assert.ok(!s.carried, 'a packet would be overtaken');
    s.pump(late, {}, 'toGuest');
    s.settleDown();
    assert.ok(!s.carried, 'nor is it known that no other waits there');
    s.pump(s.kernel.toPump(s.flow, 'toPeer'), {}, 'toPeer');
    s.settleDown();
    assert.ok(s.carried);
    assert.deepEqual(s.kernel.asked, ['propose', 'admit 3']);
  });

  test('counts that never agree are begun again', () => {
    const s = new Setting();
    s.propose();
    s.bothWays();
    s.kernel.toPump(s.flow); // damaged: the pump never counts it
    for (let batch = 0; batch < 20; batch++) s.settleDown();
    assert.ok(!s.carried);
    assert.equal(s.kernel.asked.at(-1), 'arm');
    s.bothWays();
    s.settleDown();
    assert.ok(s.carried);
  });

  for (const lost of ['toPeer', 'toGuest'] as const)
    test(`a mark ${lost === 'toPeer' ? 'to the peer' : 'to the guest'} that never comes is made again`, () => {
      const s = new Setting();
      s.propose();
      s.kernel.toPump(s.flow, lost); // damaged: the pump never sees it
      for (let n = 0; n < 63; n++) s.bothWays();
      s.settleDown();
      assert.ok(!s.kernel.asked.includes('arm'), 'older ones may wait before it');
      s.bothWays();
      assert.ok(!s.kernel.asked.includes('arm'), 'nor is anything lost that may be in a queue');
      s.settleDown();
      assert.equal(s.kernel.asked.at(-1), 'arm');
      s.bothWays();
      s.settleDown();
      assert.ok(s.carried);
    });

  test('a flow whose guest has moved is counted where the guest is', () => {
    const s = new Setting();
    s.admit();
    s.fast.withdraw(s.flow);
    s.f.leg[s.flow] = 1;
    s.propose();
    assert.deepEqual([s.kernel.asked.at(-1), s.kernel.leg], ['arm', DEVICES.legs[1]?.device]);
  });

  for (const [what, header] of [
    ['with IPv4 options', { ihl: 24 }],
    ['on its last hop', { ttl: 1 }],
  ] as const)
    test(`a packet ${what} is counted by neither side`, () => {
      const s = new Setting();
      s.propose();
      s.bothWays();
      s.kernel.toPump(s.flow); // on its way
      s.pump(false, header);
      s.settleDown();
      assert.ok(!s.carried, 'a packet would be overtaken');
      s.pump();
      s.settleDown();
      assert.ok(s.carried);
    });

  test('a candidate that is not plain any more begins anew', () => {
    const s = new Setting();
    s.propose();
    s.f.rtoAt[s.flow] = 1;
    s.bothWays();
    s.settleDown();
    assert.ok(!s.carried);
    s.f.rtoAt[s.flow] = 0;
    s.propose();
    s.settleDown();
    assert.ok(s.carried);
  });

  test('a kernel without room is not asked again', () => {
    const s = new Setting();
    s.kernel.refuses = -28;
    for (let round = 0; round < 4; round++) s.propose();
    assert.deepEqual(s.kernel.asked, ['propose']);
    assert.ok(!s.carried);
  });

  test('without the kernel’s part nothing happens', () => {
    const t = talked(1000, 1000);
    const fast = new FastPath(t.arena, OUTSIDE_ADDRESS);
    for (let i = 0; i < 100; i++) {
      fast.meet(t.slot(), { ...PLAIN, reserved: false }, true);
      fast.settle(t.slot());
      fast.admit(true, 1, t.ctx.out);
    }
    fast.withdraw(t.slot());
    fast.forget(t.slot());
    assert.equal(isCarried(t.f, t.slot()), false);
  });
});

describe('a carried flow', () => {
  test('a packet for the pump brings what the kernel knows, and takes the flow back', () => {
    const s = new Setting();
    s.admit();
    s.kernel.carry(s.flow, { rcvNxt: 1500, packetsIn: 3 });
    const before = s.f.packetsIn[s.flow]!;
    s.pump(s.kernel.toPump(s.flow));
    assert.equal(s.f.rcvNxt[s.flow], 1500);
    assert.equal(s.f.packetsIn[s.flow], before + 3);
    assert.ok(!s.carried);
    // All is quiet: it is carried again without a new count.
    s.settleDown();
    assert.ok(s.carried);
    assert.equal(s.kernel.asked.at(-1), 'admit 1');
  });

  test('a packet on another processor may be carried while one takes the flow back: what it shows is not lost', () => {
    const s = new Setting();
    s.admit();
    const marked = s.kernel.toPump(s.flow);
    s.kernel.finishing = () => s.kernel.carry(s.flow, { rcvNxt: 1700, packetsIn: 1 });
    const before = s.f.packetsIn[s.flow]!;
    s.pump(marked);
    s.settleDown();
    assert.deepEqual([s.f.rcvNxt[s.flow], s.f.packetsIn[s.flow]], [1700, before + 1]);
  });

  test('what is not counted comes to the pump while the kernel goes on to carry', () => {
    const s = new Setting();
    s.admit();
    s.kernel.carry(s.flow, { rcvNxt: 1500 });
    s.pump();
    assert.equal(s.f.rcvNxt[s.flow], 1500);
    assert.ok(s.carried);
  });

  test('withdrawn: evidence and counts are read back once, and the flow begins anew', () => {
    const s = new Setting();
    s.admit();
    const [packets, leg, outside] = [s.f.packetsOut[s.flow]!, s.t.arena.legPacketsIn[0]!, s.t.arena.gauges.slice()];
    s.kernel.carry(s.flow, { sndUna: 1000, rcvNxt: 2000, packetsOut: 5 });
    s.fast.withdraw(s.flow);
    s.fast.withdraw(s.flow);
    assert.equal(s.kernel.asked.filter((what) => what === 'withdraw').length, 1);
    assert.equal(s.f.rcvNxt[s.flow], 2000);
    assert.equal(s.f.packetsOut[s.flow], packets + 5);
    assert.equal(s.t.arena.legPacketsIn[0], leg + 5);
    assert.equal([...s.t.arena.gauges].filter((value, i) => value !== outside[i]).length, 1);
    assert.ok(!s.carried);
    s.propose();
    assert.equal(s.kernel.asked.at(-1), 'arm');
  });

  test('one that is not plain after a segment is withdrawn', () => {
    const s = new Setting();
    s.admit();
    s.f.inFin[s.flow] = 4000;
    s.pump();
    assert.ok(!s.carried);
    assert.equal(s.kernel.asked.at(-1), 'withdraw');
  });

  test('forgotten: withdrawn, then its keys are gone', () => {
    const s = new Setting();
    s.admit();
    s.fast.forget(s.flow);
    assert.deepEqual(s.kernel.asked.slice(-2), ['withdraw', 'forget']);
    s.fast.forget(s.flow);
    assert.deepEqual(s.kernel.asked.slice(-2), ['withdraw', 'forget']);
    s.propose();
    assert.equal(s.kernel.asked.at(-1), 'propose');
  });

  test('listed as fast, with what only the kernel knows yet', () => {
    const s = new Setting();
    const names = { legs: ['a', 'b'], outsideAddress: '192.0.2.1', kernel: s.kernel };
    const before = listFlows(s.t.arena, names, {})[0];
    assert.equal(before?.fast, false);
    s.admit();
    s.kernel.carry(s.flow, { rcvNxt: 2500, packetsIn: 4 });
    const [listed] = listFlows(s.t.arena, names, {});
    assert.deepEqual([listed?.fast, listed?.packetsIn], [true, before.packetsIn + 4]);
    assert.equal(showFlow(s.t.arena, names, listed?.id ?? 0)?.sequence.rcvNxt, 2500);
    s.fast.look(s.flow);
    assert.equal(listFlows(s.t.arena, names, {})[0]?.packetsIn, before.packetsIn + 4, 'counted once');
  });
});
