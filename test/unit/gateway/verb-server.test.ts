/** Connections for the verbs of a move, and clients that end them. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { after, before, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { VERBS_PATH, VERBS_PROTOCOL } from '../../../src/gateway/admin/verb-lines.ts';
import { FakeGateway, GUEST_ID } from './admin-fake.ts';

const VERB = `${JSON.stringify({ n: 1, verb: 'freeze', id: GUEST_ID, body: { epoch: 1 } })}\n`;

let fake: FakeGateway;
before(async () => {
  fake = await FakeGateway.start();
});
after(() => fake[Symbol.asyncDispose]());

/** A connection that is upgraded. */
async function upgraded(protocol = VERBS_PROTOCOL): Promise<Socket> {
  const socket = connect(fake.socket);
  socket.write(`GET ${VERBS_PATH} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: ${protocol}\r\n\r\n`);
  await once(socket, 'data');
  return socket;
}

const descriptors = (): number => readdirSync('/proc/self/fd').length;

for (const [how, leave] of Object.entries({
  'ends it': (socket: Socket) => socket.end(),
  'closes it with a verb on its way': (socket: Socket) => socket.write(VERB, () => socket.destroy()),
  'says what is no verb, and closes it': (socket: Socket) => socket.write('{}\n', () => socket.destroy()),
}))
  test(`nothing is left of a connection whose client ${how}`, { timeout: 20_000 }, async () => {
    const open = descriptors();
    for (let i = 0; i < 10; i++) leave(await upgraded());
    for (let patience = 100; descriptors() > open && patience > 0; patience--) await delay(20);
    assert.ok(descriptors() <= open, `${open} descriptors became ${descriptors()}`);
  });

test('a client that says no more still gets the answers to what it has asked', { timeout: 20_000 }, async () => {
  let answer = (): void => undefined;
  fake.answer = () => new Promise<object>((resolve) => (answer = () => resolve({ done: true })));
  const socket = await upgraded();
  socket.end(VERB);
  await delay(50);
  answer();
  const rest = Buffer.concat((await socket.toArray()) as Buffer[]).toString();
  assert.deepEqual(JSON.parse(rest), { n: 1, result: { done: true } });
});
