/**
 * The first half of every hand-over, on the host that has the guest: stop it, let the gateway stand in, take over what the kernel
 * holds, and record all of it at one instant. And the way back.
 */
import type { GatewayClient } from '../gateway/admin/client.ts';
import type { ExportedFlow } from '../gateway/admin/schema.ts';
import { KedgeError } from '../errors.ts';
import type { SavedGuest } from '../guest/protocol.ts';
import { VERSION } from '../version.ts';
import type { Manifest } from '../image/manifest.ts';
import { FORMAT_VERSION } from '../image/format.ts';
import type { Identity, Kept } from './kept.ts';
import type { StageRunner } from './stages.ts';

/** Exports that do not settle. Each follows a drain; an ACK on its way needs microseconds. */
const DRAINS = 50;
/** How long between two questions to a gateway that does not answer, milliseconds. */
const RETRY = 500;

export type Cut = { readonly saved: SavedGuest; readonly flows: readonly ExportedFlow[] };

/** Stages `check` to `save`. On failure the caller must `giveBack`. */
export async function cut(
  kept: Kept,
  gateway: GatewayClient,
  stages: StageRunner<'source' | 'checkpoint'>,
): Promise<Cut> {
  const { guest, identity } = kept;
  const { id, epoch } = identity;
  await stages.run('check', () => gateway.check(id, { epoch }));
  await stages.run('stop', async () => {
    await guest.stop();
    if (guest.state.name === 'ended')
      throw new KedgeError('KEDGE_GUEST_ENDED', `guest ${identity.name} ended just now`);
  });
  await stages.run('freeze', () => gateway.freeze(id, { epoch }));
  const flows = await stages.run('drain', async () => {
    for (let i = 0; i < DRAINS; i++) {
      const { connections } = await guest.drain();
      const exported = await gateway.export(id, { epoch, sockets: [...connections] });
      if (exported.settled) return exported.flows;
      if (i === DRAINS - 1) throw new KedgeError('KEDGE_UNSETTLED', exported.reasons.join('; '));
    }
    throw new KedgeError('KEDGE_UNSETTLED', 'no drain was tried');
  });
  const saved = await stages.run('save', () => guest.save(flows));
  return { saved, flows };
}

/**
 * Takes a guest back after a failure. The gateway decides: 'running' means it goes on here, 'lost' that the target had committed,
 * 'sealed' that an image has it; then this copy is ended. A gateway that does not answer is asked until it does; the guest stands still meanwhile, because two
 * live copies would be worse.
 */
export async function giveBack(kept: Kept, gateway: GatewayClient): Promise<'running' | 'lost' | 'sealed'> {
  const { id, epoch } = kept.identity;
  for (;;) {
    try {
      await gateway.abort(id, { epoch });
      break;
    } catch (error) {
      if (!(error instanceof KedgeError)) throw error;
      if (
        error.code === 'KEDGE_EPOCH_COMMITTED' ||
        error.code === 'KEDGE_GUEST_UNKNOWN' ||
        error.code === 'KEDGE_EPOCH_STALE'
      ) {
        kept.fate = error.message;
        await kept.guest.destroy();
        return 'lost';
      }
      if (error.code === 'KEDGE_GUEST_SEALED') {
        kept.fate = 'checkpointed';
        await kept.guest.destroy();
        return 'sealed';
      }
      kept.task = 'stranded';
      await new Promise((resolve) => setTimeout(resolve, RETRY));
    }
  }
  if (kept.guest.state.name === 'stopped' || kept.guest.state.name === 'lingering') await kept.guest.resume();
  kept.task = 'idle';
  return 'running';
}

/** The manifest of an image of this guest, as it is now. */
export function manifestOf(identity: Identity, saved: SavedGuest, claim: boolean): Manifest {
  const { id, name, epoch, address, module, moduleName, moduleHash, args, env, publish, dirs } = identity;
  return {
    formatVersion: FORMAT_VERSION,
    kedgeVersion: VERSION,
    createdAt: new Date().toISOString(),
    guest: { id, name, epoch, address },
    module: { sha256: moduleHash, size: module.length, name: moduleName },
    args: [...args],
    env: { ...env },
    publish: [...publish],
    preopens: dirs.map(({ host, guest }) => ({ guest, host })),
    engine: 'v8',
    encoding: saved.frames.encoding,
    policy: saved.frames.policy,
    memoryPages: saved.memoryPages,
    claim,
  };
}
