/**
 * WASI preview1 as one guest sees it: all functions of the standard, and with a socket layer those of WAMR's sockets.
 *
 * Usage: make a context (`createHostCallContext`), then `new Wasi(options)`, give `imports` and the context to
 * `Engine.instantiate`. At a stop `save()` records what is not memory; on the other side pass that as `options.saved`.
 * `close()` when the guest has ended, or moved away.
 */
import { KedgeError } from '../errors.ts';
import type { HostCallContext, HostFunction, HostImports } from '../engine/engine.ts';
import { type SocketDescriptors, socketFunctions } from '../wasi-sock/imports.ts';
import type { HostsTable } from '../wasi-sock/resolve.ts';
import type { SocketTable } from '../wasi-sock/table.ts';
import { clockFunctions, Clocks, SYSTEM_TIME, type TimeSource } from './clocks.ts';
import { DescriptorTable, type Preopen } from './descriptors.ts';
import { WasiError } from './errno.ts';
import { descriptorFunctions, release } from './fd-functions.ts';
import { pathFunctions } from './path-functions.ts';
import { pollFunctions } from './poll.ts';
import { processFunctions, type RandomSource, SYSTEM_RANDOM } from './process.ts';
import { ALL_RIGHTS, FD_FLAG, STREAM_RIGHTS } from './rights.ts';
import { openPreopen, restoreDescriptors, saveDescriptors, type SavedWasi } from './saved.ts';
import type { Stdio } from './stdio.ts';
import type { Waiter } from './waiting.ts';

/** The import module of preview1. */
export const WASI_MODULE = 'wasi_snapshot_preview1';

export interface WasiOptions {
  readonly context: HostCallContext;
  readonly stdio: Stdio;
  /** What blocked calls wait on. Left out: the sockets. */
  readonly waiter?: Waiter;
  /** The program's name first. Ignored when `saved` is given: a guest keeps its own. */
  readonly args?: readonly string[];
  /** `NAME=value` each. Ignored when `saved` is given. */
  readonly environ?: readonly string[];
  readonly preopens?: readonly Preopen[];
  /** Already restored, if the guest is. */
  readonly sockets?: SocketTable;
  /** Names that `getaddrinfo` of the guest knows, besides addresses. */
  readonly hosts?: HostsTable;
  /** What `save()` gave, for a guest that is restored. */
  readonly saved?: SavedWasi;
  readonly time?: TimeSource;
  readonly random?: RandomSource;
}

export class Wasi {
  readonly imports: HostImports;
  readonly #args: readonly string[];
  readonly #environ: readonly string[];
  readonly #clocks: Clocks;
  readonly #descriptors = new DescriptorTable();

