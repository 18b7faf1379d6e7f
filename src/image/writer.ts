/** From the parts of a stopped guest to the bytes of its image. */
import { promisify } from 'node:util';
import { constants, zstdCompress } from 'node:zlib';
import type { CallState, FramesState, GlobalState } from '../engine/engine.ts';
import { KedgeError } from '../errors.ts';
import { encodeCbor } from './cbor.ts';
import { encodeFrames, encodeGlobals } from './compute.ts';
import { sha256, sha256OfPieces } from './digest.ts';
import type { SectionName } from './format.ts';
import {
  ENTRY_SIZE,
  FORMAT_VERSION,
  MAGIC,
  MAX_IMAGE,
  PRELUDE_DIGEST_AT,
  PRELUDE_SIZE,
  SECTION_KINDS,
} from './format.ts';
import type { Manifest } from './manifest.ts';
import { packDelta } from './memory-delta.ts';
import type { ImagePart, StoredSection } from './memory-section.ts';

const compress = promisify(zstdCompress);

/** zstd's level: someone waits for most images, and the next level saves little. */
export const LEVEL = 1;

/** A module is compressed once, and the result kept as long as the module is. */
const MODULE_LEVEL = 9;
const packedModules = new WeakMap<Uint8Array, Promise<Uint8Array>>();

/** What an image is made of. */
export type ImageParts = {
  readonly manifest: Manifest;
  /** The original module; left out when the target has it. */
  readonly module?: Uint8Array | undefined;
  /** From `collectDelta`, or the section itself. */
  readonly memory: Uint8Array | StoredSection;
  readonly frames: FramesState;
  /** The host call to be issued again, when the guest stands in one. */
  readonly call?: CallState | undefined;
  readonly globals: readonly GlobalState[];
  /** WASI's and the sockets' saved state: plain data for CBOR, as `checkHandles` wants it. */
  readonly handles: {
    readonly version: number;
    readonly exited: number | null;
    readonly wasi: unknown;
    readonly sockets: unknown;
  };
  /** What the gateway said of the guest's flows at the cut. */
  readonly flows: readonly unknown[];
};

/** One section as it is written: bytes in pieces, or where they come from. */
export type Section = { readonly name: SectionName; readonly parts: readonly Uint8Array[] | StoredSection };

/** An image of which all bytes are here. */
export type WholeParts = ImageParts & { readonly memory: Uint8Array };

/** The parts of an image in order; one after the other they are the file. */
export function encodeImage(parts: WholeParts): Promise<Uint8Array[]>;
export function encodeImage(parts: ImageParts): Promise<ImagePart[]>;
/** Throws KEDGE_IMAGE_TOO_LARGE. */
export async function encodeImage(parts: ImageParts): Promise<ImagePart[]> {
  const { manifest } = parts;
  const whole = assemble(encodeCbor(manifest, 'manifest'), await encodeSections(parts), manifest.formatVersion);
  if (sizeOf(whole) > MAX_IMAGE)
    throw new KedgeError(
      'KEDGE_IMAGE_TOO_LARGE',
      `an image of ${sizeOf(whole)} bytes is larger than any that is read`,
      {
        hint: `its guest has more memory that does not compress than ${MAX_IMAGE} bytes`,
      },
    );
  return whole;
}

/** Exported for tests that make images no writer makes. */
export async function encodeSections(parts: ImageParts): Promise<Section[]> {
  const sections: Section[] = [];
  if (parts.module !== undefined) {
    sections.push({ name: 'module', parts: [await packModule(parts.module)] });
  }
  sections.push(
    { name: 'memory', parts: parts.memory instanceof Uint8Array ? await packDelta(parts.memory, LEVEL) : parts.memory },
    { name: 'frames', parts: [encodeFrames(parts.frames, parts.call)] },
    { name: 'globals', parts: [encodeGlobals(parts.globals)] },
    { name: 'handles', parts: [encodeCbor(parts.handles, 'handles')] },
    { name: 'flows', parts: [encodeCbor(parts.flows, 'flows')] },
  );
  return sections;
}

function packModule(module: Uint8Array): Promise<Uint8Array> {
  const params = { [constants.ZSTD_c_compressionLevel]: MODULE_LEVEL };
  const packed = packedModules.get(module) ?? compress(module, { params });
  packedModules.set(module, packed);
  return packed;
}

/** Head and sections. Exported for the same tests. */
export function assemble(
  manifest: Uint8Array,
  sections: readonly Section[],
  version: number = FORMAT_VERSION,
): ImagePart[] {
  const head = Buffer.alloc(PRELUDE_SIZE + ENTRY_SIZE * sections.length);
  head.set(MAGIC);
  head.writeUInt32LE(version, 8);
  head.writeUInt32LE(~version >>> 0, 12);
  head.writeUInt32LE(sections.length, 16);
  head.writeUInt32LE(manifest.length, 20);
  sha256([head.subarray(0, PRELUDE_DIGEST_AT)]).copy(head, PRELUDE_DIGEST_AT, 0, PRELUDE_SIZE - PRELUDE_DIGEST_AT);
  sections.forEach(({ name, parts }, i) => {
    const at = PRELUDE_SIZE + ENTRY_SIZE * i;
    head.writeUInt32LE(SECTION_KINDS[name], at);
    const [length, digest] = isStored(parts) ? [parts.length, parts.digest] : [sizeOf(parts), sha256OfPieces(parts)];
    head.writeBigUInt64LE(BigInt(length), at + 8);
    head.set(digest, at + 16);
  });
  return [
    head,
    manifest,
    sha256([head, manifest]),
    ...sections.flatMap(({ parts }): readonly ImagePart[] | ImagePart => parts),
  ];
}

function isStored(parts: Section['parts']): parts is StoredSection {
  return !Array.isArray(parts);
}

/** Bytes of all parts. */
export function sizeOf(parts: readonly { readonly length: number }[]): number {
  return parts.reduce((sum, { length }) => sum + length, 0);
}
