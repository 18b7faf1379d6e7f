/** Checks of the parts an engine will take: shapes and ranges; whether they fit a module is the engine's to say. */
import { KedgeError } from '../errors.ts';
import type { CallState, FramesState, GlobalState, PendingState } from '../engine/engine.ts';

function invalid(what: string): KedgeError {
  return new KedgeError('KEDGE_IMAGE_INVALID', `${what} of the image is not well-formed`);
}

function record(value: unknown, what: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw invalid(what);
  return value as Record<string, unknown>;
}

function bits(value: unknown, what: string): bigint {
  const number = typeof value === 'number' && Number.isSafeInteger(value) ? BigInt(value) : value;
  if (typeof number !== 'bigint' || number < 0n || number >= 1n << 64n) throw invalid(what);
  return number;
}

export function checkFrames(value: unknown): FramesState {
  const { encoding, policy, moduleHash, bytes } = record(value, 'section frames');
  if (
    typeof encoding !== 'string' ||
    (policy !== 'loop' && policy !== 'loop-all' && policy !== 'none') ||
    typeof moduleHash !== 'string' ||
    !(bytes instanceof Uint8Array)
  )
    throw invalid('section frames');
  return { encoding, policy, moduleHash, bytes };
}

export function checkCall(value: unknown): CallState | undefined {
  const { call } = record(value, 'section frames');
  if (call === null || call === undefined) return undefined;
  const { module, name, args, pending } = record(call, 'the host call');
  if (typeof module !== 'string' || typeof name !== 'string' || !Array.isArray(args)) throw invalid('the host call');
  const common = { module, name, args: args.map((arg: unknown) => bits(arg, 'an argument of the host call')) };
  // What a call left for itself is its own to check; it came through CBOR, so it is plain data.
  return pending === undefined ? common : { ...common, pending: pending as PendingState };
}

export function checkGlobals(value: unknown): readonly GlobalState[] {
  if (!Array.isArray(value)) throw invalid('section globals');
  return value.map((entry: unknown) => {
    const { type, bits: pattern } = record(entry, 'section globals');
    if (type !== 'i32' && type !== 'i64' && type !== 'f32' && type !== 'f64') throw invalid('section globals');
    return { type, bits: bits(pattern, 'section globals') };
  });
}
