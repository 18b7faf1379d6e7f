/**
 * From the bytes of an image to its parts. Every digest is checked before anything under it is decoded, every length before
 * anything is read by it.
 *
 * Errors, each distinct: KEDGE_IMAGE_NOT_AN_IMAGE, KEDGE_IMAGE_VERSION (written by a newer Kedge), KEDGE_IMAGE_TRUNCATED,
 * KEDGE_IMAGE_CORRUPT (names the part), KEDGE_IMAGE_INVALID (digests are right, but the contents contradict themselves).
 */
import { promisify } from 'node:util';
import { zstdDecompress } from 'node:zlib';
import type { CallState, FramesState, GlobalState } from '../engine/engine.ts';
import { ENCODING } from '../engine/points/stack.ts';
import { type MemoryEntry, parseModule } from '../engine/wasm/module.ts';
import { KedgeError } from '../errors.ts';
import { decodeCbor } from './cbor.ts';
import { decodeFrames, decodeGlobals } from './compute.ts';
import { type SectionDigest, sha256 } from './digest.ts';
import type { SectionName } from './format.ts';
import {
  DIGEST_SIZE,
  ENTRY_SIZE,
  FORMAT_VERSION,
  MAGIC,
  MAX_IMAGE,
  MAX_MANIFEST,
  MAX_MEMORY_PAGES,
  MAX_SECTIONS,
  PRELUDE_DIGEST_AT,
  PRELUDE_SIZE,
  sectionDigest,
  sectionName,
} from './format.ts';
import type { Manifest } from './manifest.ts';
import { checkManifest, pagesOf } from './manifest.ts';
import { unpackDelta } from './memory-delta.ts';

const decompress = promisify(zstdDecompress);

/** An image whose bytes are as they were written, sections not decoded yet: views into its bytes. */
export type VerifiedImage = {
  readonly manifest: Manifest;
  readonly sections: ReadonlyMap<SectionName, Uint8Array>;
};

/** A decoded image; sections that others decode and check are bytes of their own. */
export type Image = {
  readonly manifest: Manifest;
  /** The original module, when the image carries it: its hash is the manifest's. */
  readonly module: Uint8Array | undefined;
  /** For `applyDeltas`. */
  readonly memory: Uint8Array;
  readonly frames: FramesState;
  readonly call: CallState | undefined;
  readonly globals: readonly GlobalState[];
  /** For `checkHandles`, in the guest's thread. */
  readonly handles: Uint8Array;
  /** For people, by `decodeFlows`: nobody needs them to continue a guest. */
  readonly flows: Uint8Array;
  /** Bytes of each section as stored. */
  readonly sectionSizes: Readonly<Record<string, number>>;
};

type Prelude = {
  readonly version: number;
  readonly digest: SectionDigest;
  readonly sections: number;
  readonly manifest: number;
  /** Bytes up to and with the digest of the head. */
  readonly head: number;
};

type Entry = { readonly name: SectionName; readonly length: number; readonly digest: Buffer };

function corrupt(part: string): KedgeError {
  return new KedgeError('KEDGE_IMAGE_CORRUPT', `the image's ${part} is damaged: its digest does not match`, {
    hint: 'copy it again from where it was made',
  });
}

function truncated(has: number, needs: string): KedgeError {
  return new KedgeError('KEDGE_IMAGE_TRUNCATED', `the image ends after ${has} bytes, within its ${needs}`, {
    hint: 'copy it again from where it was made',
  });
}

function invalid(what: string, cause?: unknown): KedgeError {
  return new KedgeError('KEDGE_IMAGE_INVALID', what, { cause });
}

/**
 * Verifies all of an image and decodes it. `known` is the module of an image that has none, where it is at hand: the guest's memory
 * is only unpacked when it is one that the module can have. Throws KEDGE_IMAGE_*, and KEDGE_RESTORE_MEMORY when this host has no
 * room for it.
 */
export async function decodeImage(bytes: Uint8Array, known?: Uint8Array): Promise<Image> {
  const { manifest, sections } = verifyImage(bytes);
  const section = (name: SectionName): Uint8Array => {
    const found = sections.get(name);
    if (found === undefined) throw invalid(`the image has no section ${name}`);
    return found;
  };
  if (manifest.encoding !== ENCODING) {
    const { encoding, kedgeVersion } = manifest;
    throw new KedgeError(
      'KEDGE_IMAGE_VERSION',
      `the image's frames are written as ${encoding}, by Kedge ${kedgeVersion}; this Kedge reads ${ENCODING}`,
      { hint: 'continue it with the version of Kedge that made it' },
    );
  }
  const { frames, call } = decodeFrames(section('frames'));
  if (frames.encoding !== manifest.encoding || frames.policy !== manifest.policy) {
    throw invalid("the image's frames are of another encoding than its manifest says");
  }
  const module = await decodeModule(sections.get('module'), manifest);
  const pages = pagesOf(manifest);
  const code = module ?? known;
  if (code !== undefined) checkMemories(pages, parseModule(code).memories);
  const memory = await unpackDelta(
    section('memory'),
    pages.reduce((sum, count) => sum + count, 0),
  );
  return {
    manifest,
    module,
    memory,
    frames,
    call,
    globals: decodeGlobals(section('globals')),
    // A copy: a view that is posted to another thread would take the whole image along.
    handles: section('handles').slice(),
    flows: section('flows'),
    sectionSizes: Object.fromEntries([...sections].map(([name, { length }]) => [name, length])),
  };
}

