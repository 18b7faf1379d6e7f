/** The image's first part: what it is and whose, small enough to be shown and to decide by before anything else is read. */
import { Type } from 'typebox';
import type { Static, TProperties } from 'typebox';
import { POLICIES } from '../engine/engine.ts';
import { KedgeError } from '../errors.ts';
import { Publish } from '../gateway/admin/schema.ts';
import { checkShape } from './shape.ts';
import { FORMAT_VERSION, MAX_MEMORIES, MAX_MEMORY_PAGES, MAX_MODULE, mostMemories } from './format.ts';

export { Publish };

function Closed<T extends TProperties>(properties: T) {
  return Type.Object(properties, { additionalProperties: false });
}

const Text = Type.String({ maxLength: 1024 * 1024 });
const Pages = Type.Integer({ minimum: 0, maximum: MAX_MEMORY_PAGES });
const OCTET = '(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])';

export const Manifest = Closed({
  /** The head's. */
  formatVersion: Type.Integer({ minimum: 1, maximum: FORMAT_VERSION }),
  /** The Kedge that wrote it. */
  kedgeVersion: Text,
  /** ISO 8601, UTC. */
  createdAt: Type.String({ pattern: '^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]{8,12}Z$' }),
  guest: Closed({
    id: Type.String({ pattern: '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' }),
    name: Type.String({ pattern: '^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$' }),
    /** The epoch that ended with this image; a restore begins the next. */
    epoch: Type.Integer({ minimum: 1, maximum: 0xffff_fffe }),
    address: Type.String({ pattern: `^(${OCTET}\\.){3}${OCTET}$` }),
  }),
  /** The module as its author made it. */
  module: Closed({
    sha256: Type.String({ pattern: '^[0-9a-f]{64}$' }),
    size: Type.Integer({ minimum: 8, maximum: MAX_MODULE }),
    name: Text,
  }),
  args: Type.Array(Text),
  env: Type.Record(Type.String(), Text),
  publish: Type.Array(Publish, { maxItems: 1024 }),
  /** Names of the guest's directories, and what the source's host gave for them. */
  preopens: Type.Array(Closed({ guest: Text, host: Text }), { maxItems: 1024 }),
  /** What executed it; any other can go on. */
  engine: Text,
  /** How frames are written, and where the guest could be stopped. */
  encoding: Text,
  policy: Type.Enum([...POLICIES]),
  /** Linear memory, pages of 64 KiB; 0 also for a guest whose code has ended. */
  memoryPages: Pages,
  /** The same of memories 1 and up, where the module has several. Since version 2. */
  otherMemories: Type.Optional(Type.Array(Pages, { maxItems: MAX_MEMORIES - 1 })),
  /** False: the original went on running, so this image has no claim on its connections. */
  claim: Type.Boolean(),
});
export type Manifest = Static<typeof Manifest>;

/** Pages of all of the guest's memories, in order. */
export function pagesOf({ memoryPages, otherMemories = [] }: Manifest): readonly number[] {
  return [memoryPages, ...otherMemories];
}

/**
 * Checks a decoded manifest field by field. `version` is that of the image's head. Throws KEDGE_IMAGE_INVALID, naming the first that
 * is wrong.
 */
export function checkManifest(value: unknown, version: number): Manifest {
  const manifest = checkShape(Manifest, value, 'manifest');
  if (manifest.formatVersion !== version || pagesOf(manifest).length > mostMemories(version)) {
    throw new KedgeError('KEDGE_IMAGE_INVALID', "the image's manifest.formatVersion is not that of what it holds");
  }
  return manifest;
}
