/** Images of made-up guests. */
import { createHash } from 'node:crypto';
import { FORMAT_VERSION } from '../../../src/image/format.ts';
import type { Manifest } from '../../../src/image/manifest.ts';
import { collectDelta } from '../../../src/image/memory-delta.ts';
import type { ImageParts } from '../../../src/image/writer.ts';
import { encodeImage } from '../../../src/image/writer.ts';
import { bytesOf } from '../../support/parts.ts';

export const WASM_PAGE = 65_536;

export const MODULE = new Uint8Array(Buffer.concat([Buffer.from('\0asm\x01\0\0\0'), Buffer.alloc(200, 7)]));

export const MANIFEST: Manifest = {
  formatVersion: FORMAT_VERSION,
  kedgeVersion: '0.1.0',
  createdAt: '2026-01-02T03:04:05.678Z',
  guest: { id: '7d444840-9dc0-11d1-b245-5ffdce74fad2', name: 'chat', epoch: 3, address: '100.64.0.1' },
  module: { sha256: createHash('sha256').update(MODULE).digest('hex'), size: MODULE.length, name: 'chat.wasm' },
  args: ['chat', '80'],
  env: { LANG: 'C' },
  publish: [{ proto: 'tcp', outsidePort: 8080, guestPort: 80 }],
  preopens: [{ guest: '/data', host: '/srv/data' }],
  engine: 'v8',
  encoding: 'points-1',
  policy: 'loop',
  memoryPages: 2,
  claim: true,
};

/** Memory as the module of the guest makes it. */
export const INITIAL: Uint8Array = new Uint8Array(WASM_PAGE).fill(5, 0, 100);

/** Memory of the guest at the stop. */
export function guestMemory(): Uint8Array {
  const memory = new Uint8Array(2 * WASM_PAGE);
  memory.set(INITIAL);
  memory.fill(9, 70_000, 80_000);
  return memory;
}

/** A guest of two pages of memory, of which some differ from the module's own. */
export function parts(change: Partial<ImageParts> = {}): ImageParts {
  return {
    manifest: MANIFEST,
    module: MODULE,
    memory: collectDelta(guestMemory(), INITIAL),
    frames: { encoding: 'points-1', policy: 'loop', bytes: Uint8Array.of(1, 2, 3) },
    call: { module: 'wasi_snapshot_preview1', name: 'sock_recv', args: [1n, 2n], pending: { left: 5 } },
    globals: [
      { type: 'i32', bits: 1n },
      { type: 'f64', bits: 0x7ff8_0000_dead_beefn },
      { type: 'i64', bits: 0xffff_ffff_ffff_ffffn },
    ],
    handles: {
      version: 1,
      exited: null,
      wasi: {
        args: ['chat', '80'],
        environ: ['A=b'],
        monotonic: 5_000_000_000,
        descriptors: [
          { fd: 0, kind: 'stdio', stream: 0, rights: 8, inheriting: 0, flags: 0 },
          {
            fd: 4,
            kind: 'file',
            preopen: '/data',
            path: 'log',
            offset: 12,
            rights: 0x1fff_ffff_ffff_ffffn,
            inheriting: 0,
            flags: 1,
          },
        ],
      },
      sockets: { version: 1, guestAddress: 0x6440_0001, nextId: 1, sockets: [], lingering: [] },
    },
    flows: [],
    ...change,
  };
}

export async function image(change: Partial<ImageParts> = {}): Promise<Uint8Array> {
  return new Uint8Array(await bytesOf(await encodeImage(parts(change))));
}
