/**
 * A guest that is not Wasm: the program of a host driver. It owns the sockets of one SocketTable and does with them what it was
 * told, a step at a time and never waiting, so that it is at a stable point between any two steps. What it knows is data and moves.
 */
import { WASI } from '../../../src/wasi-sock/errno.ts';
import { formatAddress, socketAddress } from '../../../src/wasi-sock/address.ts';
import type { SocketHandle } from '../../../src/wasi-sock/handle.ts';
import { SHUT } from '../../../src/wasi-sock/tcp.ts';
import type { SocketTable } from '../../../src/wasi-sock/table.ts';
import { parseIpv4 } from '../../../src/rewrite/numbers.ts';
import { ReceiveAccount, SendAccount, type ReceiveState, type SendState } from './account.ts';

interface Connection {
  /** Of its handle; -1 once closed. */
  handle: number;
  local: string;
  readonly remote: string;
  connected: boolean;
  paused: boolean;
  /** To be closed once all is sent, whatever the peer does. */
  closing: boolean;
  closed: boolean;
  error: string | null;
  readonly received: ReceiveAccount;
  readonly sent: SendAccount;
}

interface Listener {
  readonly handle: number;
  readonly port: number;
  /** Connections nobody has asked for yet. */
  readonly accepted: number[];
}

export interface ConnectionState {
  readonly handle: number;
  readonly local: string;
  readonly remote: string;
  readonly connected: boolean;
  readonly paused: boolean;
  readonly closing: boolean;
  readonly closed: boolean;
  readonly error: string | null;
  readonly received: ReceiveState;
  readonly sent: SendState;
}

export interface GuestState {
  readonly connections: readonly ConnectionState[];
  readonly listeners: readonly Listener[];
}

const ERROR_NAMES: ReadonlyMap<number, string> = new Map(Object.entries(WASI).map(([name, number]) => [number, name]));

const errorName = (result: number): string => ERROR_NAMES.get(-result) ?? `errno ${-result}`;

const RECEIVE_BUFFER = 64 * 1024;
/** Pieces moved in one direction of one connection in one step. */
const PIECES = 8;
const SEND_PIECE = 64 * 1024;

function addressOf(address: string, port: number) {
  const number = parseIpv4(address);
  if (number === undefined) throw new Error(`no IPv4 address: ${address}`);
  return socketAddress(number, port);
}

export class DrivenGuest {
  readonly table: SocketTable;
  readonly #connections: Connection[] = [];
  readonly #listeners: Listener[] = [];
  readonly #buffer = new Uint8Array(RECEIVE_BUFFER);

  constructor(table: SocketTable, state: GuestState = { connections: [], listeners: [] }) {
    this.table = table;
    for (const { received, sent, ...rest } of state.connections) {
      const accounts = { received: ReceiveAccount.resume(received), sent: SendAccount.resume(sent) };
      this.#connections.push({ ...rest, ...accounts });
    }
    this.#listeners.push(...state.listeners.map((listener) => ({ ...listener, accepted: [...listener.accepted] })));
  }

