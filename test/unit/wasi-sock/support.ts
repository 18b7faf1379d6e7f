/**
 * A guest on loopback and peers that are plain kernel sockets of this test. No gateway is here: where a connection is restored,
 * the peer plays its part: it accepts the new connection on its old port and goes on at the offsets the attach names.
 */
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { socketAddress } from '../../../src/wasi-sock/address.ts';
import type { SocketAddress } from '../../../src/wasi-sock/address.ts';
import type { SocketHost } from '../../../src/wasi-sock/core.ts';
import type { SocketHandle, TcpSocket } from '../../../src/wasi-sock/handle.ts';
import type { FlowReport } from '../../../src/wasi-sock/save.ts';
import { SocketTable } from '../../../src/wasi-sock/table.ts';
import { NO_WAKE, native } from '../../../src/native.ts';
import type { SocketFd, WakeFd } from '../../../src/native.ts';
import { formatIpv4 } from '../../../src/rewrite/numbers.ts';
import type { Ipv4 } from '../../../src/rewrite/numbers.ts';

/** How long anything may take that happens at once, ms. */
const SOON = 5000;

let lastAddress = 0;

/** A loopback address that no other test of this process has, nor likely another process. */
export function ownAddress(): Ipv4 {
  lastAddress += 1;
  return (0x7f00_0000 + ((process.pid & 0x3fff) << 9) + 256 + lastAddress) as Ipv4;
}

export interface Guest extends Disposable {
  readonly address: Ipv4;
  readonly host: SocketHost;
  readonly table: SocketTable;
  readonly wake: WakeFd;
  /** Moves the clock of the guest's host, ms. */
  advance(ms: number): void;
  /** Replaces the table: the old one is destroyed, the new one restored from what it had saved. */
  move(saved: unknown, attached: readonly FlowReport[] | 'without-flows'): void;
}

export function guest(address = ownAddress()): Guest {
  const wake = native.wakeCreate() as WakeFd;
  let skew = 0;
  const host: SocketHost = { native, wakeFd: wake, guestAddress: address, now: () => performance.now() + skew };
  let table = new SocketTable(host);
  return {
    address,
    host,
    wake,
    get table() {
      return table;
    },
    advance(ms) {
      skew += ms;
    },
    move(saved, attached) {
      table.destroy();
      table = SocketTable.restore(host, saved, attached, SOON);
    },
    [Symbol.dispose]() {
      table.destroy();
      native.fdClose(wake);
    },
  };
}

export function at(address: Ipv4, port: number): SocketAddress {
  return socketAddress(address, port);
}

/** A result that must not be an error. */
export function ok<T>(result: T | number): T {
  assert.notEqual(typeof result, 'number', `errno ${String(result)}`);
  return result as T;
}

export function good(result: number): number {
  assert.ok(result >= 0, `errno ${result}`);
  return result;
}

/** A TCP handle of the guest that listens; its port is chosen by the kernel unless given. */
export function listener({ table, address }: Guest, port = 0): { handle: TcpSocket; port: number } {
  const handle = ok(table.open('tcp'));
  assert.equal(table.bind(handle, at(address, port)), 0);
  assert.equal(table.listen(handle, 64), 0);
  return { handle: handle as TcpSocket, port: table.localName(handle).port };
}

/** The stream of a connected handle. */
export function streamOf(handle: SocketHandle): Extract<TcpSocket['state'], { name: 'connected' }>['stream'] {
  assert.ok(handle.kind === 'tcp' && handle.state.name === 'connected');
  return handle.state.stream;
}

/** Waits until something holds. */
export function until(condition: () => boolean, what: string): void {
  const cell = new Int32Array(new SharedArrayBuffer(4));
  for (const deadline = performance.now() + SOON; !condition(); Atomics.wait(cell, 0, 0, 1)) {
    assert.ok(performance.now() < deadline, `never: ${what}`);
  }
}

/** Descriptors that this process has open. */
export function openFds(): number {
  return readdirSync('/proc/self/fd').length;
}

export function text(value: string): Uint8Array {
  return new TextEncoder().encode(value);
}

/** Bytes that tell where in a stream they stand. */
export function pattern(from: number, length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => ((from + i) * 131 + ((from + i) >> 8) * 7) & 255);
}

/** The other end of one of the guest's connections, over all kernel connections it takes. */
export class Peer implements Disposable {
  readonly address = ownAddress();
  port = 0;
  #listener: SocketFd | undefined;
  #fd: SocketFd | undefined;
  /** Everything it has read, of all connections. */
  readonly read: number[] = [];
  readonly #scratch = new Uint8Array(1 << 20);

