/**
 * From the bytes of an image to its parts. The bytes are hostile until their digests were checked: nothing is decoded before the
 * digest over it matched, and nothing is allocated by a length that is not bounded by the bytes that are there, or by the
 * manifest's memory size.
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import { promisify } from 'node:util';
import { zstdDecompress } from 'node:zlib';
import { decode } from 'cborg';
import { KedgeError } from '../errors.ts';
import type { CallState, FramesState, GlobalState } from '../engine/engine.ts';
import type { SectionEntry } from './format.ts';
import { DIGEST_BYTES, FORMAT_VERSION, MAGIC, MAX_HEAD_BYTES, PREFIX_BYTES, SECTIONS } from './format.ts';
import type { Manifest } from './manifest.ts';
import { checkManifest } from './manifest.ts';
import { applyDelta, unpackDelta } from './memory-delta.ts';
import { checkCall, checkFrames, checkGlobals } from './compute-check.ts';

const decompress = promisify(zstdDecompress);

/** A verified image. */
export type Image = {
  readonly manifest: Manifest;
  /** The original module, when the image carries it: its hash is the manifest's. */
  readonly module: Uint8Array | undefined;
  readonly frames: FramesState;
  readonly call: CallState | undefined;
  readonly globals: readonly GlobalState[];
  readonly handles: unknown;
  readonly flows: unknown;
  /** Bytes of each section as stored. */
  readonly sectionSizes: Readonly<Record<string, number>>;
  /** Turns memory as the module made it, `manifest.memoryPages` long, into the guest's. */
  applyMemory(memory: Uint8Array): void;
};

function truncated(what: string): KedgeError {
  return new KedgeError('KEDGE_IMAGE_TRUNCATED', `the image ends within ${what}`, {
    hint: 'copy it again from where it was made',
  });
}

function invalid(what: string): KedgeError {
  return new KedgeError('KEDGE_IMAGE_INVALID', what);
}

type Head = { readonly manifest: Manifest; readonly sections: readonly SectionEntry[]; readonly end: number };

/** Verifies and decodes the head. */
function readHead(bytes: Uint8Array): Head {
  const prefix = bytes.subarray(0, MAGIC.length);
  if (!prefix.every((byte, i) => byte === MAGIC[i]) || bytes.length === 0)
    throw new KedgeError('KEDGE_IMAGE_NOT_AN_IMAGE', 'this is not a Kedge image', {
      hint: 'images are made by kedge checkpoint',
    });
  if (bytes.length < PREFIX_BYTES) throw truncated('its header');
  const view = new DataView(bytes.buffer, bytes.byteOffset, PREFIX_BYTES);
  const version = view.getUint32(8, true);
  if (version !== FORMAT_VERSION)
    throw new KedgeError('KEDGE_IMAGE_VERSION', `the image has format version ${version}; this Kedge reads ${FORMAT_VERSION}`, {
      hint: 'restore it with the version of Kedge that made it, or a newer one',
    });
  const length = view.getUint32(12, true);
  if (length > MAX_HEAD_BYTES) throw new KedgeError('KEDGE_IMAGE_CORRUPT', 'the header is damaged: its length is impossible');
  const end = PREFIX_BYTES + length;
  if (bytes.length < end + DIGEST_BYTES) throw truncated('its header');
  check('header', bytes.subarray(0, end), bytes.subarray(end, end + DIGEST_BYTES));
  const head: unknown = decode(bytes.subarray(PREFIX_BYTES, end));
  if (typeof head !== 'object' || head === null || !('manifest' in head) || !('sections' in head))
    throw invalid('the header has no manifest');
  return { manifest: checkManifest(head.manifest), sections: checkSections(head.sections), end: end + DIGEST_BYTES };
}

function checkSections(value: unknown): readonly SectionEntry[] {
  if (!Array.isArray(value)) throw invalid('the header lists no sections');
  const names = new Set<string>();
  return value.map((entry: unknown) => {
    if (typeof entry !== 'object' || entry === null) throw invalid('the header lists something that is no section');
    const { name, length, sha256 } = entry as Record<string, unknown>;
    if (
      typeof name !== 'string' ||
      typeof length !== 'number' ||
      !Number.isSafeInteger(length) ||
      length < 0 ||
      !(sha256 instanceof Uint8Array) ||
      sha256.length !== DIGEST_BYTES
    )
      throw invalid('the header lists something that is no section');
    if (!(SECTIONS as readonly string[]).includes(name)) throw invalid(`the image has a section ${name} that no one knows`);
    if (names.has(name)) throw invalid(`the image has two sections ${name}`);
    names.add(name);
    return { name, length, sha256 };
  });
}

function check(what: string, bytes: Uint8Array, expected: Uint8Array): void {
  const actual = createHash('sha256').update(bytes).digest();
  if (!timingSafeEqual(actual, expected))
    throw new KedgeError('KEDGE_IMAGE_CORRUPT', `the ${what} of the image is damaged: its SHA-256 does not match`, {
      hint: 'copy it again from where it was made',
    });
}

/** Verifies all of an image and decodes it. Throws KEDGE_IMAGE_*. */
export async function decodeImage(bytes: Uint8Array): Promise<Image> {
  const { manifest, sections, end } = readHead(bytes);
  const bodies = new Map<string, Uint8Array>();
  let at = end;
  for (const { name, length, sha256 } of sections) {
    if (bytes.length - at < length) throw truncated(`section ${name}`);
    const body = bytes.subarray(at, at + length);
    check(`section ${name}`, body, sha256);
    bodies.set(name, body);
    at += length;
  }
  if (at !== bytes.length) throw invalid(`${bytes.length - at} bytes follow the last section`);
  const section = (name: string): Uint8Array => {
    const body = bodies.get(name);
    if (body === undefined) throw invalid(`the image has no section ${name}`);
    return body;
  };
  const frames: unknown = decode(section('frames'));
  const delta = await unpackDelta(section('memory'), manifest.memoryPages);
  return {
    manifest,
    module: await readModule(bodies.get('module'), manifest),
    frames: checkFrames(frames),
    call: checkCall(frames),
    globals: checkGlobals(decode(section('globals'))),
    handles: decode(section('handles')),
    flows: decode(section('flows')),
    sectionSizes: Object.fromEntries(sections.map(({ name, length }) => [name, length])),
    applyMemory: (memory) => applyDelta(delta, memory, manifest.memoryPages),
  };
}

async function readModule(section: Uint8Array | undefined, manifest: Manifest): Promise<Uint8Array | undefined> {
  if (section === undefined) return undefined;
  const module = await decompress(section, { maxOutputLength: manifest.module.size }).catch((cause: unknown) => {
    throw new KedgeError('KEDGE_IMAGE_INVALID', 'the module section cannot be decompressed', { cause });
  });
  if (createHash('sha256').update(module).digest('hex') !== manifest.module.sha256)
    throw invalid('the module of the image is not the one its manifest names');
  return module;
}
