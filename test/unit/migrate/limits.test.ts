/** What takes too long: a guest does not stand still for longer than the limits say, whoever it waits for. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { encode } from 'cborg';
import { LIMITS } from '../../../src/migrate/limits.ts';
import { MOVE_VERSION } from '../../../src/migrate/stages.ts';
import { unixTransport } from '../../../src/migrate/transport.ts';
import { waitFor } from '../../support/wait.ts';
import { wat } from '../engine/support.ts';
import { Hosts, lines, listed, spec, ticker } from './agents.ts';

/** A module with `size` bytes that do not compress, in a section that nobody reads. */
function padded(module: Uint8Array, size: number): Uint8Array {
  const body = Buffer.concat([Buffer.from([1, 0x78]), randomBytes(size)]);
  const length: number[] = [];
  for (let rest = body.length; ; rest >>>= 7) {
    length.push(rest > 0x7f ? (rest & 0x7f) | 0x80 : rest);
    if (rest <= 0x7f) break;
  }
  return Buffer.concat([module, Buffer.from([0, ...length]), body]);
}

describe('limits', () => {
  let hosts: Hosts;
  before(async () => {
    hosts = await Hosts.start(undefined, undefined, { ...LIMITS, stop: 500, image: 300, stall: 200, store: 200 });
  });
  after(() => hosts[Symbol.asyncDispose]());

  const state = (name: string) => hosts.gateway.guests().find((guest) => guest.name === name)?.state;

  /** The guest stands still, or has done so. */
  async function stands(): Promise<void> {
    await waitFor(() => hosts.gateway.calls.includes('export'), { what: 'the guest to stand still' });
    hosts.gateway.calls.length = 0;
  }

  /** The guest runs, and prints more than it had. */
  async function goesOn(name: string): Promise<void> {
    await waitFor(() => state(name) === 'running', { what: 'the guest to go on' });
    const had = (await lines(hosts.a, name, 1)).length;
    await lines(hosts.a, name, had + 2);
  }

  test('a command that is stopped before the image is safe', async () => {
    await hosts.a.client.run(spec({ name: 'waits' }), ticker());
    await lines(hosts.a, 'waits', 1);
    const resumed = Promise.withResolvers<void>();
    const checkpoint = hosts.a.client.checkpoint('waits', false, () => resumed.promise);
    // It says at last that the file is there, and hears that it must not be.
    const refused = assert.rejects(checkpoint, {
      code: 'KEDGE_STAGE_TIMEOUT',
      message: /stage write: storing/,
      hint: /faster disk/,
    });
    await stands();
    await goesOn('waits');
    resumed.resolve();
    await refused;
    assert.equal(state('waits'), 'running');
    await hosts.a.client.stop('waits');
  });

  test('a command that is stopped while it takes the image', async () => {
    await hosts.a.client.run(spec({ name: 'large' }), padded(ticker(), 4 * 1024 * 1024));
    await lines(hosts.a, 'large', 1);
    // Takes nothing.
    const socket = connect(hosts.a.socket);
    await once(socket, 'connect');
    socket.pause();
    const record = encode({ type: 'checkpoint', name: 'large', leaveRunning: false });
    const prefix = Buffer.alloc(12);
    prefix.writeUInt32LE(record.length, 0);
    socket.write(Buffer.concat([prefix, record]));
    await stands();
    await goesOn('large');
    // What it finds when it goes on ends within the image.
    socket.resume();
    await once(socket, 'close');
    assert.ok(socket.bytesRead < 4 * 1024 * 1024);
    await hosts.a.client.stop('large');
  });

  test('a source that says nothing more when its target is prepared: name and thread are free again', async () => {
    await hosts.a.client.run(spec({ name: 'promised' }), ticker());
    const { identity, code } = hosts.a.agent.find('promised');
    const link = await unixTransport.connect(hosts.b.socket);
    await link.send({ type: 'receive', version: MOVE_VERSION, guest: identity }, [code.module]);
    assert.deepEqual((await link.receive())?.message, { type: 'prepared' });
    await assert.rejects(hosts.b.client.run(spec({ name: 'promised' }), ticker()), { code: 'KEDGE_GUEST_EXISTS' });
    const answer = (await link.receive())?.message;
    assert.match(JSON.stringify(answer), /KEDGE_LINK_BROKEN.*it sent nothing for 300 ms/);
    await hosts.b.client.run(spec({ name: 'promised' }), ticker());
    await hosts.b.client.stop('promised');
    await hosts.a.client.stop('promised');
    link.close();
  });

  test('a guest that reaches no stable point goes on, and the policy that has some is named', async () => {
    const spins = wat('(module (memory (export "memory") 1) (func (export "_start") (loop $again (br $again))))');
    await hosts.a.client.run(spec({ name: 'spins', policy: 'call' }), spins);
    await assert.rejects(hosts.a.client.migrate('spins', hosts.b.socket), {
      code: 'KEDGE_GUEST_UNSTOPPABLE',
      message: /source stage stop: /,
      hint: /with --points call: .*run it with --points loop$/,
    });
    assert.equal((await listed(hosts.a, 'spins')).state, 'running');
    await hosts.a.client.stop('spins');
  });
});
