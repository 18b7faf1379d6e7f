import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkHandles as checkSection, type CheckedHandles } from '../../../src/guest/handles-check.ts';
import { encodeCbor } from '../../../src/image/cbor.ts';

const COMMON = { fd: 3, rights: 1n, inheriting: 0n, flags: 0 };
const WASI = {
  args: ['guest'],
  environ: ['A=b'],
  monotonic: 5n,
  descriptors: [
    { ...COMMON, fd: 0, kind: 'stdio', stream: 0 },
    { ...COMMON, fd: 3, kind: 'directory', preopen: '/data', path: '', preopened: true },
    { ...COMMON, fd: 4, kind: 'file', preopen: '/data', path: 'x', offset: 7 },
    { ...COMMON, fd: 5, kind: 'socket', socket: 1 },
  ],
};
const RUNNING = { version: 1, exited: null, wasi: WASI, sockets: {} };

function checkHandles(value: unknown): CheckedHandles {
  return checkSection(encodeCbor(value, 'handles'));
}

test('handles are taken as they were saved, small integers being numbers in CBOR', () => {
  assert.deepEqual(checkHandles(RUNNING).wasi, WASI);
  const small = {
    ...RUNNING,
    wasi: { ...WASI, monotonic: 5, descriptors: [{ ...COMMON, rights: 1, kind: 'socket', socket: 1 }] },
  };
  assert.equal(checkHandles(small).wasi?.monotonic, 5n);
  assert.equal(checkHandles(small).wasi?.descriptors[0]?.rights, 1n);
  assert.equal(checkHandles({ ...RUNNING, exited: 3, wasi: null }).exited, 3);
});

test('handles that no one saved are refused', () => {
  const [stdio] = WASI.descriptors;
  const descriptors = (...list: unknown[]): unknown => ({ ...RUNNING, wasi: { ...WASI, descriptors: list } });
  const cases: Record<string, unknown> = {
    'no record': [],
    'no exit code': { ...RUNNING, wasi: null },
    'an exit code of a guest that goes on': { ...RUNNING, exited: 0 },
    'arguments that are no text': { ...RUNNING, wasi: { ...WASI, args: [1] } },
    'a clock that is negative': { ...RUNNING, wasi: { ...WASI, monotonic: -1n } },
    'a field too many': { ...RUNNING, wasi: { ...WASI, more: 1 } },
    'two descriptors of one number': descriptors(stdio, stdio),
    'a descriptor below 0': descriptors({ ...stdio, fd: -1 }),
    'a descriptor that is too large': descriptors({ ...stdio, fd: 2 ** 31 }),
    'a stream that is none': descriptors({ ...stdio, stream: 3 }),
    'a kind that is none': descriptors({ ...stdio, kind: 'door' }),
    'an offset that is no integer': descriptors({ ...WASI.descriptors[2], offset: 0.5 }),
  };
  for (const [what, value] of Object.entries(cases)) {
    assert.throws(() => checkHandles(value), { code: 'KEDGE_IMAGE_INVALID' }, what);
  }
  assert.throws(() => checkHandles({ ...RUNNING, version: 2 }), { code: 'KEDGE_IMAGE_VERSION' });
});
