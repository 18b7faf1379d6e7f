/** A move between two agents, and what is left when one of its steps fails. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { after, afterEach, before, describe, test } from 'node:test';
import { STAGES } from '../../../src/migrate/stages.ts';
import type { Link, Transport } from '../../../src/migrate/transport.ts';
import { unixTransport } from '../../../src/migrate/transport.ts';
import { waitFor } from '../../support/wait.ts';
import type { Host } from './agents.ts';
import { example, Hosts, lines, listed, printed, speaker, spec, ticker } from './agents.ts';
import { refuse } from './fake-gateway.ts';
import { bytesOf } from '../../support/parts.ts';

const { source } = STAGES[1];
/** Stages after the gateway has switched: a failure there cannot take anything back. */
const BEYOND = new Set(['target.release', 'source.destroy']);

/** What happens to messages between the agents. */
let meddle: (link: Link) => Link = (link) => link;
const transport: Transport = {
  ...unixTransport,
  connect: async (to) => meddle(await unixTransport.connect(to)),
};

/** Ticks printed at a host, as numbers. */
async function ticks(host: Host, name: string, count: number): Promise<number[]> {
  return (await lines(host, name, count)).map((line) => Number(line.slice('tick '.length)));
}

function assertConsecutive(numbers: readonly number[]): void {
  numbers.forEach((n, i) => assert.equal(n, (numbers[0] ?? 0) + i));
}

