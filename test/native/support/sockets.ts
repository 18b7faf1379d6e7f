/** Sockets and arrays that the tests of the addon share. */
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import {
  errnoName,
  type ERRNO,
  failed,
  native,
  NO_WAKE,
  type Failure,
  type SocketFd,
  type WakeFd,
} from '../../../src/native.ts';

export const LOOPBACK = 0x7f000001;
/** Milliseconds; never passes in a test that works. */
export const PATIENCE = 10_000;

/** The result of a call that must succeed. */
export function ok<Result extends number>(result: Result | Failure): Result {
  if (failed(result)) assert.fail(errnoName(result));
  return result;
}

/** A call must fail with this error. */
export function fails(result: number, name: keyof typeof ERRNO): void {
  assert.equal(result < 0 ? errnoName(result) : result, name);
}

export interface Name {
  readonly address: number;
  readonly port: number;
}

export function localName(fd: SocketFd): Name {
  const out = new Uint32Array(2);
  ok(native.sockLocal(fd, out));
  return { address: out[0] ?? 0, port: out[1] ?? 0 };
}

export function listener(backlog = 16): { fd: SocketFd; name: Name } {
  const fd = ok(native.sockOpen(true));
  ok(native.sockBind(fd, LOOPBACK, 0));
  ok(native.sockListen(fd, backlog));
  return { fd, name: localName(fd) };
}

export function datagrams(): { fd: SocketFd; name: Name } {
  const fd = ok(native.sockOpen(false));
  ok(native.sockBind(fd, LOOPBACK, 0));
  return { fd, name: localName(fd) };
}

export function connect({ address, port }: Name): SocketFd {
  const fd = ok(native.sockOpen(true));
  const started = native.sockConnectStart(fd, address, port);
  if (started !== 0) fails(started, 'EINPROGRESS');
  ok(native.sockConnectWait(fd, NO_WAKE, PATIENCE));
  return fd;
}

/** A connection over loopback. */
export function connected(): { client: SocketFd; server: SocketFd } {
  const { fd, name } = listener();
  const client = connect(name);
  const server = ok(native.sockAccept(fd, NO_WAKE, PATIENCE, new Uint32Array(2)));
  close(fd);
  return { client, server };
}

export function close(...fds: (SocketFd | WakeFd)[]): void {
  for (const fd of fds) ok(native.fdClose(fd));
}

/** How many descriptors this process has open. */
export function openDescriptors(): number {
  return readdirSync('/proc/self/fd').length;
}

export function text(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes.slice());
}
