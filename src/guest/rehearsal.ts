/**
 * A move of sockets, rehearsed on loopback: a listener and a connection are made, drained, saved, restored and let go on, and the calls
 * that a guest makes most are made, so that the first real move does not wait for V8 to compile what it calls. Nothing here is of any
 * guest.
 *
 * The connection's other end is a listener that never accepts. Where there is no loopback there is no rehearsal, and the first move
 * is slower.
 */
import { CallContext } from '../engine/context.ts';
import type { HostValue } from '../engine/engine.ts';
import { KedgeError } from '../errors.ts';
import { failed, native } from '../native.ts';
import { ANY_PORT, socketAddress } from '../wasi-sock/address.ts';
import type { SocketAddress } from '../wasi-sock/address.ts';
import { WASI } from '../wasi-sock/errno.ts';
import type { SocketHost } from '../wasi-sock/core.ts';
import type { SocketHandle } from '../wasi-sock/handle.ts';
import { FAMILY, SOCKET_TYPE } from '../wasi-sock/abi.ts';
import { SocketTable } from '../wasi-sock/table.ts';
import { WASI_MODULE, Wasi } from '../wasi/imports.ts';
import { accounted, createAccount } from './descriptors.ts';

const LOOPBACK = socketAddress(0x7f000001, ANY_PORT);
/** After these V8 has seen what everything is, and compiled it. */
const ROUNDS = 4;
/** Connections that were reset stay queued at a listener that accepts none. */
const BACKLOG = 4 * ROUNDS;
/** For a connect to this very host, milliseconds. */
const PATIENCE = 200;

/** Walks through it. Without loopback, or descriptors, it ends early. */
export function rehearseSockets(): void {
  try {
    rehearseAll();
  } catch (error) {
    if (!(error instanceof KedgeError)) throw error;
  }
}

/** The same; throws KEDGE_INTERNAL, or what a restore throws, when it ends early. */
export function rehearseAll(): void {
  const wakeFd = native.wakeCreate();
  if (failed(wakeFd)) throw new KedgeError('KEDGE_INTERNAL', `a rehearsal failed: errno ${-wakeFd}`);
  const host = {
    native: accounted(native, createAccount()),
    wakeFd,
    guestAddress: LOOPBACK.address,
    now: () => performance.now(),
  };
  const peer = new SocketTable(host);
  try {
    const listener = listening(peer);
    for (let round = 0; round < ROUNDS; round++) {
      rehearse(host, peer.localName(listener));
      rehearseCalls(host, peer.localName(listener));
    }
  } finally {
    peer.destroy();
    native.fdClose(wakeFd);
  }
}

function succeeded(result: number): void {
  if (result < 0) throw new KedgeError('KEDGE_INTERNAL', `a rehearsal failed: WASI errno ${-result}`);
}

function opened(table: SocketTable): SocketHandle {
  const handle = table.open('tcp');
  if (typeof handle !== 'number') return handle;
  throw new KedgeError('KEDGE_INTERNAL', `a rehearsal failed: WASI errno ${-handle}`);
}

function listening(table: SocketTable): SocketHandle {
  const handle = opened(table);
  succeeded(table.bind(handle, LOOPBACK));
  succeeded(table.listen(handle, BACKLOG));
  return handle;
}

function rehearse(host: SocketHost, remote: SocketAddress): void {
  const source = new SocketTable(host);
  let target: SocketTable | undefined;
  try {
    listening(source);
    const connection = opened(source);
    succeeded(source.connect(connection, remote, PATIENCE));
    succeeded(source.send(connection, [new Uint8Array(8)], undefined, 0));
    const flows = source.drain().connections.map(({ local, remote: peer, received, written }) => ({
      local,
      remote: peer,
      acked: written,
      finAcked: false,
      received,
    }));
    const saved = source.save(flows);
    source.destroy();
    target = SocketTable.restore(host, saved, flows, PATIENCE);
    target.release();
    target.sweep();
  } finally {
    source.destroy();
    target?.destroy();
  }
}

/** Where things are in the memory of a guest that is none. */
const AT = {
  address: 0,
  out: 32,
  outFlags: 36,
  buffers: 40,
  data: 64,
  subscription: 128,
  event: 192,
  events: 256,
} as const;
const FD_WRITE = 2;
const NONBLOCK = 4;

/** What a guest does with a connection, call by call. */
function rehearseCalls(host: SocketHost, remote: SocketAddress): void {
  const memory = new Uint8Array(512);
  const view = new DataView(memory.buffer);
  const context = new CallContext();
  context.bind(
    () => memory,
    () => false,
  );
  const sockets = new SocketTable(host);
  const ignore = (): void => undefined;
  const wasi = new Wasi({ context, sockets, stdio: { input: { kind: 'none' }, output: ignore, errors: ignore } });
  const call = (name: string, ...args: HostValue[]): void => {
    context.enter(false, undefined);
    const made = wasi.imports[WASI_MODULE]?.[name]?.call as ((...args: HostValue[]) => HostValue) | undefined;
    const errno = Number(made?.(...args) ?? WASI.ENOSYS);
    // Nobody answers: there is nothing to read.
    if (errno !== 0 && !(name === 'sock_recv' && errno === WASI.EAGAIN)) succeeded(-errno);
  };
  try {
    call('clock_time_get', 1, 0n, AT.out);
    call('sock_open', 0, FAMILY.INET4, SOCKET_TYPE.STREAM, AT.out);
    const fd = view.getUint32(AT.out, true);
    view.setUint32(AT.address + 4, remote.address);
    view.setUint16(AT.address + 8, remote.port, true);
    call('sock_connect', fd, AT.address);
    call('fd_fdstat_set_flags', fd, NONBLOCK);
    view.setUint32(AT.buffers, AT.data, true);
    view.setUint32(AT.buffers + 4, 8, true);
    call('sock_send', fd, AT.buffers, 1, 0, AT.out);
    call('sock_recv', fd, AT.buffers, 1, 0, AT.out, AT.outFlags);
    call('fd_write', 1, AT.buffers, 1, AT.out);
    view.setUint8(AT.subscription + 8, FD_WRITE);
    view.setUint32(AT.subscription + 16, fd, true);
    call('poll_oneoff', AT.subscription, AT.event, 1, AT.events);
    call('fd_close', fd);
  } finally {
    wasi.close();
    sockets.destroy();
  }
}
