/** Runs all calls of a random module without a stop and with many, and compares. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Policy } from '../../../../src/engine/engine.ts';
import { ENGINES, type EngineName } from '../../../../src/engine/engines.ts';
import { canonicalBits } from '../../../../src/engine/hash.ts';
import { KedgeError } from '../../../../src/errors.ts';
import { type Asked, Bare, type BareHost, type Ended, type Form, formOf, snapshotHash } from '../bare.ts';

/** Beside the module, as `native/examples/test-modules` writes it. */
export interface About {
  /** How many bytes made the module. */
  readonly length: number;
  readonly first: number;
  readonly results: readonly (string | null)[];
  readonly calls: readonly string[];
}

export interface Tally {
  modules: number;
  calls: number;
  stops: number;
  /** Stops after which another engine went on. */
  changes: number;
}

const NAMES = Object.keys(ENGINES) as EngineName[];
const POLICIES: readonly Policy[] = ['call', 'function', 'loop', 'loop-all', 'instruction'];
/** Stops of one call; then it runs to its end. */
const MOST_STOPS = 10;

/** Numbers below 1 that depend on the seed only. */
export function randomFrom(seed: number): () => number {
  let state = Math.imul(seed, 0x9e37_79b9) | 0;
  return () => {
    state = (state + 0x6d2b_79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** What the host computes from its arguments, always the same. */
function answer(name: string, args: readonly (number | bigint)[]): number | bigint | undefined {
  const number = Number(args[0] ?? 0);
  const sum = Number.isFinite(number) ? number : 7;
  switch (name) {
    case 'i':
      return (Math.imul(sum | 0, 31) + 1) | 0;
    case 'I':
      return BigInt.asIntN(64, BigInt(args[0] ?? 0) * 31n + BigInt(args[1] ?? 0));
    case 'f':
      return Math.fround(sum / 3);
    case 'F':
      return sum / 3 + Number(BigInt.asIntN(32, BigInt(args[1] ?? 0)));
    default:
      return undefined;
  }
}

const HOST: BareHost = { call: (_, name, args) => answer(name, args) };

/** What a call came to, in words that are equal for equal ends on all engines. */
function described(instance: Bare, ended: Ended, types: string, first: number): string {
  if (ended.kind !== 'returned') return ended.kind === 'trapped' ? `trap ${ended.message}` : ended.kind;
  let at = first;
  return [...types]
    .map((letter) => {
      const bits = instance.global(at);
      at += 1;
      return `${letter} ${canonicalBits(letter, bits)}`;
    })
    .join(', ');
}

const EXHAUSTED = 'trap call stack exhausted';

export interface Course {
  /** The start function's end, and that of each call. */
  readonly ends: readonly string[];
  /** Of the final state; undefined when the stack was exhausted, which happens at another depth everywhere. */
  readonly hash: string | undefined;
}

/** The calls one after the other; `run` makes each of them, and gives the instance that it ended in. */
function course(about: About, make: () => Bare, run: (instance: Bare, name: string) => readonly [Bare, Ended]): Course {
  let instance: Bare;
  try {
    instance = make();
  } catch (error) {
    // A segment does not fit.
    if (error instanceof KedgeError && error.code === 'KEDGE_MODULE_INVALID')
      return { ends: ['none'], hash: undefined };
    throw error;
  }
  const ends: string[] = [];
  const names = ['', ...about.results.map((types, n) => (types === null ? undefined : `call:${n}`))];
  for (const [n, name] of names.entries()) {
    if (name === undefined) continue;
    let ended: Ended;
    [instance, ended] = run(instance, name);
    ends.push(described(instance, ended, n === 0 ? '' : (about.results[n - 1] ?? ''), about.first));
    if (ends.at(-1) === EXHAUSTED) {
      instance.dispose();
      return { ends, hash: undefined };
    }
    // An instance whose start function traps does not exist.
    if (n === 0 && ended.kind === 'trapped') break;
  }
  const hash = snapshotHash(instance.capture());
  instance.dispose();
  return { ends, hash };
}

function begin(instance: Bare, name: string, asked?: Asked): Ended {
  return name === '' ? instance.start(asked) : instance.call(name, asked);
}

function unmoved(about: About, form: Form): Course {
  return course(
    about,
    () => new Bare(form, HOST),
    (instance, name) => [instance, begin(instance, name)],
  );
}

function moved(about: About, forms: readonly Form[], random: () => number, tally: Tally): Course {
  const any = (): Form => forms[Math.floor(random() * forms.length)] as Form;
  const often = random() < 0.5 ? 0.05 : 0.4;
  // Stops of the call that is being made.
  let stops = 0;
  const asked: Asked = () => (stops >= MOST_STOPS ? 'never' : random() < often ? 'stop' : 'on');
  const suspending: BareHost = { ...HOST, suspends: () => stops < MOST_STOPS && random() < 0.3 };
  let form = any();
  const make = (): Bare => new Bare(form, suspending);
  return course(about, make, (begun, name) => {
    stops = 0;
    let instance = begun;
    let ended = begin(instance, name, asked);
    while (ended.kind === 'stopped') {
      stops += 1;
      const snapshot = instance.capture();
      const next = any();
      tally.stops += 1;
      if (next.engine !== form.engine) tally.changes += 1;
      form = next;
      instance.dispose();
      instance = new Bare(form, suspending);
      instance.restore(snapshot);
      ended = instance.resume(asked);
    }
    tally.calls += 1;
    return [instance, ended];
  });
}

/** What differs for the module of a seed, or undefined. */
export function difference(directory: string, seed: number, tally: Tally): string | undefined {
  const about = JSON.parse(readFileSync(join(directory, `${seed}.json`), 'utf8')) as About;
  const bytes = new Uint8Array(readFileSync(join(directory, `${seed}.wasm`)));
  const random = randomFrom(seed);
  const originals = runnable(bytes);
  const plain = originals.map((form) => unmoved(about, form));
  const [expected] = plain;
  if (expected === undefined) return undefined;
  tally.modules += 1;
  for (const [n, other] of plain.entries()) {
    const wrong = unequal(expected, other);
    if (wrong !== undefined) return `${originals[0]?.engine} and ${originals[n]?.engine}, never stopped: ${wrong}`;
  }
  const policy = POLICIES[Math.floor(random() * POLICIES.length)] as Policy;
  const forms = originals.map(({ engine }) => formOf(engine, bytes, policy));
  const wrong = unequal(expected, moved(about, forms, random, tally));
  return wrong === undefined ? undefined : `stopped, policy ${policy}: ${wrong}`;
}

/** The module for each engine that can run it, without stable points. Others say so. */
function runnable(bytes: Uint8Array): readonly Form[] {
  return NAMES.flatMap((engine) => {
    try {
      return [formOf(engine, bytes, 'none')];
    } catch (error) {
      if (error instanceof KedgeError && error.code === 'KEDGE_MODULE_UNSUPPORTED') return [];
      throw error;
    }
  });
}

function unequal(a: Course, b: Course): string | undefined {
  for (let n = 0; n < Math.max(a.ends.length, b.ends.length); n += 1) {
    if (a.ends[n] === EXHAUSTED || b.ends[n] === EXHAUSTED) return undefined;
    if (a.ends[n] !== b.ends[n]) return `call ${n - 1}: ${a.ends[n]}, but ${b.ends[n]}`;
  }
  return a.hash === undefined || b.hash === undefined || a.hash === b.hash ? undefined : 'the final state';
}