  /**
   * Throws KEDGE_PREOPEN_INVALID when a directory cannot be opened, or two have one name, and KEDGE_RESTORE_FILE when a file of `saved` cannot.
   */
  constructor(options: WasiOptions) {
    const { context, saved, sockets, stdio } = options;
    const waiter = options.waiter ?? sockets;
    if (waiter === undefined) {
      throw new TypeError('a guest without sockets needs a waiter');
    }
    const preopens = options.preopens ?? [];
    mustDiffer(preopens);
    this.#args = saved?.args ?? options.args ?? [];
    this.#environ = saved?.environ ?? options.environ ?? [];
    this.#clocks = new Clocks(options.time ?? SYSTEM_TIME, BigInt(saved?.monotonic ?? 0));
    try {
      if (saved === undefined) {
        this.#openInitial(preopens);
      } else {
        restoreDescriptors(saved.descriptors, this.#descriptors, preopens, sockets);
      }
    } catch (error) {
      this.#closeFiles();
      throw error;
    }
    const descriptors = this.#descriptors;
    const clocks = this.#clocks;
    const random = options.random ?? SYSTEM_RANDOM;
    const functions: Readonly<Record<string, HostFunction>> = {
      ...processFunctions(context, { args: this.#args, environ: this.#environ, random }),
      ...clockFunctions(context, clocks),
      ...descriptorFunctions(context, { descriptors, stdio, sockets, waiter }),
      ...pathFunctions(context, descriptors),
      ...pollFunctions(context, { clocks, descriptors, input: stdio.input, waiter }),
      ...(sockets && socketFunctions(context, sockets, socketDescriptors(descriptors), options.hosts)),
    };
    this.imports = { [WASI_MODULE]: functions };
  }

  /** Everything that is not in the guest's memory or in its sockets. Throws KEDGE_FILE_DELETED. */
  save(): SavedWasi {
    return {
      args: this.#args,
      environ: this.#environ,
      monotonic: this.#clocks.monotonic(),
      descriptors: saveDescriptors(this.#descriptors),
    };
  }

  /** The guest's monotonic clock goes on from a saved reading now: call it right before a restored guest runs. */
  continueClock(saved: SavedWasi): void {
    this.#clocks.continueFrom(BigInt(saved.monotonic));
  }

  /** Closes all files of the host. Sockets are the socket layer's to close. */
  close(): void {
    this.#closeFiles();
  }

  #openInitial(preopens: readonly Preopen[]): void {
    for (const stream of [0, 1, 2] as const) {
      this.#descriptors.insert({ kind: 'stdio', stream, rights: STREAM_RIGHTS, inheriting: 0n, flags: 0 });
    }
    for (const preopen of preopens) {
      let host: number;
      try {
        host = openPreopen(preopen);
      } catch (cause) {
        throw new KedgeError('KEDGE_PREOPEN_INVALID', `cannot open the directory ${preopen.hostPath}`, {
          hint: `it was to be given to the guest as ${preopen.guestPath}`,
          cause,
        });
      }
      const common = { rights: ALL_RIGHTS, inheriting: ALL_RIGHTS, flags: 0, listing: undefined };
      this.#descriptors.insert({ kind: 'directory', preopen, path: '', host, preopened: true, ...common });
    }
  }

  #closeFiles(): void {
    const open = [...this.#descriptors.entries()].filter(([, descriptor]) => descriptor.kind !== 'socket');
    for (const [fd] of open) {
      release(this.#descriptors.remove(fd), undefined);
    }
  }
}

/** What the guest has open is saved by the names of directories: of two with one name, another would be found again. */
function mustDiffer(preopens: readonly Preopen[]): void {
  const hosts = new Map<string, string>();
  for (const { guestPath, hostPath } of preopens) {
    const other = hosts.get(guestPath) ?? hostPath;
    if (other !== hostPath) {
      throw new KedgeError(
        'KEDGE_PREOPEN_INVALID',
        `${other} and ${hostPath} are both to be the guest's ${guestPath}`,
        {
          hint: 'give each a name of its own: --dir HOST:GUEST',
        },
      );
    }
    hosts.set(guestPath, hostPath);
  }
}

/** The descriptor table as the `sock_*` functions use it. */
function socketDescriptors(descriptors: DescriptorTable): SocketDescriptors {
  return {
    get: (fd) => {
      const found = descriptors.find(fd);
      return found?.kind === 'socket' ? found.handle : undefined;
    },
    has: (fd) => descriptors.find(fd) !== undefined,
    room: () =>
      tried(() => {
        descriptors.mustHaveRoom();
        return 0;
      }),
    insert: (handle) => {
      const flags = handle.nonBlocking ? FD_FLAG.nonblock : 0;
      return tried(() =>
        descriptors.insert({ kind: 'socket', handle, flags, rights: ALL_RIGHTS, inheriting: ALL_RIGHTS }),
      );
    },
  };
}

/** A result that is not negative, or a negative WASI errno. */
function tried(attempt: () => number): number {
  try {
    return attempt();
  } catch (error) {
    if (error instanceof WasiError) {
      return -error.errno;
    }
    throw error;
  }
}
