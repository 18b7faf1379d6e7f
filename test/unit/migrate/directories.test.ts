/** Directories of a guest that arrives are the target host's own: what a source or an image names is never opened. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { Hosts, listed, spec, ticker } from './agents.ts';

let directory: string;

before(() => {
  directory = mkdtempSync(join(tmpdir(), 'kedge-directories-'));
});
after(() => rmSync(directory, { recursive: true }));

test('a host without a directory of that name takes neither the move nor the image', async () => {
  await using hosts = await Hosts.start();
  const dirs = [{ host: directory, guest: '/data' }];
  await hosts.a.client.run(spec({ name: 'holder', dirs }), ticker());
  await assert.rejects(hosts.a.client.migrate('holder', hosts.b.socket), { code: 'KEDGE_PREOPEN_INVALID' });
  assert.equal((await listed(hosts.a, 'holder')).state, 'running');
  const parts: Uint8Array[] = [];
  await hosts.a.client.checkpoint('holder', true, async (chunks) => {
    for await (const chunk of chunks) parts.push(chunk);
  });
  const image = new Uint8Array(Buffer.concat(parts));
  await assert.rejects(hosts.b.client.restore(image, { withoutFlows: true }), { code: 'KEDGE_PREOPEN_INVALID' });
});

test("a host gives its own directory, not the source's", async () => {
  await using hosts = await Hosts.start(undefined, new Map([['/data', directory]]));
  await hosts.a.client.run(spec({ name: 'holder', dirs: [{ host: tmpdir(), guest: '/data' }] }), ticker());
  await hosts.a.client.migrate('holder', hosts.b.socket);
  const kept = hosts.b.agent.find('holder');
  assert.deepEqual(kept.identity.dirs, [{ host: directory, guest: '/data' }]);
});
