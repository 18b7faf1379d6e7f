/** The outside world of the guest that calls its host really: files, clocks, randomness and sockets of this machine. */
import { native, NO_WAKE } from '../native.ts';
import type { Ipv4 } from '../rewrite/numbers.ts';
import { SocketTable } from '../wasi-sock/table.ts';
import type { Preopen } from '../wasi/descriptors.ts';
import { Wasi } from '../wasi/imports.ts';
import type { Stdio } from '../wasi/stdio.ts';
import type { Recorder } from './recorder.ts';

export interface WorldOptions {
  /** The program's name first. */
  readonly args: readonly string[];
  /** `NAME=value` each. */
  readonly environ: readonly string[];
  readonly preopens: readonly Preopen[];
  /** What the guest's sockets are bound to: one of this machine. */
  readonly address: Ipv4;
  readonly stdio: Stdio;
}

/** How long connections that the guest has closed may take to deliver what it wrote, milliseconds. */
const LINGER = 2000;
const LOOK = 20;

export class World {
  readonly recorder: Recorder;
  readonly wasi: Wasi;
  readonly #sockets: SocketTable;

  /** Throws KEDGE_PREOPEN_INVALID. */
  constructor(recorder: Recorder, { args, environ, preopens, address, stdio }: WorldOptions) {
    this.recorder = recorder;
    this.#sockets = new SocketTable({
      native,
      wakeFd: NO_WAKE,
      guestAddress: address,
      now: () => performance.now(),
    });
    this.wasi = new Wasi({ context: recorder, stdio, args, environ, preopens, sockets: this.#sockets });
  }

  /** Closes all that the guest has left. `deliver`: waits a moment for peers to get what it wrote. */
  close(deliver: boolean): void {
    this.wasi.close();
    if (deliver && this.#sockets.closeAll() > 0) {
      const pause = new Int32Array(new SharedArrayBuffer(4));
      const end = performance.now() + LINGER;
      while (this.#sockets.sweep() > 0 && performance.now() < end) Atomics.wait(pause, 0, 0, LOOK);
    }
    this.#sockets.destroy();
  }
}
