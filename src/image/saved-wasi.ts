/** Checks the part of an image that `wasi` wrote. */
import { Type } from 'typebox';
import type { Static, TProperties } from 'typebox';
import { MAX_DESCRIPTORS } from '../wasi/descriptors.ts';
import type { SavedDescriptor, SavedWasi } from '../wasi/saved.ts';
import { KedgeError } from '../errors.ts';
import { checkShape } from './shape.ts';

const U64 = Type.Union([
  Type.BigInt({ minimum: 0n, exclusiveMaximum: 1n << 64n }),
  Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }),
]);
const Count = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER });
const Text = Type.String({ maxLength: 65_536 });

function Descriptor<T extends TProperties>(properties: T) {
  return Type.Object(
    {
      fd: Type.Integer({ minimum: 0, maximum: MAX_DESCRIPTORS - 1 }),
      rights: U64,
      inheriting: U64,
      flags: Type.Integer({ minimum: 0, maximum: 0xffff }),
      ...properties,
    },
    { additionalProperties: false },
  );
}

const Descriptors = Type.Array(
  Type.Union([
    Descriptor({
      kind: Type.Literal('stdio'),
      stream: Type.Union([Type.Literal(0), Type.Literal(1), Type.Literal(2)]),
    }),
    Descriptor({ kind: Type.Literal('directory'), preopen: Text, path: Text, preopened: Type.Boolean() }),
    Descriptor({ kind: Type.Literal('file'), preopen: Text, path: Text, offset: Count }),
    Descriptor({ kind: Type.Literal('socket'), socket: Count }),
  ]),
  { maxItems: MAX_DESCRIPTORS },
);

const Saved = Type.Object(
  {
    // As many as a manifest may have.
    args: Type.Array(Text),
    environ: Type.Array(Text),
    monotonic: U64,
    descriptors: Descriptors,
  },
  { additionalProperties: false },
);

/** Throws KEDGE_IMAGE_INVALID, naming the field. A path is the guest's word: it is resolved inside its directory, wherever it points. */
export function parseSavedWasi(value: unknown): SavedWasi {
  const saved: Static<typeof Saved> = checkShape(Saved, value, 'handles.wasi');
  const fds = new Set(saved.descriptors.map(({ fd }) => fd));
  if (fds.size !== saved.descriptors.length) {
    throw new KedgeError('KEDGE_IMAGE_INVALID', 'the image has two descriptors of one number');
  }
  const descriptors = saved.descriptors.map((entry): SavedDescriptor => ({
    ...entry,
    rights: BigInt(entry.rights),
    inheriting: BigInt(entry.inheriting),
  }));
  return { ...saved, monotonic: BigInt(saved.monotonic), descriptors };
}
