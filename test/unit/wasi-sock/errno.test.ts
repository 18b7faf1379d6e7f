import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ERRNO } from '../../../src/native.ts';
import { INTERRUPTED, WASI, resultOf, wasiErrno } from '../../../src/wasi-sock/errno.ts';

/** Linux name: WASI number, from the header of WASI preview1. */
const EXPECTED = {
  EPERM: 63,
  EACCES: 2,
  EAGAIN: 6,
  EALREADY: 7,
  EBADF: 8,
  EADDRINUSE: 3,
  EADDRNOTAVAIL: 4,
  EAFNOSUPPORT: 5,
  ECONNABORTED: 13,
  ECONNREFUSED: 14,
  ECONNRESET: 15,
  EDESTADDRREQ: 17,
  EFAULT: 21,
  EHOSTUNREACH: 23,
  EINPROGRESS: 26,
  EINVAL: 28,
  EISCONN: 30,
  EMFILE: 33,
  EMSGSIZE: 35,
  ENETDOWN: 38,
  ENETUNREACH: 40,
  ENFILE: 41,
  ENOBUFS: 42,
  ENOMEM: 48,
  ENOPROTOOPT: 50,
  ENOTCONN: 53,
  ENOTSOCK: 57,
  EOPNOTSUPP: 58,
  EPIPE: 64,
  EPROTONOSUPPORT: 66,
  ETIMEDOUT: 73,
  EHOSTDOWN: 23,
  ESHUTDOWN: 64,
} as const;

test('Linux error numbers become WASI ones, of either sign', () => {
  for (const [name, wasi] of Object.entries(EXPECTED)) {
    const linux = ERRNO[name as keyof typeof EXPECTED];
    assert.equal(wasiErrno(linux), wasi, name);
    assert.equal(resultOf(-linux), -wasi, name);
  }
});

test('every Linux error number becomes one that WASI knows', () => {
  const known = new Set<number>(Object.values(WASI));
  for (const [name, linux] of Object.entries(ERRNO)) assert.ok(known.has(wasiErrno(linux)), name);
  assert.equal(wasiErrno(4000), WASI.EIO);
});

test('amounts pass, and EINTR is the interruption', () => {
  assert.equal(resultOf(0), 0);
  assert.equal(resultOf(1234), 1234);
  assert.equal(resultOf(-ERRNO.EINTR), INTERRUPTED);
  assert.ok(!Object.values(WASI).some((errno) => -errno === INTERRUPTED));
});
