/** `kedge checkpoint`, `restore` and `inspect` as people run them, against agents in this process. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import type { Hosts } from '../migrate/agents.ts';
import { lines, listed } from '../migrate/agents.ts';
import type { Ended } from './command.ts';
import { Cli } from './command.ts';

describe('kedge, images', { concurrency: 2 }, () => {
  let cli: Cli;
  let hosts: Hosts;
  const file = (name: string): string => cli.file(name);
  const kedge = (...args: string[]): Promise<Ended> => cli.run(...args);

  before(async () => {
    cli = await Cli.start();
    ({ hosts } = cli);
  });
  after(() => cli[Symbol.asyncDispose]());

  test('checkpoint, inspect, restore', async () => {
    await kedge('run', '-d', '--name', 'frozen', '-e', 'A=b', 'ticks.wasm', '--flag');
    await lines(hosts.a, 'frozen', 3);
    const taken = await kedge('checkpoint', 'frozen', '-o', 'frozen.kedge');
    assert.equal(taken.code, 0, taken.stderr);
    assert.match(taken.stdout, /^frozen\.kedge: [0-9]+ bytes\n$/);
    const text = (await kedge('inspect', 'frozen.kedge')).stdout;
    assert.match(text, /^guest +frozen \(/);
    assert.match(text, /^arguments +\["ticks.wasm","--flag"\]$/m);
    assert.match(text, /^ 1 +stdio +stdout$/m);
    const described = JSON.parse((await kedge('inspect', 'frozen.kedge', '-o', 'json')).stdout) as {
      manifest: { guest: { name: string; epoch: number }; claim: boolean };
      sections: Record<string, number>;
    };
    assert.deepEqual(
      [described.manifest.guest.name, described.manifest.guest.epoch, described.manifest.claim],
      ['frozen', 1, true],
    );
    assert.deepEqual(Object.keys(described.sections).toSorted(), [
      'flows',
      'frames',
      'globals',
      'handles',
      'memory',
      'module',
    ]);
    const restored = await kedge('restore', '-d', 'frozen.kedge', '--agent', hosts.b.socket);
    assert.deepEqual(restored, { code: 0, stdout: 'frozen\n', stderr: '' });
    // It goes on where it was: no tick comes twice, none is missing.
    const [last] = (await lines(hosts.a, 'frozen', 1)).slice(-1);
    const [next] = await lines(hosts.b, 'frozen', 1);
    assert.equal(Number(next?.slice(5)), Number(last?.slice(5)) + 1);
    const second = await kedge('restore', '-d', 'frozen.kedge');
    assert.equal(second.code, 1);
    assert.match(second.stderr, /^kedge: KEDGE_EPOCH_CLAIMED: /);
    const copy = await kedge('restore', '-d', '--without-flows', 'frozen.kedge');
    assert.equal(copy.code, 0, copy.stderr);
    assert.notEqual((await listed(hosts.a, copy.stdout.trim())).id, (await listed(hosts.b, 'frozen')).id);
    await kedge('stop', copy.stdout.trim());
    await kedge('stop', 'frozen', '--agent', hosts.b.socket);
  });

  test('checkpoint --leave-running: a copy that has no claim', async () => {
    await kedge('run', '-d', '--name', 'original', 'ticks.wasm');
    const { code, stderr } = await kedge('checkpoint', 'original', '--leave-running', '-o', 'copy.kedge');
    assert.deepEqual([code, stderr], [0, '']);
    assert.equal((await listed(hosts.a, 'original')).state, 'running');
    const refused = await kedge('restore', '-d', 'copy.kedge', '--agent', hosts.b.socket);
    assert.equal(refused.code, 1);
    assert.match(refused.stderr, /--without-flows/);
    await kedge('stop', 'original');
  });

  test('restore --without-flows beside the original: other ports, or none', async () => {
    await kedge('run', '-d', '--name', 'first', '-p', '8090:80', '-p', '53/udp', 'ticks.wasm');
    await kedge('checkpoint', 'first', '--leave-running', '-o', 'first.kedge');
    const restore = (...flags: string[]) => kedge('restore', '-d', ...flags, 'first.kedge');
    const refused = await restore('--without-flows');
    assert.deepEqual([refused.code, refused.stdout], [1, '']);
    assert.match(refused.stderr, /^kedge: KEDGE_PORT_IN_USE: [^]*hint: .*--publish .*--no-publish/);
    const publishes = async (...flags: string[]): Promise<string[]> => {
      const { code, stdout, stderr } = await restore('--without-flows', ...flags);
      assert.equal(code, 0, stderr);
      const guest = hosts.gateway.guests().find(({ name }) => name === stdout.trim());
      const { publish } = await listed(hosts.a, stdout.trim());
      assert.deepEqual(guest?.publish, publish);
      await kedge('stop', stdout.trim());
      return publish.map(({ proto, outsidePort, guestPort }) => `${outsidePort}:${guestPort}/${proto}`);
    };
    assert.deepEqual(await publishes('--publish', '8081:80', '-p', '54:53/udp'), ['8081:80/tcp', '54:53/udp']);
    assert.deepEqual(await publishes('--no-publish'), []);
    await kedge('stop', 'first');
    assert.deepEqual(await publishes(), ['8090:80/tcp', '53:53/udp']);
    for (const [flags, says] of [
      [['--no-publish'], /--no-publish needs --without-flows/],
      [['-p', '81:80'], /--publish needs --without-flows/],
      [['--without-flows', '-p', '81:80', '--no-publish'], /exclude each other/],
      [['--without-flows', '-p', '0:80'], /no port from 1 to 65535/],
    ] as const) {
      const { code, stdout, stderr } = await restore(...flags);
      assert.deepEqual([code, stdout], [2, '']);
      assert.match(stderr, says);
    }
  });

  test('checkpoint: a file that cannot be written leaves the guest running, and nothing behind', async () => {
    await kedge('run', '-d', '--name', 'kept', 'ticks.wasm');
    const files = readdirSync(cli.directory);
    const failed = await kedge('checkpoint', 'kept', '-o', 'missing/kept.kedge');
    assert.equal(failed.code, 1);
    assert.match(failed.stderr, /^kedge: KEDGE_IMAGE_WRITE: .*\n {2}hint: the directory does not exist/);
    assert.deepEqual(readdirSync(cli.directory), files);
    assert.equal((await listed(hosts.a, 'kept')).state, 'running');
    const steps = (await lines(hosts.a, 'kept', 1)).length;
    await lines(hosts.a, 'kept', steps + 1);
    await kedge('stop', 'kept');
  });

  test('checkpoint: a file that is there is written over only by force, and the guest never stops for it', async () => {
    await kedge('run', '-d', '--name', 'sealed', 'ticks.wasm');
    await kedge('run', '-d', '--name', 'second', 'ticks.wasm');
    assert.equal((await kedge('checkpoint', 'sealed', '-o', 'there.kedge')).code, 0);
    const image = readFileSync(file('there.kedge'));
    const known = () => hosts.gateway.guests().find(({ name }) => name === 'second');
    // Not even the agent is asked.
    for (const how of [[], ['--leave-running'], ['--agent', file('nobody.sock')]]) {
      const { code, stdout, stderr } = await kedge('checkpoint', 'second', ...how, '-o', 'there.kedge');
      assert.deepEqual([code, stdout], [1, '']);
      assert.match(stderr, /^kedge: KEDGE_IMAGE_EXISTS: there\.kedge .*\n {2}hint: name another file, or --force/);
      assert.deepEqual(readFileSync(file('there.kedge')), image);
      assert.equal(known()?.state, 'running');
    }
    const restored = await kedge('restore', '-d', 'there.kedge');
    assert.equal(restored.code, 0, restored.stderr);
    assert.equal((await kedge('checkpoint', 'second', '--force', '-o', 'there.kedge')).code, 0);
    assert.match((await kedge('inspect', 'there.kedge')).stdout, /^guest +second \(/);
    await kedge('restore', '-d', 'there.kedge');
    await kedge('stop', 'second');
    await kedge('stop', 'sealed');
  });

  test('restore and inspect: images that are none', async () => {
    await kedge('run', '-d', '--name', 'sample', 'ticks.wasm');
    await kedge('checkpoint', 'sample', '-o', 'sample.kedge');
    const whole = readFileSync(file('sample.kedge'));
    const damaged = Buffer.from(whole);
    damaged[whole.length - 1] = (damaged.at(-1) ?? 0) ^ 1;
    const cases: [string, Uint8Array, string][] = [
      ['text', Buffer.from('hello, world'), 'KEDGE_IMAGE_NOT_AN_IMAGE'],
      ['half', whole.subarray(0, whole.length / 2), 'KEDGE_IMAGE_TRUNCATED'],
      ['damaged', damaged, 'KEDGE_IMAGE_CORRUPT'],
    ];
    for (const [name, bytes, code] of cases) {
      writeFileSync(file(name), bytes);
      for (const command of ['restore', 'inspect']) {
        const failed = await kedge(command, name);
        assert.equal(failed.code, 1);
        assert.ok(failed.stderr.startsWith(`kedge: ${code}: `), `${command} ${name}: ${failed.stderr}`);
      }
    }
    assert.match((await kedge('inspect', 'missing')).stderr, /^kedge: KEDGE_IMAGE_READ: /);
  });
});
