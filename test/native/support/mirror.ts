/**
 * A worker thread that pumps packets between TUN devices and itself: each goes back to where it came from with its
 * addresses swapped. What the kernel sends to the other address of the subnet so comes from there: it talks to itself
 * through the device. Swapping changes no checksum, not even an unfinished one.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { errnoName, native, WHOLE_PACKET_SLOT } from '../../../src/native.ts';

export interface MirrorSetup {
  readonly devices: readonly number[];
  readonly wake: number;
  /** Not zero: end. */
  readonly stop: Int32Array;
  readonly spinUs: number;
}

/** What it saw of IPv4. */
export interface Seen {
  /** Packets of each device. */
  readonly packets: number[];
  /** Length of the longest packet with its header, bytes. */
  longest: number;
  /** TCP super-packets with a segment size. */
  segmented: number;
  /** Packets with an unfinished checksum. */
  unfinished: number;
  /** Most packets of one batch. */
  largestBatch: number;
  refused: number;
  lastErrno: string;
}

const SLOTS = 64;
const { devices, wake, stop, spinUs } = workerData as MirrorSetup;
const fds = Int32Array.from(devices);
// Shared memory, as the gateway uses it.
const buffer = new Uint8Array(new SharedArrayBuffer(SLOTS * WHOLE_PACKET_SLOT));
const view = new DataView(buffer.buffer);
const desc = new Int32Array(SLOTS * 3);
const stats = new Int32Array(2);
const seen: Seen = {
  packets: devices.map(() => 0),
  longest: 0,
  segmented: 0,
  unfinished: 0,
  largestBatch: 0,
  refused: 0,
  lastErrno: '',
};

function look(packet: number): void {
  const device = desc[packet * 3] ?? -1;
  const offset = desc[packet * 3 + 1] ?? 0;
  if (view.getUint8(offset + 10) >> 4 !== 4) return;
  seen.packets[device] = (seen.packets[device] ?? 0) + 1;
  seen.longest = Math.max(seen.longest, desc[packet * 3 + 2] ?? 0);
  if ((view.getUint8(offset) & 1) !== 0) seen.unfinished++;
  if (view.getUint8(offset + 1) === 1 && view.getUint16(offset + 4, true) > 0) seen.segmented++;
  const source = view.getUint32(offset + 22);
  view.setUint32(offset + 22, view.getUint32(offset + 26));
  view.setUint32(offset + 26, source);
}

while (Atomics.load(stop, 0) === 0) {
  const count = native.readBatch(fds, wake, buffer, WHOLE_PACKET_SLOT, SLOTS, desc, spinUs, -1);
  if (count < 0) throw new Error(`readBatch: ${errnoName(count)} of device ${desc[0]}`);
  for (let packet = 0; packet < count; packet++) look(packet);
  seen.largestBatch = Math.max(seen.largestBatch, count);
  native.writeBatch(fds, buffer, desc, count, stats);
}
seen.refused = stats[0] ?? 0;
seen.lastErrno = seen.refused > 0 ? errnoName(stats[1] ?? 0) : '';
parentPort?.postMessage(seen);
