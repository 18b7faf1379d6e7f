/**
 * Images, rehearsed by an agent that has nothing else to do yet: made and taken apart until V8 has compiled all of it, so that no move
 * waits for that. A first image takes ten times as long as a hundredth.
 */
import { setImmediate as turn } from 'node:timers/promises';
import type { ExportedFlow } from '../gateway/admin/schema.ts';
import { LIFE, rehearseLife } from '../guest/rehearsal-life.ts';
import { decodeImage } from '../image/reader.ts';
import { encodeImage } from '../image/writer.ts';
import { manifestOf } from './cut.ts';
import type { Identity } from './kept.ts';

const ROUNDS = 150;

const IDENTITY: Identity = {
  id: '00000000-0000-4000-8000-000000000000',
  name: 'rehearsal',
  epoch: 1,
  address: '100.64.0.1',
  engine: 'v8',
  policy: 'loop-all',
  moduleName: 'rehearsal.wasm',
  moduleHash: '0'.repeat(64),
  args: ['rehearsal'],
  env: { HOME: '/' },
  publish: [{ proto: 'tcp', outsidePort: 7, guestPort: 7 }],
  dirs: [{ host: '/', guest: '/' }],
  startedAt: '2000-01-01T00:00:00.000Z',
};

const END = { address: '100.64.0.1', port: 7 };
const FLOW: ExportedFlow = {
  id: 1,
  local: END,
  remote: END,
  acked: 1,
  finAcked: false,
  peerFin: false,
  received: 1,
  reset: false,
};

/** Walks through it, between whatever else there is to do. Throws what images throw when it ends early. */
export async function rehearseImages(signal: AbortSignal, rounds: number = ROUNDS): Promise<void> {
  const saved = rehearseLife('v8', 2);
  const manifest = manifestOf(IDENTITY, LIFE, saved, true);
  for (let round = 0; round < rounds && !signal.aborted; round++) {
    const chunks = await encodeImage({ ...saved, manifest, flows: [FLOW, FLOW] });
    await decodeImage(Buffer.concat(chunks));
    await turn();
  }
}