describe('a move', () => {
  let hosts: Hosts;
  let module: Uint8Array;
  let count = 0;

  /** Starts a guest that ticks at host a. */
  async function ticking(): Promise<string> {
    const name = `ticker-${(count += 1)}`;
    await hosts.a.client.run(spec({ name }), module);
    await lines(hosts.a, name, 2);
    return name;
  }

  /** The guest runs at a and nowhere else, in the epoch it had, and no tick was lost. */
  async function assertStayed(name: string): Promise<void> {
    const had = (await ticks(hosts.a, name, 1)).length;
    const all = await ticks(hosts.a, name, had + 2);
    assert.equal(all[0], 1);
    assertConsecutive(all);
    const { state, epoch } = await listed(hosts.a, name);
    assert.deepEqual([state, epoch], ['running', 1]);
    assert.ok(!(await hosts.b.client.list()).some((guest) => guest.name === name && guest.state === 'running'));
    const known = hosts.gateway.guests().find((guest) => guest.name === name);
    assert.deepEqual([known?.state, known?.epoch, known?.leg], ['running', 1, 'a']);
  }

  before(async () => {
    module = ticker();
    hosts = await Hosts.start(transport);
  });
  after(() => hosts[Symbol.asyncDispose]());
  afterEach(async () => {
    delete process.env['KEDGE_FAULT'];
    meddle = (link) => link;
    hosts.gateway.before = () => undefined;
    hosts.gateway.after = () => undefined;
    hosts.gateway.unsettled = 0;
    for (const { client } of [hosts.a, hosts.b]) {
      for (const { id } of await client.list()) await client.stop(id);
    }
  });

  test('there and back: the guest goes on where it was', async () => {
    const name = await ticking();
    const { epoch, stages } = await hosts.a.client.migrate(name, hosts.b.socket);
    assert.equal(epoch, 2);
    const names = new Set(stages.map((stage) => stage.name));
    for (const stage of source) assert.ok(names.has(`source.${stage}`), stage);
    assert.ok(names.has('target.commit'));
    const first = await ticks(hosts.a, name, 2);
    const second = await ticks(hosts.b, name, 3);
    assertConsecutive([...first, ...second]);
    const left = await listed(hosts.a, name);
    assert.equal(left.state, 'gone');
    assert.match(left.message ?? '', /^moved to .*b\.sock$/);
    await hosts.b.client.migrate(name, hosts.a.socket);
    assertConsecutive([...(await ticks(hosts.b, name, 3)), ...(await ticks(hosts.a, name, 3))]);
    const [known] = hosts.gateway.guests();
    assert.deepEqual([known?.leg, known?.epoch, known?.state], ['a', 3, 'running']);
  });

  test('the gateway is asked before anything stops, and decides before anything ends', async () => {
    const name = await ticking();
    hosts.gateway.calls.length = 0;
    await hosts.a.client.migrate(name, hosts.b.socket);
    const verbs = hosts.gateway.calls.filter((verb) => verb !== 'register');
    assert.deepEqual(verbs, ['check', 'freeze', 'export', 'attach', 'commit']);
  });

  for (const role of ['source', 'target'] as const) {
    for (const stage of STAGES[1][role]) {
      const where = `${role}.${stage}`;
      if (BEYOND.has(where)) continue;
      test(`fails at ${where}: the guest goes on where it was, and can move after that`, async () => {
        const name = await ticking();
        process.env['KEDGE_FAULT'] = `${where}:fail`;
        await assert.rejects(
          hosts.a.client.migrate(name, hosts.b.socket),
          (error: { code?: string; message?: string }) =>
            error.code === 'KEDGE_FAULT_INJECTED' && (error.message ?? '').includes(`stage ${stage}`),
        );
        await assertStayed(name);
        delete process.env['KEDGE_FAULT'];
        await hosts.a.client.migrate(name, hosts.b.socket);
        assert.equal((await listed(hosts.b, name)).state, 'running');
      });
    }
  }

  for (const verb of ['check', 'freeze', 'export', 'attach', 'commit'] as const) {
    test(`the gateway refuses ${verb}: the guest goes on where it was`, async () => {
      const name = await ticking();
      hosts.gateway.before = (called) => {
        if (called === verb) throw refuse('KEDGE_FLOW_UNMOVABLE');
      };
      await assert.rejects(hosts.a.client.migrate(name, hosts.b.socket), { code: 'KEDGE_FLOW_UNMOVABLE' });
      await assertStayed(name);
    });
  }

  test('exports that do not settle at once are drained again, but not for ever', async () => {
    const name = await ticking();
    hosts.gateway.unsettled = 1000;
    await assert.rejects(hosts.a.client.migrate(name, hosts.b.socket), {
      code: 'KEDGE_UNSETTLED',
      message: /an ACK is under way/,
      hint: /try again/,
    });
    await assertStayed(name);
    hosts.gateway.unsettled = 3;
    await hosts.a.client.migrate(name, hosts.b.socket);
    assert.equal((await listed(hosts.b, name)).state, 'running');
  });

  test('an answer to a commit that is lost is asked for again', async () => {
    const name = await ticking();
    let lost = 0;
    hosts.gateway.after = (verb) => {
      if (verb === 'commit' && (lost += 1) <= 2) throw refuse('KEDGE_GATEWAY_TIMEOUT');
    };
    await hosts.a.client.migrate(name, hosts.b.socket);
    assert.equal(lost, 3);
    assert.equal((await listed(hosts.b, name)).state, 'running');
  });

  test('a gateway that does not say who has the guest is asked until it does', async () => {
    const name = await ticking();
    process.env['KEDGE_FAULT'] = 'source.save:fail';
    let asked = 0;
    hosts.gateway.before = (verb) => {
      if (verb === 'abort' && (asked += 1) <= 2) throw refuse('KEDGE_GATEWAY_TIMEOUT');
    };
    await assert.rejects(hosts.a.client.migrate(name, hosts.b.socket), { code: 'KEDGE_FAULT_INJECTED' });
    assert.equal(asked, 3);
    await assertStayed(name);
  });

  test('the source is lost after the image was sent: the target has the guest', async () => {
    const name = await ticking();
    meddle = (link) => ({
      ...bound(link),
      receive: async () => {
        const frame = await link.receive();
        const type = (frame?.message as { type?: string } | undefined)?.type;
        return type === 'committed' ? undefined : frame;
      },
    });
    // The answer was lost, but the gateway knows: that is a move.
    await hosts.a.client.migrate(name, hosts.b.socket);
    assert.equal((await listed(hosts.b, name)).state, 'running');
    assert.notEqual((await listed(hosts.a, name)).state, 'running');
    assertConsecutive([...(await ticks(hosts.a, name, 2)), ...(await ticks(hosts.b, name, 3))]);
  });

  test('the target is lost before it has the image: the guest goes on', async () => {
    const name = await ticking();
    meddle = (link) => ({
      ...bound(link),
      send: async (message, payload) => {
        if ((message as { type?: string }).type === 'image') link.close();
        await link.send(message, payload);
      },
    });
    await assert.rejects(hosts.a.client.migrate(name, hosts.b.socket));
    await assertStayed(name);
  });

  test('an image that is damaged on its way is refused, and the guest goes on', async () => {
    const name = await ticking();
    meddle = (link) => ({
      ...bound(link),
      send: async (message, payload = []) => {
        if ((message as { type?: string }).type !== 'image') return await link.send(message, payload);
        const image = await bytesOf(payload);
        image[image.length - 1] = (image.at(-1) ?? 0) ^ 1;
        return await link.send(message, [image]);
      },
    });
    await assert.rejects(hosts.a.client.migrate(name, hosts.b.socket), { code: 'KEDGE_IMAGE_CORRUPT' });
    await assertStayed(name);
  });

  test('a connection lives through a move that fails, and no byte is lost', async () => {
    const name = 'chat';
    const { address } = await hosts.a.client.run(spec({ name, moduleName: 'chat.wasm' }), example('chat'));
    const socket = await connected(address, 7001);
    const heard = collect(socket);
    socket.write('my name is Ada\n');
    await waitFor(() => heard().includes('Ada'), { what: 'an answer' });
    process.env['KEDGE_FAULT'] = 'target.restore:fail';
    // What comes between the drain and the thaw is read by the drain and given back.
    hosts.gateway.before = (verb) => {
      if (verb === 'export') socket.write('who am I?\n');
    };
    const length = heard().length;
    await assert.rejects(hosts.a.client.migrate(name, hosts.b.socket), { code: 'KEDGE_FAULT_INJECTED' });
    await waitFor(() => heard().length > length && heard().slice(length).includes('Ada'), { what: 'the next answer' });
    const [exported] = hosts.gateway.exports.slice(-1);
    const { localPort } = socket;
    assert.ok(exported?.sockets.some(({ remote }) => remote.port === localPort));
    socket.destroy();
  });

  test('is refused before anything stops: unknown guest, unknown agent, name taken there, two at once', async () => {
    const name = await ticking();
    const { client } = hosts.a;
    await assert.rejects(client.migrate('nobody', hosts.b.socket), { code: 'KEDGE_GUEST_UNKNOWN' });
    await assert.rejects(client.migrate(name, hosts.gateway.path('none')), { code: 'KEDGE_AGENT_UNREACHABLE' });
    await assert.rejects(client.migrate(name, hosts.a.socket), { code: 'KEDGE_GUEST_EXISTS' });
    await hosts.b.client.run(spec({ name }), module);
    await assert.rejects(client.migrate(name, hosts.b.socket), { code: 'KEDGE_GUEST_EXISTS' });
    await hosts.b.client.stop(name);
    hosts.gateway.before = async (verb) => {
      if (verb !== 'check') return;
      hosts.gateway.before = () => undefined;
      await assert.rejects(client.migrate(name, hosts.b.socket), { code: 'KEDGE_GUEST_BUSY' });
      await assert.rejects(client.stop(name), { code: 'KEDGE_GUEST_BUSY' });
    };
    await client.migrate(name, hosts.b.socket);
    await assert.rejects(client.migrate(name, hosts.b.socket), {
      code: 'KEDGE_GUEST_ENDED',
      message: /was moved to .*b\.sock/,
    });
  });

  test('a guest that has ended does not move', async () => {
    await hosts.a.client.run(spec({ name: 'short' }), speaker('done', 1, 0));
    await waitFor(async () => (await listed(hosts.a, 'short')).state === 'exited', { what: 'its end' });
    await assert.rejects(hosts.a.client.migrate('short', hosts.b.socket), { code: 'KEDGE_GUEST_ENDED' });
    assert.equal(await printed(hosts.a, 'short'), 'done');
  });
});

/** The methods of a link as plain functions, so that some can be replaced. */
function bound(link: Link): Link {
  return {
    send: (message, payload) => link.send(message, payload),
    receive: () => link.receive(),
    close: () => link.close(),
    closed: link.closed,
  };
}

/** A connection to a guest that may not listen yet. */
async function connected(host: string, port: number): Promise<Socket> {
  return await waitFor(
    async () => {
      const socket = connect({ host, port });
      await once(socket, 'connect');
      return socket;
    },
    { what: `${host}:${port} to listen` },
  );
}

function collect(socket: Socket): () => string {
  let text = '';
  socket.setEncoding('utf8').on('data', (part: string) => (text += part));
  return () => text;
}
