import assert from 'node:assert/strict';
import { createHostCallContext } from '../../../src/engine/context.ts';
import type { CallContext } from '../../../src/engine/context.ts';
import { WASI } from '../../../src/wasi-sock/errno.ts';
import type { SocketHandle } from '../../../src/wasi-sock/handle.ts';
import { socketFunctions } from '../../../src/wasi-sock/imports.ts';
import type { Guest } from './support.ts';

/** A guest's memory, descriptors and functions, without any Wasm. */
export class Program {
  readonly memory = new Uint8Array(65_536);
  readonly view = new DataView(this.memory.buffer);
  readonly context = createHostCallContext() as CallContext;
  readonly descriptors: (SocketHandle | 'file')[] = ['file'];
  readonly functions;
  limit = 100;

  constructor(g: Guest) {
    this.context.bind(
      () => this.memory,
      () => false,
    );
    const descriptors = {
      get: (fd: number) => {
        const found = this.descriptors[fd];
        return found === 'file' ? undefined : found;
      },
      has: (fd: number) => this.descriptors[fd] !== undefined,
      room: () => (this.descriptors.length < this.limit ? 0 : -WASI.EMFILE),
      insert: (handle: SocketHandle) =>
        this.descriptors.length < this.limit ? this.descriptors.push(handle) - 1 : -WASI.EMFILE,
    };
    const hosts = new Map([['db', [0x0a000001 as never]]]);
    this.functions = socketFunctions(this.context, g.table, descriptors, hosts);
  }

  call(name: string, ...args: readonly (number | bigint)[]): number {
    return this.#issue(name, args, false, undefined);
  }

  /** Issues an interrupted call again. */
  again(name: string, ...args: readonly (number | bigint)[]): number {
    return this.#issue(name, args, true, this.context.pending);
  }

  #issue(name: string, args: readonly (number | bigint)[], resumed: boolean, pending: CallContext['pending']): number {
    this.context.enter(resumed, pending);
    const found = this.functions[name];
    assert.ok(found !== undefined, name);
    return Number(found.call(...(args as never[])));
  }

  u32(pointer: number): number {
    return this.view.getUint32(pointer, true);
  }

  /** An IPv4 address at a pointer. */
  putAddress(pointer: number, address: number, port: number): void {
    this.view.setUint32(pointer, 0, true);
    this.view.setUint32(pointer + 4, address);
    this.view.setUint16(pointer + 8, port, true);
  }

  /** An iovec array of one buffer at `pointer`. */
  putVector(pointer: number, buffer: number, length: number): void {
    this.view.setUint32(pointer, buffer, true);
    this.view.setUint32(pointer + 4, length, true);
  }

  open(type: 0 | 1): number {
    assert.equal(this.call('sock_open', 99, 0, type, 8), 0);
    return this.u32(8);
  }
}