/** Throws KEDGE_IMAGE_INVALID for memories that a module cannot have; none at all is what is left of an ended guest. */
function checkMemories(pages: readonly number[], declared: readonly MemoryEntry[]): void {
  if (pages.every((count) => count === 0) && pages.length === 1) return;
  const fits = ({ initial, maximum = MAX_MEMORY_PAGES }: MemoryEntry, n: number): boolean =>
    initial <= (pages[n] ?? -1) && (pages[n] ?? -1) <= maximum;
  if (declared.length !== pages.length || !declared.every(fits))
    throw invalid(`the image's manifest.memoryPages are ${pages.join(', ')}, which its module cannot have`);
}

async function decodeModule(section: Uint8Array | undefined, { module }: Manifest): Promise<Uint8Array | undefined> {
  if (section === undefined) return undefined;
  const bytes = await decompress(section, { maxOutputLength: module.size }).catch((cause: unknown) => {
    throw invalid("the image's module does not decompress to the size it says", cause);
  });
  if (sha256([bytes]).toString('hex') !== module.sha256) {
    throw invalid("the image's module is another than its manifest says");
  }
  return bytes;
}

/** What the gateway said of the guest's flows: unchecked. Throws KEDGE_IMAGE_INVALID. */
export function decodeFlows({ flows }: Image): unknown {
  return decodeCbor(flows, 'flows');
}

/** Checks every digest and the manifest; decodes nothing else. */
export function verifyImage(bytes: Uint8Array): VerifiedImage {
  const image = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const prelude = readPrelude(image);
  if (image.length < prelude.head) throw truncated(image.length, 'head');
  const digestAt = prelude.head - DIGEST_SIZE;
  if (!sha256([image.subarray(0, digestAt)]).equals(image.subarray(digestAt, prelude.head))) throw corrupt('head');
  const sections = new Map<SectionName, Uint8Array>();
  let at = prelude.head;
  for (const { name, length, digest } of readTable(image, prelude)) {
    if (at + length > image.length) throw truncated(image.length, `section ${name}`);
    const section = image.subarray(at, at + length);
    if (digest.compare(prelude.digest([section])) !== 0) throw corrupt(`section ${name}`);
    sections.set(name, section);
    at += length;
  }
  if (at !== image.length) {
    throw new KedgeError('KEDGE_IMAGE_CORRUPT', `${image.length - at} bytes follow the image's end`);
  }
  const manifest = decodeCbor(image.subarray(digestAt - prelude.manifest, digestAt), 'manifest');
  return { manifest: checkManifest(manifest, prelude.version), sections };
}

function readPrelude(image: Buffer): Prelude {
  const known = Math.min(image.length, MAGIC.length);
  if (image.compare(MAGIC, 0, known, 0, known) !== 0) {
    throw new KedgeError('KEDGE_IMAGE_NOT_AN_IMAGE', 'this is not a Kedge image', {
      hint: 'images are written by kedge checkpoint NAME -o FILE',
    });
  }
  if (image.length < 16) throw truncated(image.length, 'head');
  const version = image.readUInt32LE(8);
  const sectionsAs = sectionDigest(version);
  if (~version >>> 0 !== image.readUInt32LE(12) || version === 0) throw corrupt('version');
  if (sectionsAs === undefined) {
    throw new KedgeError(
      'KEDGE_IMAGE_VERSION',
      `the image has format version ${version}; this Kedge reads up to ${FORMAT_VERSION}`,
      { hint: 'use the version of Kedge that made it, or a newer one' },
    );
  }
  if (image.length < PRELUDE_SIZE) throw truncated(image.length, 'head');
  const digest = sha256([image.subarray(0, PRELUDE_DIGEST_AT)]);
  if (digest.compare(image, PRELUDE_DIGEST_AT, PRELUDE_SIZE, 0, PRELUDE_SIZE - PRELUDE_DIGEST_AT) !== 0) {
    throw corrupt('head');
  }
  const sections = image.readUInt32LE(16);
  const manifest = image.readUInt32LE(20);
  if (sections > MAX_SECTIONS || manifest > MAX_MANIFEST) throw invalid("the image's head is larger than any is");
  const head = PRELUDE_SIZE + sections * ENTRY_SIZE + manifest + DIGEST_SIZE;
  return { version, digest: sectionsAs, sections, manifest, head };
}

function readTable(image: Buffer, prelude: Prelude): Entry[] {
  const entries: Entry[] = [];
  for (let i = 0; i < prelude.sections; i += 1) {
    const at = PRELUDE_SIZE + i * ENTRY_SIZE;
    const kind = image.readUInt32LE(at);
    const name = sectionName(kind);
    if (name === undefined || entries.some((entry) => entry.name === name)) {
      throw invalid(`the image has a section of kind ${kind} that does not belong there`);
    }
    const length = Number(image.readBigUInt64LE(at + 8));
    if (length > MAX_IMAGE) throw invalid(`the image's section ${name} is too large`);
    entries.push({ name, length, digest: image.subarray(at + 16, at + ENTRY_SIZE) });
  }
  return entries;
}
