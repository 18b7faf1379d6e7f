/**
 * A move as a table: versions, each an ordered list of named stages of the source and of the target. Both agents must know the same
 * one: the source names its version when it announces a guest, and a target of another refuses before the guest stops. Errors,
 * timings and faults of tests name stages.
 */
import { KedgeError } from '../errors.ts';
import { injectFault } from './faults.ts';

export const MOVE_VERSION = 1;

/** What a source does for every hand-over. */
const CUT = [
  'check', // every connection can move
  'stop', // the guest is at a stable point
  'freeze', // the gateway stands in for it
  'drain', // what its kernel holds is taken over, and the cut is agreed with the gateway
  'save', // memory, frames, handles, flows
] as const;

export const STAGES = {
  1: {
    source: [
      'connect', // a link to the target
      'prepare', // the target compiles the module and starts a worker, while the guest still runs
      ...CUT,
      'send', // the image is with the target, which answers when it has committed
      'destroy', // nothing of the guest is left here
    ],
    target: [
      'prepare',
      'verify', // the image is whole, and of the guest that was announced
      'attach', // the next epoch is claimed, while the image is verified; the gateway will answer the new sockets
      'restore', // sockets are connected, memory and frames are in place
      'commit', // the gateway has switched: from here this is the guest
      'release', // it runs
    ],
    checkpoint: [
      ...CUT,
      'write', // the image is stored
      'seal', // the gateway gives the guest to nobody but the image
      'destroy',
    ],
  },
} as const;

type Table = (typeof STAGES)[typeof MOVE_VERSION];
export type Role = keyof Table;
export type StageName<R extends Role> = Table[R][number];

export type StageTime = { readonly name: string; readonly ms: number };

/** Runs the stages of one role and keeps the time of each. */
export class StageRunner<R extends Role> {
  readonly times: StageTime[] = [];
  readonly #role: R;

  constructor(role: R) {
    this.#role = role;
  }

  /** The error of a stage that fails says which it was. */
  async run<T>(stage: StageName<R>, work: () => Promise<T>): Promise<T> {
    const start = performance.now();
    try {
      injectFault(this.#role, stage);
      return await work();
    } catch (error) {
      if (!(error instanceof KedgeError)) throw error;
      const { code, hint } = error;
      throw new KedgeError(code, `${this.#role} stage ${stage}: ${error.message}`, { hint, cause: error });
    } finally {
      this.times.push({ name: `${this.#role}.${stage}`, ms: Math.round((performance.now() - start) * 1000) / 1000 });
    }
  }
}

/** Rejects with KEDGE_STAGE_TIMEOUT and the hint when the work takes longer. The work itself goes on. */
export async function within<T>(ms: number, what: string, hint: string, work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () => reject(new KedgeError('KEDGE_STAGE_TIMEOUT', `${what} took longer than ${ms} ms`, hint)),
      ms,
    );
  });
  try {
    return await Promise.race([work, limit]);
  } finally {
    clearTimeout(timer);
  }
}
