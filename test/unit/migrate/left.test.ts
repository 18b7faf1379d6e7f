/** What an agent does with guests that the one before it has left at the gateway. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, beforeEach, describe, test } from 'node:test';
import { GatewayClient } from '../../../src/gateway/admin/client.ts';
import { KedgeError } from '../../../src/errors.ts';
import { clearLeft } from '../../../src/migrate/left.ts';
import { FakeGateway } from './fake-gateway.ts';

describe('guests that a killed agent has left', () => {
  let fake: FakeGateway;
  let gateway: GatewayClient;
  let warnings: string[];
  let removed: string[];
  const signal = new AbortController().signal;
  before(async () => {
    fake = await FakeGateway.start();
    gateway = new GatewayClient(fake.socket);
  });
  after(async () => {
    gateway.close();
    await fake[Symbol.asyncDispose]();
  });
  beforeEach(() => {
    warnings = [];
    removed = [];
  });

  async function guest(name: string, leg = 'a'): Promise<string> {
    const id = randomUUID();
    await gateway.register({ id, name, leg, publish: [] });
    return id;
  }

  async function frozen(name: string): Promise<string> {
    const id = await guest(name);
    await gateway.freeze(id, { epoch: 1 });
    await gateway.export(id, { epoch: 1, sockets: [] });
    return id;
  }

  const stateOf = (id: string): string | undefined => fake.guests().find((each) => each.id === id)?.state;

  function clear(left: readonly string[], grace: number): ReturnType<typeof clearLeft> {
    const registry = { left, add: () => undefined, remove: (id: string) => void removed.push(id) };
    return clearLeft({ gateway, leg: 'a', registry, grace, signal, warn: (what) => void warnings.push(what) });
  }

  test('that ran are signed off at once; those of another leg, of nobody and in an image are none of ours', async () => {
    const [ran, elsewhere, sealed] = [await guest('ran'), await guest('elsewhere', 'b'), await frozen('sealed')];
    await gateway.seal(sealed, { epoch: 1 });
    const nobody = randomUUID();
    const { rest } = await clear([ran, elsewhere, sealed, nobody], 20);
    await rest;
    assert.deepEqual([ran, elsewhere, sealed].map(stateOf), [undefined, 'running', 'sealed']);
    assert.deepEqual(warnings, ['guest ran ended with the agent before this one']);
    assert.deepEqual(removed, [ran, elsewhere, sealed, nobody]);
  });

  test('that were frozen are told of at once, and given up when nobody has continued them in time', async () => {
    const lost = await frozen('lost');
    const { rest } = await clear([lost], 30);
    assert.equal(stateOf(lost), 'frozen');
    assert.match(warnings.join('\n'), /^guest lost stood still .* gateway guests rm lost$/);
    assert.deepEqual(removed, []);
    await rest;
    assert.equal(stateOf(lost), undefined);
    assert.deepEqual(warnings.slice(1), ['guest lost ended with the agent before this one']);
    assert.deepEqual(removed, [lost]);
  });

  test('that were frozen are given up later when the gateway was not there for a while', async () => {
    const lost = await frozen('waiting');
    let tries = 0;
    const restarted: Parameters<typeof clearLeft>[0]['gateway'] = {
      guests: () => {
        tries += 1;
        if (tries === 1 || tries > 3) return gateway.guests();
        throw new KedgeError('KEDGE_GATEWAY_UNREACHABLE', 'it is started again');
      },
      unregister: (id, body) => gateway.unregister(id, body),
    };
    const registry = { left: [lost], add: () => undefined, remove: (id: string) => void removed.push(id) };
    const warn = (what: string): void => void warnings.push(what);
    const { rest } = await clearLeft({ gateway: restarted, leg: 'a', registry, grace: 5, signal, warn });
    await rest;
    assert.equal(stateOf(lost), undefined);
    assert.deepEqual(removed, [lost]);
    assert.match(warnings[1] ?? '', /were not signed off, which is tried again: .*it is started again/);
    assert.deepEqual(warnings.slice(2), ['guest waiting ended with the agent before this one']);
  });

  test('that were frozen, and then continued by this very agent, live on', async () => {
    const id = await frozen('back');
    const { rest } = await clear([id], 30);
    const { claim } = await gateway.attach(id, { epoch: 2, leg: 'a' });
    await gateway.commit(id, { epoch: 2, claim });
    await rest;
    assert.equal(stateOf(id), 'running');
    assert.equal(warnings.length, 1);
    assert.deepEqual(removed, [], 'its record is that of the agent it runs at');
  });

  test('that were frozen, and then continued elsewhere or removed by somebody, are left alone', async () => {
    const [moved, gone] = [await frozen('moved'), await frozen('gone')];
    const { rest } = await clear([moved, gone], 30);
    const { claim } = await gateway.attach(moved, { epoch: 2, leg: 'b' });
    await gateway.commit(moved, { epoch: 2, claim });
    await gateway.unregister(gone, { epoch: 1 });
    await rest;
    assert.deepEqual([stateOf(moved), stateOf(gone)], ['running', undefined]);
    assert.equal(warnings.length, 2);
  });
});
