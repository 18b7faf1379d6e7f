/** The source of a move: its stages, and what happens when one fails. */
import type { GatewayClient } from '../gateway/admin/client.ts';
import { encodeImage } from '../image/writer.ts';
import { cut, giveBack, manifestOf } from './cut.ts';
import type { Kept } from './kept.ts';
import type { Limits } from './limits.ts';
import type { MoveResult } from './protocol.ts';
import { expect } from './protocol.ts';
import { MOVE_VERSION, StageRunner, within } from './stages.ts';
import type { Link, Transport } from './transport.ts';

const SLOW_TARGET =
  'the guest goes on here: see whether the target is busy or hangs (kedge ps --agent SOCKET), and try again';

export type MoveOptions = {
  readonly transport: Transport;
  readonly gateway: GatewayClient;
  readonly limits: Limits;
  /** What executes the guest on the target; its engine here unless given. */
  readonly engine?: string | undefined;
};

/** Moves a guest to the agent at `target`. Throws when it stayed here; then it runs as before, or `kept.fate` says why not. */
export function move(kept: Kept, target: string, options: MoveOptions): Promise<MoveResult> {
  return kept.during('moving', async () => {
    const stages = new StageRunner('source');
    const start = performance.now();
    const link = await stages.run('connect', () => options.transport.connect(target));
    try {
      await handOver(kept, target, link, stages, options);
    } finally {
      link.close();
    }
    const totalMs = Math.round((performance.now() - start) * 1000) / 1000;
    return { epoch: kept.identity.epoch + 1, stages: [...stages.times], totalMs };
  });
}

async function handOver(
  kept: Kept,
  target: string,
  link: Link,
  stages: StageRunner<'source'>,
  options: MoveOptions,
): Promise<void> {
  const { gateway, limits } = options;
  const { guest, identity, code } = kept;
  const engine = options.engine ?? identity.engine;
  const fate = `moved to ${target}`;
  await stages.run('prepare', async () => {
    await link.send(
      { type: 'receive', version: MOVE_VERSION, guest: { ...identity, engine } },
      [code.module],
      limits.stall,
    );
    await within(limits.prepare, 'making ready on the target', SLOW_TARGET, expect(link, 'prepared'));
  });
  const { saved, flows } = await cut(kept, gateway, stages, true);
  try {
    await stages.run('send', async () => {
      const image = await encodeImage({ ...saved, manifest: manifestOf(identity, code.module, saved, true), flows });
      await link.send({ type: 'image' }, image, limits.stall);
      const committed = await within(limits.commit, 'the commit of the target', SLOW_TARGET, expect(link, 'committed'));
      stages.times.push(...committed.stages);
    });
    kept.leave(fate);
    await stages.run('destroy', () => guest.destroy());
  } catch (error) {
    // First of all, so that a target that lacks a part of the image gives up.
    link.close();
    // When the target had committed and only its answer was lost, the move is done.
    if ((await giveBack(kept, gateway, fate)) !== 'moved') throw error;
  }
}
