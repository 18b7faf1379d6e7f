/**
 * A move of sockets, rehearsed on loopback: a listener and a connection are made, drained, saved, restored and let go on, so that the
 * first real move does not wait for V8 to compile what it calls. Nothing here is of any guest.
 *
 * The connection's other end is a listener that never accepts. Where there is no loopback there is no rehearsal, and the first move
 * is slower.
 */
import { KedgeError } from '../errors.ts';
import { failed, native } from '../native.ts';
import { ANY_PORT, socketAddress } from '../wasi-sock/address.ts';
import type { SocketAddress } from '../wasi-sock/address.ts';
import type { SocketHost } from '../wasi-sock/core.ts';
import type { SocketHandle } from '../wasi-sock/handle.ts';
import { SocketTable } from '../wasi-sock/table.ts';

const LOOPBACK = socketAddress(0x7f000001, ANY_PORT);
/** After these V8 has seen what everything is, and compiled it. */
const ROUNDS = 4;
/** Connections that were reset stay queued at a listener that accepts none. */
const BACKLOG = 4 * ROUNDS;
/** For a connect to this very host, milliseconds. */
const PATIENCE = 200;

export function rehearseSockets(): void {
  const wakeFd = native.wakeCreate();
  if (failed(wakeFd)) return;
  const host = { native, wakeFd, guestAddress: LOOPBACK.address, now: () => performance.now() };
  const peer = new SocketTable(host);
  try {
    const listener = listening(peer);
    for (let round = 0; round < ROUNDS; round++) rehearse(host, peer.localName(listener));
  } catch (error) {
    if (!(error instanceof KedgeError)) throw error;
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
    const flows = source.drain().connections.map(({ local, remote: peer, received }) => ({
      local,
      remote: peer,
      acked: 0,
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
