/** The source of a move: its stages, and what happens when one fails. */
import type { GatewayClient } from '../gateway/admin/client.ts';
import { encodeImage } from '../image/writer.ts';
import { cut, giveBack, manifestOf } from './cut.ts';
import type { Kept } from './kept.ts';
import type { Incoming, MoveResult } from './protocol.ts';
import { expect } from './protocol.ts';
import { MOVE_VERSION, StageRunner, within } from './stages.ts';
import type { Link, Transport } from './transport.ts';

/** How long the target may take to compile a module, and to answer with its commit, milliseconds. */
const PREPARE_LIMIT = 60_000;
const COMMIT_LIMIT = 30_000;

function announce(kept: Kept): Incoming {
  const { module: _module, instrumented: _instrumented, ...incoming } = kept.identity;
  return incoming;
}

/** Moves a guest to the agent at `target`. Throws when it stayed here; then it runs as before. */
export async function move(
  kept: Kept,
  target: string,
  transport: Transport,
  gateway: GatewayClient,
): Promise<MoveResult> {
  kept.begin('moving');
  const stages = new StageRunner('source');
  const start = performance.now();
  let link: Link | undefined;
  try {
    link = await stages.run('connect', () => transport.connect(target));
    const to = link;
    await stages.run('prepare', async () => {
      await to.send({ type: 'receive', version: MOVE_VERSION, guest: announce(kept) }, [kept.identity.module]);
      await within(PREPARE_LIMIT, 'making ready on the target', expect(to, 'prepared'));
    });
    return await handOver(kept, target, to, gateway, stages, start);
  } catch (error) {
    const { name } = kept.guest.state;
    // Before the stop nothing has changed.
    if (name === 'running' || name === 'ended') {
      kept.task = 'idle';
      throw error;
    }
    link?.close();
    if ((await giveBack(kept, gateway)) === 'running') throw error;
    // The target had committed before its answer was lost: the move is done.
    kept.fate = `moved to ${target}`;
    return result(kept, stages, start);
  } finally {
    link?.close();
  }
}

async function handOver(
  kept: Kept,
  target: string,
  link: Link,
  gateway: GatewayClient,
  stages: StageRunner<'source'>,
  start: number,
): Promise<MoveResult> {
  const { saved, flows } = await cut(kept, gateway, stages);
  await stages.run('send', async () => {
    const image = await encodeImage({ ...saved, manifest: manifestOf(kept.identity, saved, true), flows });
    await link.send({ type: 'image' }, image);
    const committed = await within(COMMIT_LIMIT, 'the commit of the target', expect(link, 'committed'));
    stages.times.push(...committed.stages);
  });
  kept.fate = `moved to ${target}`;
  await stages.run('destroy', () => kept.guest.destroy());
  return result(kept, stages, start);
}

function result(kept: Kept, stages: StageRunner<'source'>, start: number): MoveResult {
  return {
    epoch: kept.identity.epoch + 1,
    stages: [...stages.times],
    totalMs: Math.round((performance.now() - start) * 1000) / 1000,
  };
}
