/**
 * Sends the same generated segments through the BPF programs and through the pump, and prints what differs, as JSON. The seed is the
 * argument. See `fast-path-rig.ts` for the network.
 */
import { writeKnown, writeNames, writeSetup, RECORD } from '../../../src/gateway/fast-record.ts';
import { isPlain } from '../../../src/gateway/fast-path.ts';
import { deviceOfLeg } from '../../../src/gateway/out-queue.ts';
import { established, spliced, talked } from '../../unit/gateway/factories.ts';
import type { Bench } from '../../unit/gateway/lang.ts';
import { OUTSIDE_ADDRESS } from '../../unit/gateway/segments.ts';
import { routed } from './fast-path-frames.ts';
import { Pump } from './fast-path-pump.ts';
import { FROM_GUEST, FROM_PEER, Rig } from './fast-path-rig.ts';
import { Segments, type Kind } from './fast-path-segments.ts';

export type Report = {
  /** By kind of segment: how many the kernel carried, and how many it left to the pump. */
  readonly kinds: Record<string, { carried: number; passed: number }>;
  readonly differences: string[];
  /** Of segments that do not come from the flow's leg: how many were carried, and after how many the kernel carried the flow no more. */
  readonly elsewhere: { sent: number; carried: number; letGo: number };
};

const CASES = 1500;
/** Segments of one connection, after which another begins. */
const OF_ONE = 60;
/** Of so many one is sent from another leg before. */
const ELSEWHERE = 10;
const MOST_DIFFERENCES = 10;
const LEG_DEVICE = 6;
const PEER_EDGE = 22;
const NAMES: Readonly<Record<number, string>> = {
  20: 'SND.UNA',
  21: 'SND.NXT',
  22: 'peer edge',
  23: 'RCV.NXT',
  24: 'acked to peer',
  25: 'peer NXT',
  26: 'max edge',
  27: 'guest edge',
  30: 'guest TS',
  31: 'last TS out',
  32: 'peer TS',
  33: 'last TS in',
};
const COUNTS = ['bytesOut', 'packetsOut', 'bytesIn', 'packetsIn'] as const;

const report: Report = { kinds: {}, differences: [], elsewhere: { sent: 0, carried: 0, letGo: 0 } };
const rig = new Rig();
const segments = new Segments(Number(process.argv[2]));

/** Connections that were never frozen, and such as were; with timestamps and SACK and without; sequence numbers that wrap. */
const MAKERS: readonly (() => Bench)[] = [
  () => established(),
  () => talked(4000, 300),
  () => settled('a'),
  () => settled('b'),
  () => established({ peer: { ts: false, isn: 0x7fff_ffff }, a: { ts: false, isn: 0xffff_ffff } }),
  () => established({ peer: { shift: -1 }, a: { shift: -1 } }),
  () => established({ peer: { clock: 0xffff_d000, shift: 14 }, a: { shift: 2, clock: 0xffff_d000, isn: 0x8000_0000 } }),
];

/** Spliced, and the new socket's window has reached what the peer was promised: nothing is held any more. */
function settled(leg: 'a' | 'b'): Bench {
  const t = spliced(0, undefined, leg);
  t.fromGuest(leg, { seq: 0, ack: 0, win: 600 });
  t.drain();
  if (t.f.hold[t.slot()] !== 0) throw new Error('the splice is not complete');
  return t;
}

function differ(kind: Kind, what: string): void {
  report.differences.push(`${kind.name}: ${what}`);
}

/** The old socket of a guest that has moved still speaks, from the leg that it was on. */
async function fromElsewhere(t: Bench, kind: Kind): Promise<void> {
  const record = new Float64Array(RECORD);
  writeNames(record, t.f, t.slot(), OUTSIDE_ADDRESS);
  writeSetup(record, t.f, t.slot(), rig.devices);
  writeKnown(record, t.f, t.slot());
  record[LEG_DEVICE] = rig.devices.outsideTun;
  rig.admit(0, record);
  report.elsewhere.sent++;
  report.elsewhere.carried += (await rig.send(kind.way, kind.frame)).length;
  if (rig.flows.isLive(0) !== 1) report.elsewhere.letGo++;
  rig.flows.withdraw(0, record.slice());
  rig.flows.forget(record);
}

