/** A WASI program that is stopped at chosen polls of its run, and each time goes on in a new instance at the next place of its route. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { createHostCallContext } from '../../../src/engine/context.ts';
import type { ComputeState, Instance, Outcome } from '../../../src/engine/engine.ts';
import { parseModule } from '../../../src/engine/wasm/module.ts';
import { Wasi } from '../../../src/wasi/imports.ts';
import type { SavedWasi } from '../../../src/wasi/saved.ts';
import { stopFlagWaiter } from '../../../src/wasi/waiting.ts';
import { ManualTime } from '../wasi/support.ts';
import { placeAfter, type Route } from './compliance/subjects.ts';
import { copyState, scriptedStop } from './support.ts';

export interface Journey {
  readonly outcome: Outcome;
  readonly output: string;
  /** SHA-256 (hex) of the memory that it left. */
  readonly memory: string;
  /** How often it asked whether it is to stop. */
  readonly asks: number;
  readonly moves: number;
}

interface Image {
  readonly compute: ComputeState;
  readonly wasi: SavedWasi;
}

/**
 * Runs a program to its end, with clocks that stand still and no chance, so that every journey is the same. `stopsAt` is told the
 * number of each ask, from 1, counted over the whole run. Nothing of an instance is used after it was left.
 */
export function travel(
  route: Route,
  module: Uint8Array,
  args: readonly string[],
  stopsAt: (ask: number) => boolean,
): Journey {
  let output = '';
  let asks = 0;
  let image: Image | undefined;
  const say = (bytes: Uint8Array): void => void (output += Buffer.from(bytes).toString());
  const time = new ManualTime();
  const compiled = new Map(route.map((place) => [place, place.engine.compile(place.instrument(module))]));
  for (let moves = 0; ; moves += 1) {
    const place = placeAfter(route, moves);
    const form = compiled.get(place);
    assert.ok(form !== undefined);
    const stop = scriptedStop(() => stopsAt((asks += 1)));
    const context = createHostCallContext();
    using wasi = disposable(
      new Wasi({
        context,
        stdio: { input: { kind: 'none' }, output: say, errors: say },
        waiter: stopFlagWaiter(stop),
        time,
        random: (bytes) => void bytes.fill(7),
        args,
        ...(image === undefined ? {} : { saved: image.wasi }),
      }),
    );
    const { imports } = wasi.of;
    const instance: Instance = place.engine.instantiate(form, imports, stop, context);
    if (image !== undefined) instance.restore(image.compute, parseModule(module));
    const outcome = instance.resume();
    if (outcome.kind !== 'stopped') {
      const memory = createHash('sha256').update(instance.memory()).digest('hex');
      return { outcome, output, memory, asks, moves };
    }
    image = { compute: copyState(instance.capture()), wasi: structuredClone(wasi.of.save()) };
  }
}

function disposable(wasi: Wasi): Disposable & { readonly of: Wasi } {
  return { of: wasi, [Symbol.dispose]: () => wasi.close() };
}
