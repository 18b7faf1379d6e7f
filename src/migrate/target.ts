/**
 * The target of a move, and of a restore from an image: the second half of a hand-over. The target itself commits; until the gateway
 * has, everything can be taken back, and after it nothing is.
 */
import type { GatewayClient } from '../gateway/admin/client.ts';
import type { ClaimBody } from '../gateway/admin/schema.ts';
import { KedgeError } from '../errors.ts';
import type { TextAddress } from '../wasi-sock/drain.ts';
import type { Refused } from '../wasi-sock/restore.ts';
import type { FlowReport } from '../wasi-sock/save.ts';
import type { Image } from '../image/reader.ts';
import { decodeImage } from '../image/reader.ts';
import type { Kept } from './kept.ts';
import type { StageTime } from './stages.ts';
import { StageRunner } from './stages.ts';

/** Between two questions to a gateway whose answer to a commit was lost, milliseconds. */
const RETRY = 250;

/** Checks that an image is of the guest that was announced. Throws KEDGE_IMAGE_INVALID. */
function mustBeOf(image: Image, kept: Kept): void {
  const { guest, module } = image.manifest;
  const { id, epoch, moduleHash } = kept.identity;
  if (guest.id !== id || guest.epoch + 1 !== epoch || module.sha256 !== moduleHash)
    throw new KedgeError(
      'KEDGE_IMAGE_INVALID',
      `the image is of guest ${guest.id} at epoch ${guest.epoch}, not of this one`,
    );
}

/** Fills a prepared guest from an image, with the sockets an attach has given. Gives connections that were reset meanwhile. */
export async function fill(
  kept: Kept,
  image: Image,
  flows: readonly FlowReport[] | 'without-flows',
): Promise<readonly Refused[]> {
  const { frames, call, globals, memory, handles, manifest } = image;
  const { memoryPages, otherMemories = [] } = manifest;
  const saved = { frames, call, globals, memory, memoryPages, otherMemories, handles };
  return (await kept.guest.restore({ saved, flows })).refused;
}

/**
 * Whose connects were refused, their peers must have reset: one that the gateway still holds was answered by somebody else. Throws
 * KEDGE_RESTORE_CONNECT.
 */
async function mustBeReset(refused: readonly Refused[], id: string, gateway: GatewayClient): Promise<void> {
  if (refused.length === 0) return;
  const flows = await gateway.flows({ guest: id });
  const written = ({ address, port }: TextAddress): string => `${address}:${port}`;
  for (const { local, remote } of refused) {
    const [own, other] = [written(local), written(remote)];
    // CLOSED: reset, and not forgotten yet. SYN-RECEIVED: the peer has come back from the same port.
    const over = new Set(['CLOSED', 'SYN-RECEIVED']);
    if (!flows.some((flow) => flow.guest === own && flow.peer === other && !over.has(flow.state))) continue;
    throw new KedgeError(
      'KEDGE_RESTORE_CONNECT',
      `cannot connect ${own} to ${other}: ECONNREFUSED, and not by the gateway`,
      {
        hint: 'see to the --leg of this agent, and to the leg of this host in gateway status',
      },
    );
  }
}

export type TakeOverOptions = {
  readonly leg: string;
  readonly gateway: GatewayClient;
  /** How long a gateway is asked that does not answer, milliseconds: as long as the source waits before it asks itself. */
  readonly commitLimit: number;
  /** Called when the gateway has switched: from there on the guest is this agent's, whatever happens to it. */
  readonly own: () => void;
};

/**
 * Stages `verify` to `release`. `kept` is prepared: its worker waits, its epoch is the next one. When it throws, the guest is not
 * here and can go on where it was.
 */
export async function takeOver(kept: Kept, bytes: Uint8Array, options: TakeOverOptions): Promise<readonly StageTime[]> {
  const { leg, gateway, commitLimit, own } = options;
  const { guest, identity } = kept;
  const { id, epoch } = identity;
  const stages = new StageRunner('target');
  // Side by side: what the gateway gives does not hang on the image, and is given back when that is no good.
  const [verified, attached] = await Promise.allSettled([
    stages.run('verify', async () => {
      const decoded = await decodeImage(bytes, kept.code.module);
      mustBeOf(decoded, kept);
      return decoded;
    }),
    stages.run('attach', () => gateway.attach(id, { epoch, leg })),
  ]);
  if (attached.status === 'rejected') throw verified.status === 'rejected' ? verified.reason : attached.reason;
  const { flows, claim } = attached.value;
  try {
    if (verified.status === 'rejected') throw verified.reason;
    const image = verified.value;
    await stages.run('restore', async () => mustBeReset(await fill(kept, image, flows), id, gateway));
    await stages.run('commit', () => commit(id, { epoch, claim }, gateway, commitLimit));
  } catch (error) {
    await guest.destroy();
    // The attach would run out by itself; a gateway that cannot be told has worse troubles.
    await gateway.detach(id, { epoch, claim }).catch(() => undefined);
    throw error;
  }
  own();
  try {
    await stages.run('release', () => guest.release());
  } catch {
    // There is no way back any more: it is tried once again. A guest whose thread has died was taken over, and has ended here.
    await guest.release().catch(() => guest.destroy());
  }
  return stages.times;
}

/** Commits, and asks again when the answer was lost: a commit is idempotent. */
async function commit(id: string, claim: ClaimBody, gateway: GatewayClient, limit: number): Promise<void> {
  for (const start = performance.now(); ;) {
    try {
      await gateway.commit(id, claim);
      return;
    } catch (error) {
      const lost =
        error instanceof KedgeError &&
        (error.code === 'KEDGE_GATEWAY_TIMEOUT' || error.code === 'KEDGE_GATEWAY_UNREACHABLE');
      if (!lost || performance.now() - start > limit) throw error;
      await new Promise((resolve) => setTimeout(resolve, RETRY));
    }
  }
}
