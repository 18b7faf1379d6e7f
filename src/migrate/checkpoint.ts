/** `kedge checkpoint`: a guest becomes an image that somebody stores. */
import type { GatewayClient } from '../gateway/admin/client.ts';
import { KedgeError } from '../errors.ts';
import type { ImagePart } from '../image/memory-section.ts';
import { encodeImage } from '../image/writer.ts';
import { cut, giveBack, manifestOf } from './cut.ts';
import type { Kept } from './kept.ts';
import { StageRunner } from './stages.ts';

/** Stores an image, and resolves only when it is safe. */
export type Write = (image: readonly ImagePart[]) => Promise<void>;

/**
 * Takes an image of a guest. It ends here only when the image is stored; else it goes on. Left running, it goes on at once, and the
 * image has no claim on its connections.
 */
export async function checkpoint(
  kept: Kept,
  leaveRunning: boolean,
  write: Write,
  gateway: GatewayClient,
): Promise<void> {
  const stages = new StageRunner('checkpoint');
  if (!leaveRunning) return await kept.during('moving', () => seal(kept, write, gateway, stages));
  const parts = await kept.during('moving', async () => {
    const copy = await taken(kept, gateway, stages, false);
    // A copy stands still only as long as the copying takes.
    if ((await giveBack(kept, gateway)) !== 'running')
      throw new KedgeError('KEDGE_GUEST_ENDED', `guest ${kept.identity.name}: ${kept.fate ?? 'has ended'}`);
    return copy;
  });
  await stages.run('write', async () => write(await encodeImage(parts)));
}

async function taken(kept: Kept, gateway: GatewayClient, stages: StageRunner<'checkpoint'>, claim: boolean) {
  const { identity, code } = kept;
  // One that is given back at once does not stay: its memory is copied.
  const { saved, flows } = await cut(kept, gateway, stages, claim);
  return { ...saved, module: code.module, flows, manifest: manifestOf(identity, code.module, saved, claim) };
}

async function seal(
  kept: Kept,
  write: Write,
  gateway: GatewayClient,
  stages: StageRunner<'checkpoint'>,
): Promise<void> {
  const { id, epoch } = kept.identity;
  const fate = 'checkpointed';
  const parts = await taken(kept, gateway, stages, true);
  try {
    await stages.run('write', async () => write(await encodeImage(parts)));
    await stages.run('seal', () => gateway.seal(id, { epoch }));
    kept.leave(fate);
    await stages.run('destroy', () => kept.guest.destroy());
  } catch (error) {
    // When the gateway has sealed it and only its answer was lost, the image is good.
    if ((await giveBack(kept, gateway, fate)) !== 'sealed') throw error;
  }
}
