/**
 * The bytes of an image file or stream.
 *
 *     0   8   magic "\x89KEDGE\r\n"        a text-mode transfer or a cut first byte shows at once
 *     8   4   format version, little endian
 *    12   4   length H of the head
 *    16   H   head: deterministic CBOR {manifest, sections: [{name, length, sha256}]}
 *  16+H  32   SHA-256 over bytes 0 … 16+H
 *   …         the sections, one after the other, in the head's order
 *
 * Every byte is under a digest, and every length is known and bounded before anything of that length is allocated.
 */
export const MAGIC = Uint8Array.of(0x89, 0x4b, 0x45, 0x44, 0x47, 0x45, 0x0d, 0x0a);
export const FORMAT_VERSION = 1;
/** Bytes before the head. */
export const PREFIX_BYTES = 16;
export const DIGEST_BYTES = 32;
/** A head lists sections and describes one guest: arguments and environment are its largest part. */
export const MAX_HEAD_BYTES = 16 * 1024 * 1024;

/** Sections, in the order in which they are written. `module` may be missing. */
export const SECTIONS = ['module', 'memory', 'frames', 'globals', 'handles', 'flows'] as const;
export type SectionName = (typeof SECTIONS)[number];

export type SectionEntry = { readonly name: string; readonly length: number; readonly sha256: Uint8Array };
