/**
 * The image: one guest in one file or stream.
 *
 * Layout, integers little-endian:
 *
 *      0   8  magic
 *      8   4  format version
 *     12   4  the version's complement: a damaged version is not taken for a newer one
 *     16   4  number of sections
 *     20   4  length of the manifest
 *     24   8  first bytes of SHA-256 over what is before: lengths can be trusted before anything is read by them
 *     32  48  for each section: kind, 0 (4 bytes each), length (8), digest (32)
 *      …      manifest, CBOR
 *      …  32  SHA-256 over everything before it
 *      …      the sections in the table's order, without gaps; nothing follows
 *
 * A section's digest is SHA-256 over the SHA-256 of each mebibyte of it, the last of which may be short; in version 1 it is SHA-256
 * over all of it. So every byte is covered by a digest, and a stream can be checked while it comes. A reader knows the whole length after the
 * head. Digests are against damage, not against forgery: what a section holds is checked again where it is used.
 */
import { type SectionDigest, sha256, sha256OfPieces } from './digest.ts';

/** Not text, damaged by whatever changes line ends: the idea of PNG (RFC 2083 §12.11). */
export const MAGIC = Uint8Array.of(0x89, 0x4b, 0x45, 0x44, 0x47, 0x45, 0x0d, 0x0a);

/** What is written. Raised when a reader of the version before could not read it. */
export const FORMAT_VERSION = 2;

/** Memories of a module: what WebAssembly's validators agree on. */
export const MAX_MEMORIES = 100;

/** All versions that are read: how their sections are digested, and how many memories a guest may have. */
const VERSIONS = new Map<number, { readonly digest: SectionDigest; readonly memories: number }>([
  [1, { digest: sha256, memories: 1 }],
  [2, { digest: sha256OfPieces, memories: MAX_MEMORIES }],
]);

/** Undefined for a version that there is not. */
export function sectionDigest(version: number): SectionDigest | undefined {
  return VERSIONS.get(version)?.digest;
}

/** Memories that a guest in an image of a version may have. */
export function mostMemories(version: number): number {
  return VERSIONS.get(version)?.memories ?? 0;
}

export const PRELUDE_SIZE = 32;
export const PRELUDE_DIGEST_AT = 24;
export const ENTRY_SIZE = 48;
export const DIGEST_SIZE = 32;

/** Kinds of sections by their number in the table. Numbers are never used again for something else. */
export const SECTION_KINDS = {
  /** The original module, zstd. */
  module: 1,
  /** What differs from the module's own memory: `memory-delta.ts`. */
  memory: 2,
  /** Frames as the engine wrote them, and the host call the guest stands in, CBOR. */
  frames: 3,
  /** Mutable globals, CBOR. */
  globals: 4,
  /** Descriptors, clock, arguments and environment, and sockets, CBOR. */
  handles: 5,
  /** Flows as the gateway exported them, CBOR. For people: at a restore the gateway's word counts. */
  flows: 6,
} as const;

export type SectionName = keyof typeof SECTION_KINDS;

const NAMES = new Map<number, SectionName>(
  (Object.keys(SECTION_KINDS) as SectionName[]).map((name) => [SECTION_KINDS[name], name]),
);

/** Undefined for a kind that this version does not have. */
export function sectionName(kind: number): SectionName | undefined {
  return NAMES.get(kind);
}

export const MAX_SECTIONS = 16;
/** Bytes of a manifest: arguments and environment are its largest part. */
export const MAX_MANIFEST = 16 * 1024 * 1024;
/** Bytes of a whole image: a 4 GiB guest memory that does not compress, and everything else. */
export const MAX_IMAGE = 6 * 1024 ** 3;
/** Bytes of a module. */
export const MAX_MODULE = 256 * 1024 * 1024;
/** Pages of 64 KiB in a 32-bit linear memory. */
export const MAX_MEMORY_PAGES = 65_536;
