/** The pump's way for the same segments: the plane over the arena of a flow that the test language made. */
import { PlaneContext } from '../../../src/gateway/context.ts';
import { OutQueue } from '../../../src/gateway/out-queue.ts';
import { Plane } from '../../../src/gateway/plane.ts';
import type { Bench } from '../../unit/gateway/lang.ts';
import { OUTSIDE_ADDRESS } from '../../unit/gateway/segments.ts';
import { packet, vnet, VNET, type Frame } from './fast-path-frames.ts';

const INPUT = 256 * 1024;

export class Pump {
  readonly #plane: Plane;
  readonly #out: OutQueue;
  readonly #came: { device: number; vnet: number[]; ip: number[] }[] = [];

  constructor(t: Bench) {
    this.#out = new OutQueue(new Uint8Array(2 * INPUT), INPUT, 64, (bytes, descriptors, count) => {
      for (let i = 0; i < count; i++) {
        const [device = 0, at = 0, length = 0] = descriptors.subarray(3 * i, 3 * i + 3);
        const whole = [...bytes.subarray(at, at + length)];
        this.#came.push({ device, vnet: whole.slice(0, VNET), ip: whole.slice(VNET) });
      }
    });
    const ctx = new PlaneContext(t.arena, this.#out, { ...t.ctx.settings, outsideAddress: OUTSIDE_ADDRESS });
    ctx.now = t.ctx.now;
    this.#plane = new Plane(ctx);
  }

  /** What the pump does with the packet that the kernel would give it. */
  send(device: number, sent: Frame): { device: number; vnet: number[]; ip: number[] }[] {
    const bytes = [...vnet(sent, 0), ...packet({ ...sent, padding: 0 })];
    this.#out.buffer.set(bytes);
    this.#plane.packet(device, 0, bytes.length);
    this.#out.flush();
    return this.#came.splice(0);
  }
}
