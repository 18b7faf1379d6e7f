/**
 * Runs in a network namespace of its own, which ends with the process:
 *
 *     pe ── ou (from_peer)        kg-out, kg-a: only their routes matter
 *     ho ── le (from_guest)
 *
 * What is sent at `pe` comes in at the outside device, is translated by the program, and comes out at `ho`; and the other way round. The
 * neighbours of the routes are nobody: what comes out is only looked at.
 */
import { spawn, spawnSync, type ChildProcessWithoutNullStreams } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { FastDevices } from '../../../src/gateway/fast-record.ts';
import { RECORD } from '../../../src/gateway/fast-record.ts';
import { native } from '../../../src/native.ts';
import { ETHERNET, VNET, frame, type Frame } from './fast-path-frames.ts';

export const SLOTS = 64;
/** Slot and addresses of the flow whose segments follow each frame. */
const SECOND = SLOTS - 1;
const SECOND_GUEST = '100.64.0.200';
export const OUTSIDE = '192.0.2.1';
export const PEER = '198.51.100.7';
export const GUEST = '100.64.0.9';
/** Way of `exchange.c`. */
export const FROM_PEER = 0;
export const FROM_GUEST = 1;

export const PLAIN: Frame = {
  source: PEER,
  destination: OUTSIDE,
  sourcePort: 9,
  destinationPort: 9999,
  seq: 0,
  ack: 0,
  flags: 0x10,
  window: 100,
  options: [],
  payload: [],
  ttl: 64,
  tos: 0,
  fragment: 0x4000,
  ipOptions: [],
  proto: 6,
  checksum: 'full',
  ipChecksum: 'right',
  gso: 0,
  padding: 0,
  to: 0xaa,
};

const SET_UP = `
ip link add ou address 02:00:00:00:00:aa type veth peer name pe
ip link add le address 02:00:00:00:00:aa type veth peer name ho
ip tuntap add kg-out mode tun
ip tuntap add kg-a mode tun
echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6
for device in lo ou pe le ho kg-out kg-a; do ip link set $device up; done
ip addr add 192.0.2.77/24 dev ou
ip addr add 10.0.1.1/24 dev le
echo 1 >/proc/sys/net/ipv4/ip_forward
ip route add default via 192.0.2.254 dev ou
ip neigh add 192.0.2.254 lladdr 02:00:00:00:00:01 dev ou nud permanent
ip route add default via 10.0.1.2 dev le table 5602
ip neigh add 10.0.1.2 lladdr 02:00:00:00:00:02 dev le nud permanent
ip rule add pref 21 iif kg-a lookup 5602
ip rule add pref 22 iif ou blackhole
ip rule add pref 23 iif le blackhole
`;

function sh(script: string): void {
  const { status, stderr } = spawnSync('sh', ['-ec', script], { encoding: 'utf8' });
  if (status !== 0) throw new Error(`${script}: ${stderr}`);
}

function secondRecord(): Float64Array {
  const record = new Float64Array(RECORD);
  const address = (text: string): number => text.split('.').reduce((sum, part) => sum * 256 + Number(part), 0);
  record.set([address(SECOND_GUEST), address(PEER), address(OUTSIDE), 9999, 9, 9999]);
  return record;
}

export class Rig {
  readonly flows: InstanceType<typeof native.FastPathFlows>;
  readonly devices: FastDevices;
  readonly #programs: InstanceType<typeof native.FastPathPrograms>;
  readonly #exchange: ChildProcessWithoutNullStreams;
  readonly #lines: AsyncIterator<string>;
  #sent = 0;

  constructor() {
    sh(SET_UP);
    const folder = mkdtempSync(join(tmpdir(), 'kedge-exchange-'));
    const program = join(folder, 'exchange');
    sh(`cc -O1 -o ${program} ${join(import.meta.dirname, 'exchange.c')}`);
    this.#programs = new native.FastPathPrograms('ou', ['le'], SLOTS);
    const [keys = -1, flows = -1] = this.#programs.maps();
    this.flows = new native.FastPathFlows(keys, flows, SLOTS);
    const leg = { device: native.deviceIndex('le'), tun: native.deviceIndex('kg-a') };
    this.devices = { outsideTun: native.deviceIndex('kg-out'), legs: [leg, leg] };
    this.#exchange = spawn(program, ['pe', 'ho']);
    this.#exchange.stderr.pipe(process.stderr);
    this.#lines = createInterface(this.#exchange.stdout)[Symbol.asyncIterator]();
    this.#exchange.once('spawn', () => rmSync(folder, { recursive: true }));
    const record = secondRecord();
    record[6] = leg.device;
    record[7] = leg.tun;
    record[8] = this.devices.outsideTun;
    record[26] = 1e6; // MAX.EDGE
    this.admit(SECOND, record);
  }

  /** Lets the kernel carry a flow of which no packet is anywhere: its count is ended, and so at zero. */
  admit(slot: number, record: Float64Array): void {
    if (this.flows.propose(slot, record) !== 0) throw new Error(`flow ${slot} is not known`);
    this.flows.withdraw(slot, record.slice());
    if (this.flows.admit(slot, record, 0) !== 1) throw new Error(`flow ${slot} is not carried`);
  }

  /** Sends a frame; gives those that came out at the other side, without their Ethernet headers. */
  async send(way: number, sent: Frame): Promise<{ vnet: number[]; ip: number[] }[]> {
    const payload = [0x6b, 0x65, 0x64, 0x67, 0x65, ...[16, 8, 0].map((shift) => (++this.#sent >>> shift) & 255)];
    const ends =
      way === FROM_PEER ? {} : { source: SECOND_GUEST, destination: PEER, sourcePort: 9999, destinationPort: 9 };
    const second = frame({ ...PLAIN, ...ends, payload });
    const line = [frame(sent), second].map((bytes) => Buffer.from(bytes).toString('hex')).join(' ');
    this.#exchange.stdin.write(`${way} ${line}\n`);
    const came: { vnet: number[]; ip: number[] }[] = [];
    for (;;) {
      const next = await this.#lines.next();
      if (next.done === true) throw new Error('the exchange ended');
      const { value } = next;
      if (value === '') return came;
      const bytes = [...Buffer.from(value, 'hex')];
      came.push({ vnet: bytes.slice(0, VNET), ip: bytes.slice(VNET + ETHERNET) });
    }
  }

  async close(): Promise<void> {
    this.#exchange.stdin.end();
    await once(this.#exchange, 'exit');
    this.#programs.close();
  }
}
