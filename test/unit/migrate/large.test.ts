/** A guest whose memory is not copied when it leaves: all of it arrives, in a move as in an image, and it goes on when it stays. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { decodeImage } from '../../../src/image/reader.ts';
import type { Link } from '../../../src/migrate/transport.ts';
import { unixTransport } from '../../../src/migrate/transport.ts';
import { bytesOf } from '../../support/parts.ts';
import { PROJECT } from '../../support/topology.ts';
import { Hosts, lines, listed, spec, type Host } from './agents.ts';

const MEBIBYTES = 24;

describe('a guest with a large memory', { timeout: 120_000 }, () => {
  let hosts: Hosts;
  let send: Link['send'] | undefined;
  before(async () => {
    hosts = await Hosts.start({
      ...unixTransport,
      connect: async (to) => {
        const link = await unixTransport.connect(to);
        const meddle = send?.bind(link);
        return meddle === undefined
          ? link
          : { closed: link.closed, receive: () => link.receive(), close: () => link.close(), send: meddle };
      },
    });
  });
  after(() => hosts[Symbol.asyncDispose]());

  /** One that has filled its heap with noise, and changes nothing of it from then on. */
  async function filled(name: string): Promise<void> {
    const module = new Uint8Array(readFileSync(join(PROJECT, 'build', 'programs', 'heap.wasm')));
    await hosts.a.client.run(spec({ name, moduleName: 'heap.wasm', args: [String(MEBIBYTES), '100', '1'] }), module);
    await lines(hosts.a, name, 1);
  }

  async function imageOf(host: Host, name: string, leaveRunning: boolean): Promise<Uint8Array> {
    let image: Uint8Array | undefined;
    await host.client.checkpoint(name, leaveRunning, async (chunks) => {
      image = await bytesOf([{ read: () => chunks }]);
    });
    assert.ok(image !== undefined);
    return image;
  }

  async function memoryOf(image: Uint8Array): Promise<Uint8Array> {
    const { memory } = await decodeImage(image);
    assert.ok(memory.length > MEBIBYTES * 1024 * 1024);
    return memory;
  }

  test('moves, and is stored, with all of it', async () => {
    await filled('large');
    const first = await memoryOf(await imageOf(hosts.a, 'large', true));
    await hosts.a.client.migrate('large', hosts.b.socket);
    const moved = await memoryOf(await imageOf(hosts.b, 'large', true));
    assert.equal(Buffer.compare(moved, first), 0);
    const image = await imageOf(hosts.b, 'large', false);
    assert.equal(Buffer.compare(await memoryOf(image), first), 0);
    assert.equal((await listed(hosts.b, 'large')).state, 'gone');
    await hosts.a.client.restore(image, { withoutFlows: false });
    const restored = await memoryOf(await imageOf(hosts.a, 'large', true));
    assert.equal(Buffer.compare(restored, first), 0);
    await hosts.a.client.stop('large');
  });

  test('goes on where it was when it was sent in part', async () => {
    await filled('kept');
    const first = await memoryOf(await imageOf(hosts.a, 'kept', true));
    send = async function broken(this: Link, message, payload = [], stall): Promise<void> {
      if ((message as { type?: string }).type !== 'image') return await this.send(message, payload, stall);
      const parts = payload.map((part) => {
        if (part instanceof Uint8Array) return part;
        return {
          length: part.length,
          async *read(): AsyncGenerator<Uint8Array> {
            for await (const piece of part.read()) {
              yield piece;
              throw new Error('the disk is on fire');
            }
          },
        };
      });
      return await this.send(message, parts, stall);
    };
    await assert.rejects(hosts.a.client.migrate('kept', hosts.b.socket), /the disk is on fire/);
    send = undefined;
    assert.equal((await listed(hosts.a, 'kept')).state, 'running');
    assert.equal(Buffer.compare(await memoryOf(await imageOf(hosts.a, 'kept', true)), first), 0);
    await hosts.a.client.migrate('kept', hosts.b.socket);
    assert.equal(Buffer.compare(await memoryOf(await imageOf(hosts.b, 'kept', true)), first), 0);
    await hosts.b.client.stop('kept');
  });

  test('that nobody stores goes on', async () => {
    await filled('unstored');
    const full = new Error('the disk is full');
    await assert.rejects(
      hosts.a.client.checkpoint('unstored', false, () => Promise.reject(full)),
      (error: unknown) => error === full,
    );
    assert.equal((await listed(hosts.a, 'unstored')).state, 'running');
    await hosts.a.client.stop('unstored');
  });
});
