import assert from 'node:assert/strict';
import { once } from 'node:events';
import { request } from 'node:http';
import { connect } from 'node:net';
import { after, before, beforeEach, describe, test } from 'node:test';
import { Value } from 'typebox/value';
import { KedgeError } from '../../../src/errors.ts';
import type { ErrorCode } from '../../../src/errors.ts';
import { GatewayClient } from '../../../src/gateway/admin/client.ts';
import { ErrorBody, FlowDetail, FlowList, GuestList, Status } from '../../../src/gateway/admin/schema.ts';
import type { ControlVerbs, ExportBody } from '../../../src/gateway/admin/schema.ts';
import { VERBS_PATH, VERBS_PROTOCOL } from '../../../src/gateway/admin/verb-lines.ts';
import { FLOW, FakeGateway, GUEST, GUEST_ID, STATUS } from './admin-fake.ts';

const LOCAL = { address: '100.64.0.1', port: 80 };
const REMOTE = { address: '198.51.100.7', port: 43210 };

/** One request as anyone may write it: status and decoded body. */
async function raw(socketPath: string, method: string, path: string, body?: string): Promise<[number, unknown]> {
  const call = request({ socketPath, method, path, headers: { 'content-type': 'application/json' }, agent: false });
  call.end(body);
  const [response] = (await once(call, 'response')) as [import('node:http').IncomingMessage];
  const chunks: unknown[] = await response.toArray();
  return [response.statusCode ?? 0, JSON.parse(chunks.join(''))];
}

/** What comes until the other end closes. */
async function fetchUpgrade(socketPath: string, path: string, protocol: string): Promise<string> {
  const socket = connect(socketPath);
  socket.write(`GET ${path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: ${protocol}\r\n\r\n`);
  const chunks: unknown[] = await socket.toArray();
  return Buffer.concat(chunks as Buffer[]).toString();
}

