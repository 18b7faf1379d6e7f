/**
 * The life of a guest, rehearsed: one is started, stopped, saved, restored and let go on, over and over, by the same requests as in a
 * move, so that the first real move does not wait for V8 to compile what takes frames out and puts them in.
 *
 * Its stop flag is raised all the time. So it runs from one stable point to the next: a poll at the head of its loop, and a host call
 * that it issues again in each life. It never comes to its end, and waits for nothing.
 */
import { ENGINES, type EngineName } from '../engine/engines.ts';
import { instrument } from '../engine/points/instrument.ts';
import { createStopSignal } from '../engine/stop.ts';
import { KedgeError } from '../errors.ts';
import { encodeCbor } from '../image/cbor.ts';
import { failed, native } from '../native.ts';
import { createAccount } from './descriptors.ts';
import { createWords } from './protocol.ts';
import type { SavedGuest, WorkerMessage, WorkerStart } from './protocol.ts';
import { GuestThread } from './thread.ts';

/** The source of `LIFE`. A subscription to a clock, hours ahead, is at 16: the host call in it has to be interrupted. */
export const LIFE_SOURCE = `(module
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (global $turns (mut i32) (i32.const 0))
  (table 2 funcref)
  (elem (i32.const 0) $wait)
  (data (i32.const 16) "\\01\\00\\00\\00\\00\\00\\00\\00\\00\\00\\00\\00\\00\\10")
  (func $wait (param $amount f64) (param $turn i64) (result f64)
    (drop (call $poll_oneoff (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)))
    (f64.add (local.get $amount) (f64.convert_i64_u (local.get $turn))))
  (func (export "_start") (local $turn i64) (local $sum f64) (local $half f32)
    (loop $again
      (global.set $turns (i32.add (global.get $turns) (i32.const 1)))
      (i32.store offset=256 (i32.const 0) (global.get $turns))
      (local.set $half (f32.add (local.get $half) (f32.const 0.5)))
      (local.set $sum (call $wait (local.get $sum) (local.get $turn)))
      (local.set $turn (i64.add (local.get $turn) (i64.const 1)))
      (br_if $again (f32.lt (local.get $half) (f32.const 1000))))))
`;

/** As wat2wasm gives it; a test holds them together. */
export const LIFE = Buffer.from(
  'AGFzbQEAAAABEgNgBH9/f38Bf2ACfH4BfGAAAAImARZ3YXNpX3NuYXBzaG90X3ByZXZpZXcxC3BvbGxfb25lb2ZmAAADAwIBAgQE' +
    'AXAAAgUDAQABBgYBfwFBAAsHEwIGbWVtb3J5AgAGX3N0YXJ0AAIJBwEAQQALAQEKVQIVAEEAQcAAQQFBgAEQABogACABuqALPQMB' +
    'fgF8AX0DQCMAQQFqJABBACMANgKAAiACQwAAAD+SIQIgASAAEAEhASAAQgF8IQAgAkMAAHpEXQ0ACwsLFAEAQRALDgEAAAAAAAAA' +
    'AAAAAAAQ',
  'base64',
);

/** After these V8 has seen what everything is, and compiled it. */
const LIVES = 6;

/**
 * Walks through `lives` of them on an engine, and gives what the last one left. Throws what a move throws, and KEDGE_INTERNAL, when it
 * ends early.
 */
export function rehearseLife(engine: EngineName, lives: number = LIVES): SavedGuest {
  const wakeFd = native.wakeCreate();
  if (failed(wakeFd)) throw new KedgeError('KEDGE_INTERNAL', `a rehearsal failed: errno ${-wakeFd}`);
  try {
    const stop = createStopSignal();
    stop.request();
    native.wakeSignal(wakeFd);
    const start: WorkerStart = {
      engine,
      instrumented: instrument(LIFE, 'loop-all', ENGINES[engine].flag),
      module: LIFE,
      address: 0x7f000001,
      args: ['rehearsal'],
      environ: [],
      preopens: [],
      stop: stop.handle,
      wakeFd,
      descriptors: createAccount(),
      words: createWords().buffer,
    };
    let saved = live(start, undefined);
    for (let life = 1; life < lives; life++) saved = live(start, saved);
    return saved;
  } finally {
    native.fdClose(wakeFd);
  }
}

/** One life, from where the one before was left. */
function live(start: WorkerStart, before: SavedGuest | undefined): SavedGuest {
  let last: WorkerMessage | undefined;
  const guest = new GuestThread(start, (message) => {
    last = message;
  });
  try {
    let id = 0;
    if (before === undefined) guest.handle({ id: id++, do: 'start', args: null });
    else {
      guest.handle({
        id: id++,
        do: 'restore',
        args: { saved: { ...before, handles: encodeCbor(before.handles, 'handles') }, flows: [] },
      });
      if (last?.kind !== 'reply') throw failure(last);
      guest.handle({ id: id++, do: 'release', args: null });
    }
    if (last?.kind !== 'outcome' || last.outcome.kind !== 'stopped') throw failure(last);
    guest.handle({ id: id++, do: 'drain', args: { stays: false } });
    guest.handle({ id: id++, do: 'save', args: { flows: [] } });
    // TypeScript does not see that the calls above have set it.
    const reply = last as WorkerMessage;
    if (reply.kind !== 'reply' || reply.result === null || !('frames' in reply.result)) throw failure(reply);
    const { memory, ...rest } = reply.result;
    if (!(memory instanceof Uint8Array)) throw failure(reply);
    return { ...rest, memory };
  } finally {
    guest.handle({ id: -1, do: 'destroy', args: null });
  }
}

function failure(message: WorkerMessage | undefined): KedgeError {
  const why = message?.kind === 'error' ? message.error.message : message?.kind === 'crashed' ? message.message : '';
  return new KedgeError('KEDGE_INTERNAL', `a rehearsal failed: ${message?.kind ?? 'nothing came'} ${why}`);
}
