/**
 * Names by which an instrumented module and its engine know each other. All exports of the guest itself are dropped, so
 * none of these can clash; its imports keep their names, and the module name `kedge` is not offered to guests.
 */
export const NAMES = {
  /** Import module of what only the engine supplies. */
  module: 'kedge',
  /** Import: the shared memory whose first 32-bit word is the stop flag. */
  stop: 'stop',
  /** Import: called at a stable point when the flag is set. */
  poll: 'poll',
  /** Export: the guest's linear memory, if it has one. */
  memory: 'kedge:memory',
  /** Export: the memory that holds the frames while they are outside the engine's stack. */
  frames: 'kedge:frames',
  /** Export: runs the start function, if any, and then `_start`. */
  main: 'kedge:main',
  /** Exports: the bits of the n-th mutable global as an i64, and their inverse. */
  getGlobal: (n: number): string => `kedge:get:${n}`,
  setGlobal: (n: number): string => `kedge:set:${n}`,
} as const;

/** Pages of the frames memory: 64 MiB, far above what an engine's own stack lets a guest reach; untouched pages cost nothing. */
export const FRAME_PAGES = 1024;
