/** The data plane with a simulated clock, and with wires in the place of its devices. */
import { createArena } from '../../../../src/gateway/arena.ts';
import { PlaneContext } from '../../../../src/gateway/context.ts';
import { OutQueue } from '../../../../src/gateway/out-queue.ts';
import { Plane } from '../../../../src/gateway/plane.ts';
import { Verbs } from '../../../../src/gateway/verbs.ts';
import { OUTSIDE_ADDRESS, address } from '../segments.ts';
import type { Clock } from './net.ts';

export class Gateway {
  readonly verbs: Verbs;
  readonly ctx: PlaneContext;
  readonly #clock: Clock;
  readonly #plane: Plane;
  readonly #out: OutQueue;

  constructor(clock: Clock, custodyBytes: number, emit: (device: number, packet: Uint8Array) => void) {
    this.#clock = clock;
    const arena = createArena({ maxFlows: 16, maxGuests: 2, custodyBytes });
    this.#out = new OutQueue(new Uint8Array(1024 * 1024), 128 * 1024, 64, (bytes, descriptors, count) => {
      for (let i = 0; i < count; i++) {
        const at = descriptors[3 * i + 1]!;
        emit(descriptors[3 * i]!, bytes.slice(at, at + descriptors[3 * i + 2]!));
      }
    });
    this.ctx = new PlaneContext(arena, this.#out, {
      outsideAddress: OUTSIDE_ADDRESS,
      pool: { base: address('100.64.0.0'), prefix: 10 },
      mtu: 1500,
    });
    this.ctx.now = clock.now;
    this.#plane = new Plane(this.ctx);
    this.verbs = new Verbs(this.ctx, ['a', 'b']);
  }

  packet(device: number, bytes: Uint8Array): void {
    this.#out.buffer.set(bytes, 0);
    this.ctx.now = this.#clock.now;
    this.#plane.packet(device, 0, bytes.length);
    this.#out.flush();
  }

  tick(): void {
    this.ctx.now = this.#clock.now;
    this.#plane.tick();
    this.#out.flush();
  }

  call: Verbs['call'] = (verb, args) => {
    this.ctx.now = this.#clock.now;
    const result = this.verbs.call(verb, args);
    this.#out.flush();
    return result;
  };
}