  get fd(): SocketFd {
    assert.ok(this.#fd !== undefined, 'the peer is not connected');
    return this.#fd;
  }

  get remote(): SocketAddress {
    return at(this.address, this.port);
  }

  /** Listens where it is, or at a port of the kernel's choice. */
  listen(): this {
    if (this.#listener !== undefined) return this;
    const fd = native.sockOpen(true) as SocketFd;
    native.sockSetInt(fd, 1, 2, 1);
    good(native.sockBind(fd, this.address, this.port));
    good(native.sockListen(fd, 16));
    const name = new Uint32Array(2);
    native.sockLocal(fd, name);
    this.port = name[1] ?? 0;
    this.#listener = fd;
    return this;
  }

  /** Connects to the guest. `receiveBuffer`: bytes, to make it small. */
  connect(to: SocketAddress, receiveBuffer = 0): this {
    const fd = native.sockOpen(true) as SocketFd;
    native.sockSetInt(fd, 1, 2, 1);
    if (receiveBuffer > 0) native.sockSetInt(fd, 1, 8, receiveBuffer);
    good(native.sockBind(fd, this.address, this.port));
    native.sockConnectStart(fd, to.address, to.port);
    good(native.sockConnectWait(fd, NO_WAKE, SOON));
    const name = new Uint32Array(2);
    native.sockLocal(fd, name);
    this.port = name[1] ?? 0;
    this.#fd = fd;
    return this;
  }

  /** Takes the guest's connection; the one it had before is forgotten. Returns where it came from. */
  accept(): SocketAddress {
    assert.ok(this.#listener !== undefined);
    const name = new Uint32Array(2);
    const fd = good(native.sockAccept(this.#listener, NO_WAKE, SOON, name)) as SocketFd;
    this.#close();
    this.#fd = fd;
    return socketAddress(name[0] ?? 0, name[1] ?? 0);
  }

  send(bytes: Uint8Array): void {
    let done = 0;
    while (done < bytes.length) {
      done += good(native.sockSend(this.fd, bytes, done, bytes.length - done, NO_WAKE, SOON));
    }
  }

  /** Reads until it has so many bytes in all. */
  readTo(count: number): void {
    while (this.read.length < count) assert.ok(this.readOnce() > 0, `ended at ${this.read.length} of ${count}`);
  }

  /** Reads once. Bytes, 0 at the end, or -errno. */
  readOnce(timeoutMs = SOON): number {
    const n = native.sockRecv(this.fd, this.#scratch, 0, this.#scratch.length, false, NO_WAKE, timeoutMs);
    for (let i = 0; i < n; i += 1) this.read.push(this.#scratch[i] ?? 0);
    return n;
  }

  /** Reads all there is, up to the end or an error, which it returns. */
  readAll(): number {
    for (;;) {
      const n = this.readOnce();
      if (n <= 0) return n;
    }
  }

  shutdown(): void {
    good(native.sockShutdown(this.fd, 1));
  }

  reset(): void {
    native.sockSetLinger(this.fd, true, 0);
    this.#close();
  }

  #close(): void {
    if (this.#fd !== undefined) native.fdClose(this.#fd);
    this.#fd = undefined;
  }

  [Symbol.dispose](): void {
    if (this.#fd !== undefined) native.sockSetLinger(this.#fd, true, 0);
    this.#close();
    if (this.#listener !== undefined) native.fdClose(this.#listener);
  }
}

/** What a gateway would report of the connection between a guest's port and a peer. */
export function flow(
  guestAddress: Ipv4,
  port: number,
  peer: Peer,
  state: { acked: number; received: number; finAcked?: boolean; reset?: boolean },
): FlowReport {
  return {
    local: { address: formatIpv4(guestAddress), port },
    remote: { address: formatIpv4(peer.address), port: peer.port },
    finAcked: false,
    ...state,
  };
}

/** Reads once from a handle. */
export function recv(
  table: SocketTable,
  handle: SocketHandle,
  size: number,
  flags = 0,
  timeoutMs?: number,
): Uint8Array {
  const buffer = new Uint8Array(size);
  const n = good(table.receive(handle, [buffer], flags, timeoutMs));
  return buffer.subarray(0, n);
}

/** Reads from a handle until so many bytes have come, or the end. */
export function recvAll(table: SocketTable, handle: SocketHandle, size: number): Uint8Array {
  const all = new Uint8Array(size);
  let done = 0;
  while (done < size) {
    const n = good(table.receive(handle, [all.subarray(done)], 0, SOON));
    if (n === 0) break;
    done += n;
  }
  return all.subarray(0, done);
}
