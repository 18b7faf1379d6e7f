/**
 * The first half of every hand-over, on the host that has the guest: stop it, let the gateway stand in, take over what the kernel
 * holds, and record all of it at one instant. And the way back.
 */
import type { GatewayClient } from '../gateway/admin/client.ts';
import type { ExportedFlow } from '../gateway/admin/schema.ts';
import type { Policy } from '../engine/engine.ts';
import { KedgeError, withHint } from '../errors.ts';
import type { SavedGuest, StandingGuest } from '../guest/protocol.ts';
import { VERSION } from '../version.ts';
import type { Manifest } from '../image/manifest.ts';
import { FORMAT_VERSION } from '../image/format.ts';
import type { Identity, Kept } from './kept.ts';
import type { StageRunner } from './stages.ts';

/** Exports that do not settle. Each follows a drain; an ACK on its way needs microseconds. */
const DRAINS = 50;
/** How long between two questions to a gateway that does not answer, milliseconds. */
const RETRY = 500;

const UNSETTLED =
  'the guest goes on here: try again; if it never settles, see whether the agent has the --leg of this host';

/** What to do about a guest that reached no stable point in time: it has more of them under another policy. */
function unstoppable(policy: Policy): string {
  if (policy === 'loop-all' || policy === 'instruction') return 'it goes on: try again when its host is less busy';
  return `it goes on, with --points ${policy}: try again, or run it with --points ${policy === 'loop' ? 'loop-all' : 'loop'}`;
}

export type Cut = { readonly saved: SavedGuest | StandingGuest; readonly flows: readonly ExportedFlow[] };

/**
 * Stages `check` to `save`. After it the guest stands still, and the caller carries it on or calls `giveBack`. When it throws, the
 * guest goes on as before, or has ended. `stays` promises that the caller carries its image on before it calls `giveBack`.
 */
export async function cut(
  kept: Kept,
  gateway: GatewayClient,
  stages: StageRunner<'source'> | StageRunner<'checkpoint'>,
  stays: boolean,
): Promise<Cut> {
  const { guest, identity } = kept;
  const { id, epoch, name } = identity;
  await stages.run('check', () => gateway.check(id, { epoch }));
  await stages.run('stop', async () => {
    await guest.stop().catch((error: unknown) => {
      throw withHint(error, 'KEDGE_GUEST_UNSTOPPABLE', unstoppable(identity.policy));
    });
    if (guest.state.name === 'ended') throw new KedgeError('KEDGE_GUEST_ENDED', `guest ${name} ended just now`);
  });
  try {
    await stages.run('freeze', () => gateway.freeze(id, { epoch }));
    const flows = await stages.run('drain', () => drain(kept, gateway, stays));
    const saved = await stages.run('save', () => guest.save(flows));
    return { saved, flows };
  } catch (error) {
    await giveBack(kept, gateway);
    throw error;
  }
}

/** Drains until the gateway has no evidence of a byte beyond what was read. */
async function drain(
  { guest, identity }: Kept,
  gateway: GatewayClient,
  stays: boolean,
): Promise<readonly ExportedFlow[]> {
  const { id, epoch } = identity;
  for (let drains = 1; ; drains++) {
    const { connections } = await guest.drain(stays);
    const exported = await gateway.export(id, { epoch, sockets: [...connections] });
    if (exported.settled) return exported.flows;
    if (drains === DRAINS) throw new KedgeError('KEDGE_UNSETTLED', exported.reasons.join('; '), UNSETTLED);
  }
}

/**
 * What the gateway says of a guest that is asked back. `running`: it goes on here. Else this copy is ended: `moved`, the next epoch
 * was committed; `sealed`, an image has it; `lost`, the gateway does not know it any more (it was started anew, or the guest has
 * ended elsewhere already).
 */
export type Back = 'running' | 'moved' | 'sealed' | 'lost';

const DECIDED: Readonly<Record<string, Exclude<Back, 'running'>>> = {
  KEDGE_EPOCH_COMMITTED: 'moved',
  KEDGE_EPOCH_STALE: 'lost',
  KEDGE_GUEST_UNKNOWN: 'lost',
  KEDGE_GUEST_SEALED: 'sealed',
};

/**
 * Takes a stopped guest back after a failure. The gateway decides, and is asked until it answers; the guest stands still meanwhile,
 * because two live copies would be worse. `fate` says of a guest that is not here any more where it went.
 */
export async function giveBack(kept: Kept, gateway: GatewayClient, fate?: string): Promise<Back> {
  const { id, epoch } = kept.identity;
  for (;;) {
    try {
      await gateway.abort(id, { epoch });
      break;
    } catch (error) {
      if (!(error instanceof KedgeError)) throw error;
      const back = DECIDED[error.code];
      if (back !== undefined) {
        kept.leave(back === 'lost' ? error.message : (fate ?? error.message));
        await kept.guest.destroy();
        return back;
      }
      kept.strand();
      await Promise.race([new Promise((resolve) => setTimeout(resolve, RETRY)), kept.guest.ended]);
      // Nobody is left to go on; an agent that ends leaves the rest to the one after it.
      if (kept.guest.state.name === 'ended') return 'lost';
    }
  }
  // One whose thread died meanwhile has ended; the agent signs it off.
  await kept.guest.resume().catch((error: unknown) => {
    if (kept.guest.state.name !== 'ended') throw error;
  });
  return 'running';
}

/** The manifest of an image of this guest, as it is now. */
export function manifestOf(
  identity: Identity,
  module: Uint8Array,
  saved: Omit<SavedGuest, 'memory'>,
  claim: boolean,
): Manifest {
  const { id, name, epoch, address, engine, moduleName, moduleHash, args, env, publish, dirs } = identity;
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
    engine,
    encoding: saved.frames.encoding,
    policy: saved.frames.policy,
    memoryPages: saved.memoryPages,
    ...(saved.otherMemories.length === 0 ? {} : { otherMemories: [...saved.otherMemories] }),
    claim,
  };
}

/** Who the guest of an image is in its next life, with the directories that this host gives it. */
export function identityOf(manifest: Manifest, dirs: Identity['dirs']): Omit<Identity, 'engine' | 'policy'> {
  const { guest, module, args, env, publish } = manifest;
  return {
    id: guest.id,
    name: guest.name,
    address: guest.address,
    epoch: guest.epoch + 1,
    publish,
    dirs,
    env,
    moduleName: module.name,
    moduleHash: module.sha256,
    args,
    startedAt: new Date().toISOString(),
  };
}