describe('admin API', () => {
  let fake: FakeGateway;
  let client: GatewayClient;
  before(async () => {
    fake = await FakeGateway.start();
    client = new GatewayClient(fake.socket);
  });
  after(async () => {
    client.close();
    await fake[Symbol.asyncDispose]();
  });
  beforeEach(() => {
    fake.calls.length = 0;
    fake.queries.length = 0;
    fake.answer = () => ({});
  });

  test('what is listed arrives as it is, and is what the schemas say', async () => {
    assert.deepEqual(await client.health(), { ok: true });
    assert.deepEqual(await client.status(), STATUS);
    assert.deepEqual(await client.flows(), [FLOW]);
    assert.deepEqual(await client.flow(7), FLOW);
    assert.deepEqual(await client.guests(), [GUEST]);
    assert.ok(Value.Check(Status, STATUS));
    assert.ok(Value.Check(FlowDetail, FLOW));
    assert.ok(Value.Check(FlowList, { flows: [FLOW] }));
    assert.ok(Value.Check(GuestList, { guests: [GUEST] }));
  });

  test('a query of flows arrives whole', async () => {
    const query = { guest: 'a b&c=d', state: 'CLOSE-WAIT', peer: '198.51.100.7:43210' } as const;
    await client.flows(query);
    await client.flows({ peer: '198.51.100.7' });
    assert.deepEqual(fake.queries, [query, { peer: '198.51.100.7' }]);
  });

  test('every verb reaches the pump with the id of the path, and its result comes back', async () => {
    const epoch = { epoch: 3 };
    const id = GUEST_ID;
    const body = { id, name: 'chat', address: '100.64.0.1', leg: 'a', publish: GUEST.publish };
    const sockets = [{ local: LOCAL, remote: REMOTE, received: 2 ** 40, written: 0, lingering: true }];
    const brief = { id: 7, local: LOCAL, remote: REMOTE };
    const results: { [V in keyof ControlVerbs]: ControlVerbs[V]['result'] } = {
      register: { guest: GUEST },
      unregister: {},
      remove: {},
      check: { movable: true },
      freeze: { flows: [{ ...brief, proto: 'tcp', state: 'ESTABLISHED' }] },
      export: { settled: false, reasons: ['an ACK shows 3 bytes more'] },
      seal: {},
      attach: { flows: [{ ...brief, acked: 5, finAcked: false, received: 6, reset: false }], claim: 1 },
      commit: {},
      detach: {},
      abort: {},
    };
    fake.answer = (verb) => results[verb];
    assert.deepEqual(await client.register(body), results.register);
    assert.deepEqual(await client.check(id, epoch), results.check);
    assert.deepEqual(await client.freeze(id, epoch), results.freeze);
    assert.deepEqual(await client.export(id, { ...epoch, sockets }), results.export);
    assert.equal(await client.seal(id, epoch), undefined);
    assert.deepEqual(await client.attach(id, { epoch: 4, leg: 'b' }), results.attach);
    assert.equal(await client.commit(id, epoch), undefined);
    assert.equal(await client.detach(id, epoch), undefined);
    assert.equal(await client.abort(id, epoch), undefined);
    assert.equal(await client.unregister(id, epoch), undefined);
    assert.equal(await client.remove(id, { ...epoch, force: true }), undefined);
    assert.deepEqual(fake.calls, [
      { verb: 'register', args: body },
      { verb: 'check', args: { ...epoch, id } },
      { verb: 'freeze', args: { ...epoch, id } },
      { verb: 'export', args: { ...epoch, sockets, id } },
      { verb: 'seal', args: { ...epoch, id } },
      { verb: 'attach', args: { epoch: 4, leg: 'b', id } },
      { verb: 'commit', args: { ...epoch, id } },
      { verb: 'detach', args: { ...epoch, id } },
      { verb: 'abort', args: { ...epoch, id } },
      { verb: 'unregister', args: { ...epoch, id } },
      { verb: 'remove', args: { ...epoch, id, force: true } },
    ]);
    fake.answer = () => ({ guest: GUEST });
    assert.deepEqual((await raw(fake.socket, 'POST', '/v1/guests', JSON.stringify(body)))[0], 201);
  });

  test('a refusal of the pump keeps code, message and hint, and gets a fitting status', async () => {
    const statuses: readonly (readonly [ErrorCode, number])[] = [
      ['KEDGE_EPOCH_STALE', 409],
      ['KEDGE_FLOW_UNMOVABLE', 409],
      ['KEDGE_GUEST_UNKNOWN', 404],
      ['KEDGE_LEG_UNKNOWN', 400],
      ['KEDGE_POOL_EXHAUSTED', 507],
      ['KEDGE_PUMP_FAILED', 503],
      ['KEDGE_INTERNAL', 500],
    ];
    for (const [code, status] of statuses) {
      fake.answer = () => {
        throw new KedgeError(code, `no: ${code}`, { hint: 'do this' });
      };
      const expected = { code, message: `no: ${code}`, hint: 'do this' };
      await assert.rejects(client.freeze(GUEST_ID, { epoch: 1 }), expected);
      const answer = await raw(fake.socket, 'POST', `/v1/guests/${GUEST_ID}/freeze`, '{"epoch":1}');
      assert.deepEqual(answer, [status, expected]);
    }
    fake.answer = () => {
      throw new Error('a fault');
    };
    await assert.rejects(client.abort(GUEST_ID, { epoch: 1 }), { code: 'KEDGE_INTERNAL', message: 'a fault' });
    // And the server lives on.
    assert.deepEqual(await client.health(), { ok: true });
  });

  test('a flow that is not there', async () => {
    await assert.rejects(client.flow(8), { code: 'KEDGE_FLOW_UNKNOWN', message: /no flow 8/ });
  });

  const guest = { id: GUEST_ID, name: 'g', leg: 'a', publish: [] };
  const socket = { local: LOCAL, remote: REMOTE, received: 1, written: 1, lingering: false };
  const bad: readonly (readonly [title: string, method: string, path: string, body: unknown])[] = [
    ['no body', 'POST', `/v1/guests/${GUEST_ID}/freeze`, undefined],
    ['no object', 'POST', `/v1/guests/${GUEST_ID}/freeze`, [1]],
    ['no epoch', 'POST', `/v1/guests/${GUEST_ID}/freeze`, {}],
    ['an epoch of text', 'POST', `/v1/guests/${GUEST_ID}/freeze`, { epoch: '1' }],
    ['epoch 0', 'POST', `/v1/guests/${GUEST_ID}/freeze`, { epoch: 0 }],
    ['an epoch that is a fraction', 'POST', `/v1/guests/${GUEST_ID}/commit`, { epoch: 1.5 }],
    ['something more', 'POST', `/v1/guests/${GUEST_ID}/commit`, { epoch: 1, force: true }],
    ['attach to no leg', 'POST', `/v1/guests/${GUEST_ID}/attach`, { epoch: 1 }],
    ['a bad leg', 'POST', `/v1/guests/${GUEST_ID}/attach`, { epoch: 1, leg: '../x' }],
    ['a negative K', 'POST', `/v1/guests/${GUEST_ID}/export`, { epoch: 1, sockets: [{ ...socket, received: -1 }] }],
    ['a K too large', 'POST', `/v1/guests/${GUEST_ID}/export`, { epoch: 1, sockets: [{ ...socket, received: 1e300 }] }],
    ['a socket without peer', 'POST', `/v1/guests/${GUEST_ID}/export`, { epoch: 1, sockets: [{ local: LOCAL }] }],
    ['no UUID', 'POST', '/v1/guests', { ...guest, id: 'x' }],
    ['an empty name', 'POST', '/v1/guests', { ...guest, name: '' }],
    ['a name with a newline', 'POST', '/v1/guests', { ...guest, name: 'a\nb' }],
    ['a wrong address', 'POST', '/v1/guests', { ...guest, address: '1.2.3.400' }],
    ['port 0', 'POST', '/v1/guests', { ...guest, publish: [{ proto: 'tcp', outsidePort: 0, guestPort: 1 }] }],
    ['port 65536', 'POST', '/v1/guests', { ...guest, publish: [{ proto: 'tcp', outsidePort: 1, guestPort: 65536 }] }],
    [
      'a protocol that has no ports',
      'POST',
      '/v1/guests',
      { ...guest, publish: [{ proto: 'icmp', outsidePort: 1, guestPort: 1 }] },
    ],
    ['an unknown state', 'GET', '/v1/flows?state=OPEN', undefined],
    ['an unknown filter', 'GET', '/v1/flows?port=1', undefined],
    ['a flow id of text', 'GET', '/v1/flows/x', undefined],
    ['a negative flow id', 'GET', '/v1/flows/-1', undefined],
  ];
  for (const [title, method, path, body] of bad) {
    test(`a bad request never reaches the pump: ${title}`, async () => {
      const payload = body === undefined ? undefined : JSON.stringify(body);
      const [status, answer] = await raw(fake.socket, method, path, payload);
      assert.equal(status, 400);
      assert.ok(Value.Check(ErrorBody, answer));
      assert.equal(answer.code, 'KEDGE_BAD_REQUEST');
      assert.deepEqual([fake.calls, fake.queries], [[], []]);
    });
  }

  test('verbs that are lines: what is wrong with them is said, and what is no line ends the connection', async () => {
    const ask = (line: string) =>
      new Promise<string>((resolve, reject) => {
        const upgraded = connect(fake.socket);
        let text = '';
        upgraded.on('error', reject);
        upgraded.on('close', () => reject(new Error(`closed: ${text}`)));
        upgraded.on('data', (bytes: Buffer) => {
          text += bytes.toString();
          const [head, rest = ''] = text.split('\r\n\r\n');
          if (!rest.endsWith('\n')) return;
          assert.match(head ?? '', /^HTTP\/1.1 101 /);
          resolve(rest);
          upgraded.destroy();
        });
        upgraded.write(
          `GET ${VERBS_PATH} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: ${VERBS_PROTOCOL}\r\n\r\n${line}\n`,
        );
      });
    const verb = (body: object) => JSON.stringify({ n: 5, verb: 'freeze', id: GUEST_ID, body });
    for (const [line, n, message] of [
      ['{', 0, /line must be object/],
      ['{"n":1,"verb":"toString","id":"x","body":{}}', 0, /line\/verb must be/],
      ['{"n":1,"verb":"freeze","id":"x","body":{},"more":1}', 0, /line/],
      [verb({}), 5, /body .*epoch/],
      [verb({ epoch: 0 }), 5, /body\/epoch/],
      [verb({ epoch: 1, more: true }), 5, /body/],
    ] as const) {
      const answer = JSON.parse(await ask(line)) as { n: number; error: { code: string; message: string } };
      assert.equal(answer.n, n, line);
      assert.equal(answer.error.code, 'KEDGE_BAD_REQUEST');
      assert.match(answer.error.message, message);
    }
    assert.deepEqual(fake.calls, []);
    const refused = fetchUpgrade(fake.socket, '/v1/other', VERBS_PROTOCOL);
    assert.match(await refused, /^HTTP\/1.1 404 .*KEDGE_NOT_FOUND/s);
    assert.match(await fetchUpgrade(fake.socket, VERBS_PATH, 'websocket'), /^HTTP\/1.1 404 /);
    assert.deepEqual(await client.health(), { ok: true });
  });

  test('what is wrong is said', async () => {
    const message = async (body: object): Promise<unknown> => {
      const [, answer] = await raw(fake.socket, 'POST', '/v1/guests', JSON.stringify(body));
      return (answer as ErrorBody).message;
    };
    assert.match(String(await message({ ...guest, extra: 1 })), /^body\/extra is not expected/);
    assert.equal(await message({ ...guest, leg: 7 }), 'body/leg must be string');
    assert.equal(await message({ id: GUEST_ID, name: 'g', leg: 'a' }), 'body must have required properties publish');
    const publish = [{ proto: 'icmp', outsidePort: 70_000, guestPort: 1 }];
    assert.equal(
      await message({ ...guest, publish }),
      'body/publish/0/proto must be equal to one of the allowed values: tcp, udp; body/publish/0/outsidePort must be <= 65535',
    );
  });

  test('JSON that is none, too much of it, and paths that are not there', async () => {
    assert.equal((await raw(fake.socket, 'POST', '/v1/guests', '{"id":'))[0], 400);
    const [status, answer] = await raw(fake.socket, 'PUT', '/v1/guests', '{}');
    assert.equal(status, 404);
    assert.equal((answer as ErrorBody).code, 'KEDGE_NOT_FOUND');
  });

  test('OpenAPI has every path', async () => {
    const [status, document] = await raw(fake.socket, 'GET', '/v1/openapi.json');
    assert.equal(status, 200);
    const { paths } = document as { paths: Record<string, object> };
    assert.deepEqual(
      Object.entries(paths)
        .map(([path, methods]) => `${path} ${Object.keys(methods).join(',')}`)
        .toSorted(),
      [
        '/v1/flows get',
        '/v1/flows/{id} get',
        '/v1/guests get,post',
        '/v1/guests/{id} delete',
        '/v1/guests/{id}/abort post',
        '/v1/guests/{id}/attach post',
        '/v1/guests/{id}/check post',
        '/v1/guests/{id}/commit post',
        '/v1/guests/{id}/detach post',
        '/v1/guests/{id}/export post',
        '/v1/guests/{id}/freeze post',
        '/v1/guests/{id}/remove post',
        '/v1/guests/{id}/seal post',
        '/v1/health get',
        '/v1/status get',
      ],
    );
  });

  test('an export of thousands of sockets is one request', async () => {
    fake.answer = () => ({ settled: true, flows: [] });
    const sockets = Array.from({ length: 20_000 }, (_, i) => ({
      ...socket,
      remote: { ...REMOTE, port: 1 + (i % 65535) },
    }));
    await client.export(GUEST_ID, { epoch: 1, sockets });
    assert.equal((fake.calls[0]?.args as ExportBody | undefined)?.sockets.length, 20_000);
  });

  test('many calls at once', async () => {
    fake.answer = (_verb, args) => ({ flows: [], epoch: (args as { epoch: number }).epoch });
    const answers = await Promise.all(
      Array.from({ length: 100 }, (_, i) => client.freeze(GUEST_ID, { epoch: i + 1 }) as Promise<unknown>),
    );
    assert.deepEqual(
      answers.map((answer) => (answer as { epoch: number }).epoch),
      Array.from({ length: 100 }, (_, i) => i + 1),
    );
  });
});