  state(): GuestState {
    const connections = this.#connections.map((connection) => ({
      ...connection,
      received: connection.received.state(),
      sent: connection.sent.state(),
    }));
    return { connections, listeners: this.#listeners };
  }

  listen(port: number, backlog: number): { listener: number; port: number } {
    const handle = this.#open();
    this.#must(this.table.bind(handle, socketAddress(0, port)), `bind to port ${port}`);
    this.#must(this.table.listen(handle, backlog), `listen on port ${port}`);
    const bound = this.table.localName(handle).port;
    return { listener: this.#listeners.push({ handle: handle.id, port: bound, accepted: [] }) - 1, port: bound };
  }

  /** An accepted connection that was not asked for yet; undefined: none. */
  takeAccepted(index: number): number | undefined {
    const listener = this.#listeners[index];
    if (listener === undefined) throw new Error(`no listener ${index}`);
    return listener.accepted.shift();
  }

  /** Begins a connect; the connection's report tells how it goes. */
  connect(address: string, port: number, localPort: number): number {
    const handle = this.#open();
    if (localPort !== 0) this.#must(this.table.bind(handle, socketAddress(0, localPort)), `bind to port ${localPort}`);
    const remote = addressOf(address, port);
    const result = this.table.connect(handle, remote, 0);
    if (result < 0 && result !== -WASI.EINPROGRESS) {
      this.table.close(handle);
      throw Object.assign(new Error(`connect to ${address}:${port}: ${errorName(result)}`), {
        code: errorName(result),
      });
    }
    return this.#add(handle, formatAddress(remote), result === 0);
  }

  #open(): SocketHandle {
    const handle = this.table.open('tcp');
    if (typeof handle === 'number') throw new Error(`socket: ${errorName(handle)}`);
    return handle;
  }

  #must(result: number, what: string): void {
    if (result < 0) throw Object.assign(new Error(`${what}: ${errorName(result)}`), { code: errorName(result) });
  }

  #add(handle: SocketHandle, remote: string, connected: boolean): number {
    const local = formatAddress(this.table.localName(handle));
    const flags = { connected, paused: false, closing: false, closed: false, error: null };
    const accounts = { received: new ReceiveAccount(), sent: new SendAccount() };
    return this.#connections.push({ handle: handle.id, local, remote, ...flags, ...accounts }) - 1;
  }

  connection(index: number): Connection {
    const connection = this.#connections[index];
    if (connection === undefined) throw new Error(`no connection ${index}`);
    return connection;
  }

  report(index: number): unknown {
    const { local, remote, sent, received, closed, error, connected } = this.connection(index);
    return { local, remote, connected, closed, error, sent: sent.report(), received: received.report() };
  }

  /** Ends a connection by RST. */
  reset(index: number): void {
    const connection = this.connection(index);
    const handle = this.table.handle(connection.handle);
    if (handle !== undefined) this.table.setLinger(handle, { on: true, seconds: 0 });
    this.#close(connection);
  }

  /** Does what can be done now. False: nothing could. */
  step(): boolean {
    let progress = false;
    for (const listener of this.#listeners) progress = this.#accept(listener) || progress;
    for (const connection of this.#connections) {
      const handle = this.table.handle(connection.handle);
      if (handle !== undefined) progress = this.#serve(connection, handle) || progress;
    }
    return progress;
  }

  #accept(listener: Listener): boolean {
    const handle = this.table.handle(listener.handle);
    if (handle === undefined) return false;
    const accepted = this.table.accept(handle, 0);
    if (typeof accepted === 'number') return false;
    const remote = this.table.remoteName(accepted);
    listener.accepted.push(this.#add(accepted, typeof remote === 'number' ? '?' : formatAddress(remote), true));
    return true;
  }

  #serve(connection: Connection, handle: SocketHandle): boolean {
    if (!connection.connected) return this.#finishConnect(connection, handle);
    const received = !connection.paused && this.#receive(connection, handle);
    const sent = this.#send(connection, handle);
    const { sent: out, received: into } = connection;
    if (connection.handle >= 0 && out.waiting === 0 && (connection.closing || (out.finished && into.ended))) {
      this.#close(connection);
    }
    return received || sent;
  }

  #finishConnect(connection: Connection, handle: SocketHandle): boolean {
    const [address = '', port] = connection.remote.split(':');
    const result = this.table.connect(handle, addressOf(address, Number(port)), 0);
    if (result === -WASI.EALREADY || result === -WASI.EINPROGRESS) return false;
    if (result === 0) connection.connected = true;
    else this.#fail(connection, result);
    return true;
  }

  #receive(connection: Connection, handle: SocketHandle): boolean {
    if (connection.received.ended) return false;
    for (let piece = 0; piece < PIECES; piece++) {
      const result = this.table.receive(handle, [this.#buffer], 0, 0);
      if (result === -WASI.EAGAIN) return piece > 0;
      if (result < 0) {
        this.#fail(connection, result);
        return true;
      }
      if (result === 0) {
        connection.received.ended = true;
        return true;
      }
      connection.received.take(this.#buffer.subarray(0, result));
    }
    return true;
  }

  #send(connection: Connection, handle: SocketHandle): boolean {
    const { sent } = connection;
    for (let piece = 0; piece < PIECES && sent.waiting > 0 && connection.error === null; piece++) {
      const bytes = sent.next(SEND_PIECE);
      const result = this.table.send(handle, [bytes], undefined, 0);
      if (result === -WASI.EAGAIN) return piece > 0;
      if (result < 0) {
        this.#fail(connection, result);
        return true;
      }
      sent.sent(bytes.subarray(0, result));
    }
    if (sent.finishDue && connection.error === null) {
      this.#must(this.table.shutdown(handle, SHUT.WRITE), 'shutdown');
      sent.finished = true;
    }
    return sent.waiting > 0;
  }

  #fail(connection: Connection, result: number): void {
    connection.error ??= errorName(result);
    this.#close(connection);
  }

  #close(connection: Connection): void {
    const handle = this.table.handle(connection.handle);
    if (handle !== undefined) this.table.close(handle);
    connection.handle = -1;
    connection.closed = true;
  }
}
