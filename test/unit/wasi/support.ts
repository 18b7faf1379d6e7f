import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CallContext } from '../../../src/engine/context.ts';
import type { StopSignal } from '../../../src/engine/engine.ts';
import { createStopSignal } from '../../../src/engine/stop.ts';
import type { TimeSource } from '../../../src/wasi/clocks.ts';
import { Wasi, WASI_MODULE, type WasiOptions } from '../../../src/wasi/imports.ts';
import { stopFlagWaiter } from '../../../src/wasi/waiting.ts';

/** A directory that is removed at the end of a `using` block. */
export function temporaryDirectory(): Disposable & { readonly path: string } {
  const path = mkdtempSync(join(tmpdir(), 'kedge-wasi-'));
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) };
}

/** Compiles a C program with wasi-libc. */
export function compileC(source: string): Uint8Array {
  using directory = temporaryDirectory();
  const [from, to] = [join(directory.path, 'guest.c'), join(directory.path, 'guest.wasm')];
  writeFileSync(from, source);
  execFileSync(
    process.env['CLANG'] ?? 'clang-14',
    ['--target=wasm32-wasi', '-O2', '-Wall', '-Werror', '-o', to, from],
    { stdio: ['ignore', 'ignore', 'pipe'] },
  );
  return new Uint8Array(readFileSync(to));
}

/** A clock that tests move, in nanoseconds. */
export class ManualTime implements TimeSource {
  real = 1_700_000_000_000_000_000n;
  mono = 5_000n;

  realtime(): bigint {
    return this.real;
  }

  monotonic(): bigint {
    return this.mono;
  }

  advance(nanoseconds: bigint): void {
    this.real += nanoseconds;
    this.mono += nanoseconds;
  }
}

type Options = Partial<Omit<WasiOptions, 'context'>>;

/** WASI functions called directly, over a memory of 64 KiB that the test fills and reads. */
export class Bench implements Disposable {
  readonly memory = new Uint8Array(65536);
  readonly view = new DataView(this.memory.buffer);
  readonly context = new CallContext();
  readonly stop: StopSignal = createStopSignal();
  readonly out: string[] = [];
  readonly wasi: Wasi;
  #next = 32768;

  constructor(options: Options = {}) {
    this.context.bind(
      () => this.memory,
      () => this.stop.requested(),
    );
    const text = new TextDecoder();
    this.wasi = new Wasi({
      context: this.context,
      stdio: {
        input: { kind: 'none' },
        output: (bytes) => void this.out.push(text.decode(bytes)),
        errors: (bytes) => void this.out.push(`!${text.decode(bytes)}`),
      },
      waiter: stopFlagWaiter(this.stop),
      ...options,
    });
  }

  get names(): readonly string[] {
    return Object.keys(this.wasi.imports[WASI_MODULE] ?? {});
  }

  /** Calls a function; the result is its errno. */
  call(name: string, ...args: readonly (number | bigint)[]): number {
    this.context.enter(false, undefined);
    return this.#invoke(name, args);
  }

  #invoke(name: string, args: readonly (number | bigint)[]): number {
    const found = this.wasi.imports[WASI_MODULE]?.[name];
    if (found === undefined) {
      throw new Error(`no function ${name}`);
    }
    return Number((found.call as (...values: readonly (number | bigint)[]) => number)(...args));
  }

  /** Issues an interrupted call again, as the engine does. */
  again(name: string, ...args: readonly (number | bigint)[]): number {
    this.context.enter(true, this.context.pending);
    return this.#invoke(name, args);
  }

  /** Puts bytes or text somewhere; returns [pointer, length]. */
  put(data: string | Uint8Array): [number, number] {
    const bytes = typeof data === 'string' ? new TextEncoder().encode(data) : data;
    const at = this.#next;
    this.memory.set(bytes, at);
    this.#next += (bytes.length + 15) & ~7;
    return [at, bytes.length];
  }

  /** An iovec array of one buffer; returns [pointer, count]. */
  iovec(pointer: number, length: number): [number, number] {
    const at = this.put(new Uint8Array(8))[0];
    this.view.setUint32(at, pointer, true);
    this.view.setUint32(at + 4, length, true);
    return [at, 1];
  }

  text(pointer: number, length: number): string {
    return new TextDecoder().decode(this.memory.subarray(pointer, pointer + length));
  }

  u32(pointer: number): number {
    return this.view.getUint32(pointer, true);
  }

  u64(pointer: number): bigint {
    return this.view.getBigUint64(pointer, true);
  }

  /** `path_open` below descriptor 3; returns the descriptor, or the negative errno. */
  open(
    path: string,
    options: { flags?: number; rights?: bigint; fd?: number; fdflags?: number; follow?: boolean } = {},
  ): number {
    const { flags = 0, rights = 2n, fd = 3, fdflags = 0, follow = true } = options;
    const out = 16;
    const errno = this.call('path_open', fd, follow ? 1 : 0, ...this.put(path), flags, rights, 0n, fdflags, out);
    return errno === 0 ? this.u32(out) : -errno;
  }

  write(fd: number, text: string): number {
    return this.call('fd_write', fd, ...this.iovec(...this.put(text)), 24);
  }

  /** What could be read, or the negative errno. */
  read(fd: number, length = 100): string | number {
    const [buffer] = this.put(new Uint8Array(length));
    const errno = this.call('fd_read', fd, ...this.iovec(buffer, length), 24);
    return errno === 0 ? this.text(buffer, this.u32(24)) : -errno;
  }

  [Symbol.dispose](): void {
    this.wasi.close();
  }
}
