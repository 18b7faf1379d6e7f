/**
 * The pump: the worker thread that carries every packet.
 *
 * Theory of operation. `readBatch` fills slots of one buffer from all TUNs; each packet is translated where it stands and named
 * in the queue; `writeBatch` writes the queue. There is no thread hop and no copy between the two. A control verb arrives as
 * a message and a signal of the wake descriptor, and is carried out between two batches: what it changes is changed for
 * every later packet and no earlier one.
 */
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { KedgeError } from '../errors.ts';
import { native } from '../native.ts';
import type { TunFd, WakeFd } from '../native.ts';
import { GAUGE, openArena } from './arena.ts';
import type { PumpData, PumpReply, PumpRequest } from './control.ts';
import { PlaneContext } from './context.ts';
import { FastPath } from './fast-path.ts';
import { inlineThePath } from './jit.ts';
import { arenaNow } from './listing.ts';
import { OutQueue } from './out-queue.ts';
import { Plane, TIMER_TICK } from './plane.ts';
import { Verbs } from './verbs.ts';

/** A virtio header and the longest IPv4 packet, rounded up. */
const SLOT = 66 * 1024;
// Few: what is read must still be in the cache when it is written. Measured with one stream: 8 carry a fifth more than 32.
const BATCH = 8;
/** Room for segments of the gateway's own between two flushes. */
const TRANSMIT_BYTES = 2 * 1024 * 1024;
const QUEUE = 512;

if (parentPort === null) throw new Error('the pump runs as a worker');
const port = parentPort;
const data = workerData as PumpData;
const arena = openArena(data.arena);
const fds = Int32Array.from([data.outsideFd, ...data.legs.map((leg) => leg.fd)]) as Int32Array & { [i: number]: TunFd };
const wake = data.wakeFd as WakeFd;
const stats = new Int32Array(1);

const buffer = new Uint8Array(BATCH * SLOT + TRANSMIT_BYTES);
const out = new OutQueue(buffer, BATCH * SLOT, QUEUE, (bytes, descriptors, count) => {
  for (let i = 0; i < count; i++) {
    const device = descriptors[3 * i]!;
    if (device === 0) arena.gauges[GAUGE.outsideOut] = arena.gauges[GAUGE.outsideOut]! + 1;
    else arena.legPacketsOut[device - 1] = arena.legPacketsOut[device - 1]! + 1;
  }
  native.writeBatch(fds, bytes, descriptors, count, stats);
  arena.gauges[GAUGE.writeErrors] = stats[0]!;
});
const ctx = new PlaneContext(arena, out, data.settings, fastPath());
const plane = new Plane(ctx);
const verbs = new Verbs(
  ctx,
  data.legs.map((leg) => leg.name),
);
const descriptors = new Int32Array(BATCH * 3);
let running = true;

function fastPath(): FastPath {
  const kernel = data.fastPath;
  if (kernel === undefined) return new FastPath(arena, data.settings.outsideAddress);
  const flows = new native.FastPathFlows(kernel.keysFd, kernel.flowsFd, arena.limits.maxFlows);
  return new FastPath(arena, data.settings.outsideAddress, { flows, devices: kernel.devices });
}

function answer(request: PumpRequest): PumpReply {
  try {
    if (request.verb === 'stop') {
      running = false;
      return { id: request.id, result: {} };
    }
    return { id: request.id, result: verbs.call(request.verb, request.args) };
  } catch (error) {
    if (!(error instanceof KedgeError)) throw error;
    const { code, message, hint } = error;
    return { id: request.id, error: { code, message, ...(hint === undefined ? {} : { hint }) } };
  }
}

function control(): void {
  native.wakeClear(wake);
  for (let m = receiveMessageOnPort(port); m !== undefined; m = receiveMessageOnPort(port)) {
    ctx.now = arenaNow();
    const reply = answer(m.message as PumpRequest);
    // What the verb sends must be on its way before the caller acts on the answer.
    out.flush();
    port.postMessage(reply);
  }
}

inlineThePath();
const flag = new Int32Array(data.flag);
ctx.now = arenaNow();
port.postMessage({ id: 0, result: {} } satisfies PumpReply);
while (running) {
  const timeout = ctx.fast.pausing ? 1 : ctx.timersArmed ? TIMER_TICK : 1000;
  const count = native.readBatch(fds, wake, buffer, SLOT, BATCH, descriptors, data.spinUs, timeout);
  if (count < 0) throw new Error(`reading the TUN devices failed: errno ${-count}`);
  ctx.now = arenaNow();
  for (let i = 0; i < count; i++) plane.packet(descriptors[3 * i]!, descriptors[3 * i + 1]!, descriptors[3 * i + 2]!);
  plane.tick();
  out.flush();
  // Fewer than asked for: every device was read empty.
  ctx.fast.admit(count < BATCH, ctx.now, out);
  out.flush();
  if (Atomics.exchange(flag, 0, 0) !== 0) control();
}
