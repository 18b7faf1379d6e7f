/** What an agent does with its guests, moves aside. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { collectDelta } from '../../../src/image/memory-delta.ts';
import { decodeImage } from '../../../src/image/reader.ts';
import { encodeImage } from '../../../src/image/writer.ts';
import { partsAgain } from '../../support/parts.ts';
import { waitFor } from '../../support/wait.ts';
import { wat } from '../engine/support.ts';
import { encodeStack, type Frame } from '../../../src/engine/points/stack.ts';
import { image as madeUpImage } from '../image/fixtures.ts';
import type { Host } from './agents.ts';
import { refuse } from './fake-gateway.ts';
import { example, Hosts, lines, listed, printed, speaker, spec, ticker, trapper } from './agents.ts';

/** A stack that no small module can have. */
function anotherStack(): Uint8Array {
  const frame: Frame = { function: 9999, offset: 5, stand: 'at', locals: [], operands: [] };
  return encodeStack({ stage: 'main', frames: [frame], globals: [], tables: [], data: [], elements: [] });
}

describe('an agent', () => {
  let hosts: Hosts;
  let a: Host;
  let b: Host;
  before(async () => {
    hosts = await Hosts.start();
    ({ a, b } = hosts);
  });
  after(() => hosts[Symbol.asyncDispose]());

  const known = (name: string) => hosts.gateway.guests().find((guest) => guest.name === name);

  /** The image that a checkpoint gives. */
  async function checkpoint(name: string, leaveRunning = false): Promise<Uint8Array> {
    const parts: Uint8Array[] = [];
    await a.client.checkpoint(name, leaveRunning, async (chunks) => {
      for await (const chunk of chunks) parts.push(chunk);
    });
    return new Uint8Array(Buffer.concat(parts));
  }

  test('runs a guest, keeps what it says, and signs it off when it has ended', async () => {
    const guest = await a.client.run(spec({ name: 'says', args: ['x'], env: { A: 'b' } }), speaker('hello', 2, 3));
    assert.match(guest.id, /^[0-9a-f-]{36}$/);
    assert.deepEqual(await a.client.wait('says'), { exitCode: 3 });
    assert.equal(await printed(a, 'says', true), 'hello');
    await waitFor(() => known('says') === undefined, { what: 'the gateway to forget it' });
    const { state, exitCode, epoch } = await listed(a, 'says');
    assert.deepEqual([state, exitCode, epoch], ['exited', 3, 1]);
  });

  test('tells a trap from an exit', async () => {
    await a.client.run(spec({ name: 'traps' }), trapper());
    assert.match(JSON.stringify(await a.client.wait('traps')), /trapped: .*unreachable/);
    await waitFor(() => known('traps') === undefined, { what: 'the gateway to forget it' });
    assert.equal((await listed(a, 'traps')).state, 'trapped');
  });

  test('refuses modules before anything is registered', async () => {
    const count = hosts.gateway.calls.length;
    const unknown = wat('(module (import "env" "magic" (func)) (memory (export "memory") 1) (func (export "_start")))');
    const cases: [string, Uint8Array][] = [
      ['KEDGE_MODULE_INVALID', Buffer.from('not a module')],
      ['KEDGE_MODULE_INVALID', example('chat').subarray(0, 1000)],
      ['KEDGE_MODULE_NO_START', wat('(module (memory (export "memory") 1))')],
    ];
    for (const [code, module] of cases) await assert.rejects(a.client.run(spec(), module), { code });
    assert.equal(hosts.gateway.calls.length, count);
    await assert.rejects(a.client.run(spec({ name: 'unknown' }), unknown), {
      code: 'KEDGE_IMPORT_UNKNOWN',
      message: /env\.magic/,
    });
    assert.equal(known('unknown'), undefined);
  });

  test('gives names that are free, and refuses one that is taken, or an address', async () => {
    const first = await a.client.run(spec({ moduleName: 'tick tock.wasm' }), ticker());
    const second = await a.client.run(spec({ moduleName: 'tick tock.wasm' }), ticker());
    assert.deepEqual([first.name, second.name], ['tick', 'tick-2']);
    await assert.rejects(a.client.run(spec({ name: 'tick' }), ticker()), { code: 'KEDGE_GUEST_EXISTS' });
    await assert.rejects(b.client.run(spec({ address: first.address }), ticker()), { code: 'KEDGE_ADDRESS_IN_USE' });
    await a.client.stop('tick');
    await a.client.stop(second.id);
    assert.deepEqual([known('tick'), known('tick-2')], [undefined, undefined]);
    await assert.rejects(a.client.stop('nobody'), { code: 'KEDGE_GUEST_UNKNOWN' });
  });

  test('a checkpoint seals the guest when the image is safe; a restore goes on, once', async () => {
    const { id } = await a.client.run(spec({ name: 'image' }), ticker());
    await lines(a, 'image', 3);
    const image = await checkpoint('image');
    assert.equal(known('image')?.state, 'sealed');
    const last = (await lines(a, 'image', 1)).length;
    const restored = await b.client.restore(image, { withoutFlows: false });
    assert.deepEqual([restored.id, restored.epoch], [id, 2]);
    assert.equal((await lines(b, 'image', 1))[0], `tick ${String(last + 1).padStart(4, '0')}`);
    assert.deepEqual([known('image')?.state, known('image')?.leg], ['running', 'b']);
    await assert.rejects(a.client.restore(image, { withoutFlows: false }), { code: 'KEDGE_EPOCH_CLAIMED' });
    await b.client.stop('image');
  });

  test('a checkpoint that cannot be stored, or sealed, leaves the guest running', async () => {
    await a.client.run(spec({ name: 'kept' }), ticker());
    await lines(a, 'kept', 1);
    const full = a.client.checkpoint('kept', false, () => Promise.reject(new Error('disk full')));
    await assert.rejects(full, /disk full/);
    assert.equal(known('kept')?.state, 'running');
    hosts.gateway.before = (verb) => {
      if (verb === 'seal') throw new Error('no');
    };
    await assert.rejects(checkpoint('kept'));
    hosts.gateway.before = () => undefined;
    assert.equal(known('kept')?.state, 'running');
    const seen = (await lines(a, 'kept', 1)).length;
    await lines(a, 'kept', seen + 2);
    // Whoever stores the image goes away.
    const lost = a.client.checkpoint('kept', false, async () => {
      a.client.close();
      await Promise.resolve();
    });
    await assert.rejects(lost);
    await waitFor(() => known('kept')?.state === 'running', { what: 'the guest to go on' });
    const more = (await lines(a, 'kept', 1)).length;
    await lines(a, 'kept', more + 2);
    await a.client.stop('kept');
  });

  test('an answer to a seal that is lost is no failure: the image has the guest', async () => {
    await a.client.run(spec({ name: 'sealed' }), ticker());
    await lines(a, 'sealed', 1);
    hosts.gateway.after = (verb) => {
      if (verb === 'seal') throw refuse('KEDGE_GATEWAY_TIMEOUT');
    };
    const image = await checkpoint('sealed');
    hosts.gateway.after = () => undefined;
    assert.equal(known('sealed')?.state, 'sealed');
    assert.deepEqual(
      [(await listed(a, 'sealed')).state, (await listed(a, 'sealed')).message],
      ['gone', 'checkpointed'],
    );
    await b.client.restore(image, { withoutFlows: false });
    await b.client.stop('sealed');
  });

  test('a copy has no claim on connections, and is another guest', async () => {
    const { id } = await a.client.run(spec({ name: 'original' }), ticker());
    await lines(a, 'original', 2);
    const image = await checkpoint('original', true);
    assert.equal((await listed(a, 'original')).state, 'running');
    assert.equal((await decodeImage(image)).manifest.claim, false);
    await assert.rejects(b.client.restore(image, { withoutFlows: false }), { code: 'KEDGE_IMAGE_NO_CLAIM' });
    const copy = await b.client.restore(image, { withoutFlows: true });
    assert.notEqual(copy.id, id);
    assert.notEqual(copy.address, (await listed(a, 'original')).address);
    await lines(b, copy.name, 2);
    const seen = (await lines(a, 'original', 1)).length;
    await lines(a, 'original', seen + 1);
    await a.client.stop('original');
    await b.client.stop(copy.id);
  });

  test('images that cannot be restored leave nothing behind', async () => {
    await a.client.run(spec({ name: 'sample' }), ticker());
    await lines(a, 'sample', 1);
    const image = await checkpoint('sample');
    const parts = await partsAgain(image);
    const { frames, globals } = parts;
    const again = async (change: object): Promise<Uint8Array> =>
      Buffer.concat(await encodeImage({ ...parts, ...change }));
    const cases: [string, Uint8Array, RegExp][] = [
      ['cut', image.subarray(0, -1), /^KEDGE_IMAGE_TRUNCATED$/],
      ['without its module', await again({ module: undefined }), /^KEDGE_IMAGE_NO_MODULE$/],
      [
        'frames of another module',
        await again({ frames: { ...frames, bytes: anotherStack() } }),
        /^KEDGE_FRAMES_CORRUPT$/,
      ],
      [
        'globals of another module',
        await again({ globals: [...globals, { type: 'i32', bits: 0n }] }),
        /^KEDGE_FRAMES_MISMATCH$/,
      ],
      ['handles of nothing', await again({ handles: {} }), /^KEDGE_IMAGE_/],
      [
        'memory of another size',
        await again({ memory: collectDelta(new Uint8Array(1 << 20).fill(1), new Uint8Array()) }),
        /^KEDGE_IMAGE_INVALID$/,
      ],
      ['another guest', await madeUpImage(), /^KEDGE_MODULE_/],
    ];
    for (const [what, bad, code] of cases) {
      await assert.rejects(
        b.client.restore(bad, { withoutFlows: false }),
        (error: { code?: string }) => code.test(error.code ?? ''),
        what,
      );
      assert.ok(!(await b.client.list()).some(({ name, state }) => name === 'sample' && state === 'running'), what);
      assert.equal(known('sample')?.state, 'sealed', what);
    }
    // The claim was given back each time.
    await b.client.restore(image, { withoutFlows: false });
    await lines(b, 'sample', 1);
    await b.client.stop('sample');
    // Frames that end too early are seen before anything runs.
    const forged = await again({ frames: { ...frames, bytes: frames.bytes.slice(0, -2) } });
    await assert.rejects(b.client.restore(forged, { withoutFlows: true }), { code: 'KEDGE_FRAMES_CORRUPT' });
    await waitFor(() => known('sample') === undefined, { what: 'the gateway to forget it' });
  });
});
