/** How long an agent waits for others while a guest is handed over, milliseconds. A guest that waits for one stands still. */
export type Limits = {
  /** For a target to compile the module and start a thread. The guest still runs. */
  readonly prepare: number;
  /** While the other end takes an image in, without progress. */
  readonly stall: number;
  /** From the whole image to its commit by a target. */
  readonly commit: number;
  /** For `kedge checkpoint` to have the whole image safe on disk, for each {@link STORE_BYTES} of it that are begun. */
  readonly store: number;
};

export const LIMITS: Limits = { prepare: 60_000, stall: 10_000, commit: 30_000, store: 30_000 };

/** So slow a disk is waited for: 128 MiB in each `store`. */
export const STORE_BYTES = 128 * 1024 * 1024;
