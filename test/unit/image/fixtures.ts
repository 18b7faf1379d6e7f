/** Images of made-up guests. */
import { createHash } from 'node:crypto';
import { FORMAT_VERSION } from '../../../src/image/format.ts';
import type { Manifest } from '../../../src/image/manifest.ts';
import { collectDelta } from '../../../src/image/memory-delta.ts';
import type { ImageParts } from '../../../src/image/writer.ts';
import { encodeImage } from '../../../src/image/writer.ts';
import { bytesOf } from '../../support/parts.ts';

export const WASM_PAGE = 65_536;

const HEADER = Buffer.from('\0asm\x01\0\0\0');
/** A custom section that does nothing. */
const REST = Buffer.from([0, 198, 1, 4, ...Buffer.from('rest'), ...Buffer.alloc(193, 7)]);

/** A module of nothing but memories: of each how many pages it has at first and, if so, at most. */
export function moduleOf(...memories: readonly (readonly [number] | readonly [number, number])[]): Uint8Array {
  const entries = memories.flatMap((limits) => [limits.length - 1, ...limits]);
  return new Uint8Array(
    Buffer.concat([HEADER, Buffer.from([5, entries.length + 1, memories.length, ...entries]), REST]),
  );
}

export const MODULE: Uint8Array = moduleOf([1]);

/** How a manifest names a module. */
export function named(module: Uint8Array): Manifest['module'] {
  return { sha256: createHash('sha256').update(module).digest('hex'), size: module.length, name: 'chat.wasm' };
}

export const MANIFEST: Manifest = {
  formatVersion: FORMAT_VERSION,
  kedgeVersion: '0.1.0',
  createdAt: '2026-01-02T03:04:05.678Z',
  guest: { id: '7d444840-9dc0-11d1-b245-5ffdce74fad2', name: 'chat', epoch: 3, address: '100.64.0.1' },
  module: named(MODULE),
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
