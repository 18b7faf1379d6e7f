/** Guests that are executed by another engine after a move, and what an engine cannot run. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { describeImage, imageText } from '../../../src/cli/kedge/inspect-image.ts';
import { decodeImage } from '../../../src/image/reader.ts';
import { wat } from '../engine/support.ts';
import type { Host } from './agents.ts';
import { Hosts, lines, listed, spec, ticker } from './agents.ts';

describe('engines', () => {
  let hosts: Hosts;
  let a: Host;
  let b: Host;
  before(async () => {
    hosts = await Hosts.start();
    ({ a, b } = hosts);
  });
  after(() => hosts[Symbol.asyncDispose]());

  test('a guest goes from V8 to WAMR and back', { timeout: 60_000 }, async () => {
    await a.client.run(spec({ name: 'roamer', policy: 'loop-all' }), ticker());
    await lines(a, 'roamer', 2);
    await a.client.migrate('roamer', b.socket, { engine: 'wamr' });
    const there = await listed(b, 'roamer');
    assert.deepEqual([there.engine, there.policy, there.epoch], ['wamr', 'loop-all', 2]);
    await lines(b, 'roamer', 2);
    await b.client.migrate('roamer', a.socket, { engine: 'v8' });
    const back = await listed(a, 'roamer');
    assert.deepEqual([back.engine, back.epoch, back.state], ['v8', 3, 'running']);
    await a.client.stop('roamer');
  });

  test('an image of WAMR goes on on V8, and shows its stack', { timeout: 60_000 }, async () => {
    await a.client.run(spec({ name: 'sealed', engine: 'wamr' }), ticker());
    await lines(a, 'sealed', 1);
    const parts: Uint8Array[] = [];
    await a.client.checkpoint('sealed', false, async (chunks) => {
      for await (const chunk of chunks) parts.push(chunk);
    });
    const bytes = Buffer.concat(parts);
    const description = describeImage(await decodeImage(bytes));
    assert.equal(description.manifest.engine, 'wamr');
    assert.ok(description.frames.stack.length > 0);
    assert.match(description.stateHash ?? '', /^[0-9a-f]{64}$/u);
    assert.match(imageText(description), /Stack, innermost first\n[^]*0x[0-9a-f]+/u);
    await b.client.restore(bytes, { withoutFlows: false, engine: 'v8', policy: 'call' });
    const there = await listed(b, 'sealed');
    assert.deepEqual([there.engine, there.policy], ['v8', 'call']);
    await lines(b, 'sealed', 1);
    await b.client.stop('sealed');
  });

  test('several memories move with a guest, between hosts and through an image', { timeout: 60_000 }, async () => {
    await a.client.run(spec({ name: 'wide' }), ticker(true));
    await lines(a, 'wide', 2);
    await a.client.migrate('wide', b.socket, {});
    await lines(b, 'wide', 2);
    const parts: Uint8Array[] = [];
    await b.client.checkpoint('wide', false, async (chunks) => {
      for await (const chunk of chunks) parts.push(chunk);
    });
    const bytes = Buffer.concat(parts);
    const image = await decodeImage(bytes);
    assert.deepEqual([image.manifest.formatVersion, image.manifest.otherMemories], [2, [3]]);
    const description = describeImage(image);
    assert.match(description.stateHash ?? '', /^[0-9a-f]{64}$/u);
    assert.match(imageText(description), /memory +1 \+ 3 pages/u);
    const restore = (engine: string): Promise<unknown> =>
      a.client.restore(bytes, { withoutFlows: false, engine, policy: 'loop' });
    await assert.rejects(restore('wamr'), { code: 'KEDGE_MODULE_UNSUPPORTED', message: /multiple memories/u });
    await restore('v8');
    const all = [...(await lines(a, 'wide', 2))];
    // What it counts stands in the memory that host functions cannot see.
    const numbers = all.map((line) => Number(line.slice(5)));
    assert.deepEqual(
      numbers,
      numbers.map((_, n) => (numbers[0] ?? NaN) + n),
    );
    assert.ok((numbers[0] ?? 0) > 3, `it went on, from ${numbers[0]}`);
    await a.client.stop('wide');
  });

  test('a module that an engine cannot run is refused by the name of the feature, before it is registered', async () => {
    const count = hosts.gateway.calls.length;
    const simd = wat(`(module (memory (export "memory") 1)
      (func (export "_start") (drop (v128.load (i32.const 0)))))`);
    await assert.rejects(a.client.run(spec({ engine: 'wamr' }), simd), {
      code: 'KEDGE_MODULE_UNSUPPORTED',
      message: /SIMD/u,
    });
    await assert.rejects(a.client.run(spec({ engine: 'abacus' }), ticker()), { code: 'KEDGE_ENGINE_UNKNOWN' });
    assert.equal(hosts.gateway.calls.length, count);
  });
});
