/** From the parts of a stopped guest to the bytes of its image. */
import { createHash } from 'node:crypto';
import { promisify } from 'node:util';
import { constants, zstdCompress } from 'node:zlib';
import { encode } from 'cborg';
import type { CallState, FramesState, GlobalState } from '../engine/engine.ts';
import type { SectionEntry, SectionName } from './format.ts';
import { FORMAT_VERSION, MAGIC, PREFIX_BYTES, SECTIONS } from './format.ts';
import type { Manifest } from './manifest.ts';
import { packDelta } from './memory-delta.ts';

const compress = promisify(zstdCompress);

/** What an image is made of. */
export type ImageParts = {
  readonly manifest: Manifest;
  /** The original module; left out when the target has it. */
  readonly module?: Uint8Array | undefined;
  /** From `collectDelta`. */
  readonly memory: Uint8Array;
  readonly frames: FramesState;
  /** The host call to be issued again, when the guest stands in one. */
  readonly call?: CallState | undefined;
  readonly globals: readonly GlobalState[];
  /** WASI's and the sockets' saved state: plain data for CBOR. */
  readonly handles: unknown;
  /** What the gateway said of the guest's flows at the cut. */
  readonly flows: unknown;
};

/** The chunks of an image in order; one after the other they are the file. */
export async function encodeImage(parts: ImageParts): Promise<Uint8Array[]> {
  const bodies: Record<SectionName, Uint8Array | undefined> = {
    module: parts.module && (await compress(parts.module, { params: { [constants.ZSTD_c_compressionLevel]: 1 } })),
    memory: await packDelta(parts.memory),
    frames: encode({ ...parts.frames, call: parts.call ?? null }),
    globals: encode(parts.globals),
    handles: encode(parts.handles),
    flows: encode(parts.flows),
  };
  const sections: SectionEntry[] = [];
  const chunks: Uint8Array[] = [];
  for (const name of SECTIONS) {
    const body = bodies[name];
    if (body === undefined) continue;
    sections.push({ name, length: body.length, sha256: digest(body) });
    chunks.push(body);
  }
  const head = encode({ manifest: parts.manifest, sections });
  const start = new Uint8Array(PREFIX_BYTES + head.length);
  start.set(MAGIC);
  const view = new DataView(start.buffer);
  view.setUint32(8, FORMAT_VERSION, true);
  view.setUint32(12, head.length, true);
  start.set(head, PREFIX_BYTES);
  return [start, digest(start), ...chunks];
}

function digest(bytes: Uint8Array): Uint8Array {
  return new Uint8Array(createHash('sha256').update(bytes).digest());
}