async function compare(t: Bench, pump: Pump, kind: Kind): Promise<void> {
  const { f } = t;
  const flow = t.slot();
  const record = new Float64Array(RECORD);
  rig.flows.withdraw(0, record);
  writeNames(record, f, flow, OUTSIDE_ADDRESS);
  writeSetup(record, f, flow, rig.devices);
  writeKnown(record, f, flow);
  rig.admit(0, record);
  const before = record.slice();
  const counted = COUNTS.map((name) => f[name][flow]!);
  const way = kind.way;

  const carried = await rig.send(way, kind.frame);
  rig.flows.read(0, record);
  const live = rig.flows.isLive(0) === 1;
  rig.flows.forget(before);
  const passed = pump.send(way === FROM_PEER ? 0 : deviceOfLeg(f.leg[flow]!), kind.frame);
  const after = new Float64Array(RECORD);
  writeKnown(after, f, flow);

  const tally = (report.kinds[kind.name] ??= { carried: 0, passed: 0 });
  if (carried.length === 0) {
    tally.passed++;
    // Nothing that the kernel noted is more than what the pump then knows.
    for (const [index, name] of Object.entries(NAMES)) {
      const [kernel, own] = [record[Number(index)]!, after[Number(index)]!];
      if (kernel !== before[Number(index)] && kernel !== own)
        differ(kind, `passed, but ${name} is ${kernel}, not ${own}`);
    }
    if (record[35] !== 0 || record[37] !== 0) differ(kind, 'passed, but counted');
    return;
  }
  tally.carried++;
  if (!live) differ(kind, 'carried, and yet the flow is not live');
  const [ours, ...more] = passed;
  if (carried.length !== 1 || ours === undefined || more.length > 0)
    return differ(kind, `the kernel sent ${carried.length}, the pump ${passed.length}`);
  const [theirs] = carried;
  const wanted = Buffer.from(routed(ours.ip)).toString('hex');
  const came = Buffer.from(theirs?.ip.slice(0, ours.ip.length) ?? []).toString('hex');
  if (wanted !== came) differ(kind, `bytes\n  pump   ${wanted}\n  kernel ${came}`);
  const offload = (vnet: readonly number[] = []): string => [vnet[0]! & 1, vnet[1], vnet[4], vnet[5]].join();
  if (offload(theirs?.vnet) !== offload(ours.vnet)) differ(kind, `offload ${offload(theirs?.vnet)}`);
  for (const [key, name] of Object.entries(NAMES)) {
    const index = Number(key);
    // What the kernel notes only rises; a peer that takes back its window is the pump's to know.
    const own = index === PEER_EDGE ? Math.max(before[index]!, after[index]!) : after[index];
    if (record[index] !== own) differ(kind, `${name} is ${record[index]}, not ${own}`);
  }
  COUNTS.forEach((name, i) => {
    const own = f[name][flow]! - counted[i]!;
    if (record[34 + i] !== own) differ(kind, `${name} is ${record[34 + i]}, not ${own}`);
  });
}

let t = established();
let pump = new Pump(t);
for (let n = 0; n < CASES && report.differences.length < MOST_DIFFERENCES; n++) {
  // While the peer's data is the gateway's to take, the pump holds and plays what the kernel lets pass: not the same packets.
  if (n % OF_ONE === 0 || !isPlain(t.f, t.slot()) || t.f.hold[t.slot()] !== 0) {
    t = MAKERS[segments.below(MAKERS.length)]!();
    pump = new Pump(t);
  }
  const kind = segments.next(t);
  if (kind.way === FROM_GUEST && n % ELSEWHERE === 0) await fromElsewhere(t, kind);
  await compare(t, pump, kind);
}
await rig.close();
process.stdout.write(JSON.stringify(report));
