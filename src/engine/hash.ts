/**
 * A hash of a stopped guest's compute state that is the same on every engine, whichever policy or version of the pass stopped it.
 *
 * What the code can see of a NaN's bits is left open by WebAssembly and differs between engines, so every NaN counts as one: of
 * globals, locals and operands. In memory nothing says what is a float; a guest that stores a NaN there may get another hash
 * elsewhere. What a host call has left for its next issue (times, for example) is the host's and is not in the hash.
 */
import { createHash, type Hash } from 'node:crypto';
import type { ComputeState } from './engine.ts';
import { decodeStack, encodeStack, type Stack, type Value } from './points/stack.ts';

const VERSION = 'kedge-state-1';
/** Node takes no more than 2 GiB at a time. */
const PIECE = 2 ** 30;
const NAN_32 = 0x7fc0_0000n;
const NAN_64 = 0x7ff8_0000_0000_0000n;

/** Bits of a float with any NaN made the canonical one. */
export function canonicalBits(type: string, bits: bigint): bigint {
  if (type === 'f32' || type === 'f') return (bits & 0x7fff_ffffn) > 0x7f80_0000n ? NAN_32 : bits;
  if (type === 'f64' || type === 'F') {
    return (bits & 0x7fff_ffff_ffff_ffffn) > 0x7ff0_0000_0000_0000n ? NAN_64 : bits;
  }
  return bits;
}

function canonical<Item extends Value>(value: Item): Item {
  return { ...value, bits: canonicalBits(value.type, value.bits) };
}

/** The same stack with canonical values. */
export function canonicalStack(stack: Stack): Stack {
  return {
    ...stack,
    frames: stack.frames.map((frame) => ({
      ...frame,
      locals: frame.locals.map(canonical),
      operands: frame.operands.map(canonical),
    })),
  };
}

/** Adds a memory, which may have 4 GiB, to a digest. */
export function addMemory(digest: Hash, memory: Uint8Array): void {
  for (let at = 0; at < memory.length; at += PIECE) digest.update(memory.subarray(at, at + PIECE));
}

/** Lower-case hex. Throws KEDGE_FRAMES_CORRUPT. */
export function stateHash(
  state: Pick<ComputeState, 'originalHash' | 'memory' | 'otherMemories' | 'globals' | 'frames'>,
): string {
  const { originalHash, memory, otherMemories = [], globals, frames } = state;
  const digest = createHash('sha256');
  digest.update(`${VERSION}\n${originalHash}\n${memory.length}\n`);
  addMemory(digest, memory);
  // How many there are is a property of the module, whose hash is before them.
  for (const other of otherMemories) {
    digest.update(`${other.length}\n`);
    addMemory(digest, other);
  }
  // CBOR gives small integers back as numbers.
  for (const { type, bits } of globals) digest.update(`${type} ${canonicalBits(type, BigInt(bits))}\n`);
  if (frames.bytes.length > 0) digest.update(encodeStack(canonicalStack(decodeStack(frames.bytes))));
  return digest.digest('hex');
}
