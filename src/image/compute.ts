/** The sections `frames` and `globals`: where the guest's code stands. Everything read is checked but the frames' own bytes, which are the engine's. */
import { Type } from 'typebox';
import { type CallState, type FramesState, type GlobalState, type PendingState, POLICIES } from '../engine/engine.ts';
import { KedgeError } from '../errors.ts';
import { decodeCbor, encodeCbor } from './cbor.ts';
import { checkShape } from './shape.ts';

/** An unsigned bit pattern of 64 bits: CBOR gives small ones back as numbers. */
const Bits = Type.Union([
  Type.BigInt({ minimum: 0n, exclusiveMaximum: 1n << 64n }),
  Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }),
]);

const Frames = Type.Object(
  {
    encoding: Type.String(),
    policy: Type.Enum([...POLICIES]),
    bytes: Type.Unknown(),
    call: Type.Optional(
      Type.Object(
        {
          module: Type.String(),
          name: Type.String(),
          args: Type.Array(Bits, { maxItems: 1000 }),
          /** What the call left for its next issue; the call itself looks at it. */
          pending: Type.Optional(Type.Unknown()),
        },
        { additionalProperties: false },
      ),
    ),
  },
  { additionalProperties: false },
);

const Globals = Type.Array(
  Type.Object({ type: Type.Enum(['i32', 'i64', 'f32', 'f64']), bits: Bits }, { additionalProperties: false }),
  { maxItems: 1_000_000 },
);

export function encodeFrames(frames: FramesState, call: CallState | undefined): Uint8Array {
  return encodeCbor({ ...frames, call }, 'frames');
}

/** Throws KEDGE_IMAGE_INVALID. */
export function decodeFrames(section: Uint8Array): {
  readonly frames: FramesState;
  readonly call: CallState | undefined;
} {
  const { encoding, policy, bytes, call } = checkShape(Frames, decodeCbor(section, 'frames'), 'frames');
  if (!(bytes instanceof Uint8Array)) throw new KedgeError('KEDGE_IMAGE_INVALID', "the image's frames are no bytes");
  const frames: FramesState = { encoding, policy, bytes };
  if (call === undefined) return { frames, call };
  const { module, name, args, pending } = call;
  const plain = { module, name, args: args.map(BigInt) };
  return { frames, call: pending === undefined ? plain : { ...plain, pending: pending as PendingState } };
}

export function encodeGlobals(globals: readonly GlobalState[]): Uint8Array {
  return encodeCbor(globals, 'globals');
}

/** Throws KEDGE_IMAGE_INVALID. */
export function decodeGlobals(section: Uint8Array): readonly GlobalState[] {
  const globals = checkShape(Globals, decodeCbor(section, 'globals'), 'globals');
  return globals.map(({ type, bits }) => ({ type, bits: BigInt(bits) }));
}
