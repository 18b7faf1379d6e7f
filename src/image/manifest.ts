/** The part of an image that people read: who the guest is and what is needed to continue it. */
import { Type } from 'typebox';
import type { Static } from 'typebox';
import { Value } from 'typebox/value';
import { KedgeError } from '../errors.ts';

const Port = Type.Integer({ minimum: 1, maximum: 65535 });
const Hash = Type.String({ pattern: '^[0-9a-f]{64}$' });
const Text = Type.String({ maxLength: 1 << 20 });

export const Publish = Type.Object({
  proto: Type.Union([Type.Literal('tcp'), Type.Literal('udp')]),
  outsidePort: Port,
  guestPort: Port,
});

export const Manifest = Type.Object(
  {
    formatVersion: Type.Integer(),
    kedgeVersion: Text,
    /** ISO 8601, UTC. */
    createdAt: Text,
    guest: Type.Object({
      id: Type.String({ pattern: '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' }),
      name: Type.String({ minLength: 1, maxLength: 63 }),
      /** Of the source; a restore claims the next one. */
      epoch: Type.Integer({ minimum: 1, maximum: 0xffff_ffff }),
      address: Text,
    }),
    module: Type.Object({ sha256: Hash, size: Type.Integer({ minimum: 8 }), name: Text }),
    args: Type.Array(Text),
    env: Type.Record(Type.String(), Text),
    publish: Type.Array(Publish),
    /** Names of the guest's directories, and what the source's host gave for them. */
    preopens: Type.Array(Type.Object({ guest: Text, host: Text })),
    engine: Text,
    /** How the frames are written, and for which polls. */
    encoding: Text,
    policy: Type.Union([Type.Literal('loop'), Type.Literal('loop-all'), Type.Literal('none')]),
    memoryPages: Type.Integer({ minimum: 0, maximum: 65536 }),
    /** False: the original went on running, so this image has no claim on its connections. */
    claim: Type.Boolean(),
  },
  { additionalProperties: false },
);
export type Manifest = Static<typeof Manifest>;

/** Checks a decoded manifest field by field. Throws KEDGE_IMAGE_INVALID naming the first that is wrong. */
export function checkManifest(value: unknown): Manifest {
  if (Value.Check(Manifest, value)) return value;
  const [first] = Value.Errors(Manifest, value);
  throw new KedgeError('KEDGE_IMAGE_INVALID', `manifest${first?.instancePath ?? ''}: ${first?.message ?? 'not valid'}`);
}
