/** How long an agent waits while a guest is handed over, milliseconds. A guest that waits for others stands still. */
export type Limits = {
  /** For the guest to reach a stable point. It runs until it does. */
  readonly stop: number;
  /** For a target to compile the module and start a thread. The guest still runs. */
  readonly prepare: number;
  /** For a source, after its target is prepared: to stop the guest, ask the gateway, and make the image. The target's room waits. */
  readonly image: number;
  /** While the other end takes an image in, without progress. */
  readonly stall: number;
  /** From the whole image to its commit by a target. */
  readonly commit: number;
  /** For `kedge checkpoint` to have the whole image safe on disk, for each {@link STORE_BYTES} of it that are begun. */
  readonly store: number;
};

export const LIMITS: Limits = {
  stop: 10_000,
  prepare: 60_000,
  image: 120_000,
  stall: 10_000,
  commit: 30_000,
  store: 30_000,
};

/** So slow a disk is waited for: 128 MiB in each `store`. */
export const STORE_BYTES = 128 * 1024 * 1024;
