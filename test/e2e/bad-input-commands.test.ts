/** What people give to the commands and get wrong: said with a stable code and a way out, and nothing is left behind. */
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Hosts, PATIENCE, type MovingGuest } from '../support/hosts.ts';
import { gatewayConfig } from '../support/gateway.ts';
import { PeerDriver } from '../support/peer-driver.ts';
import { run, type Finished } from '../support/process.ts';
import { patternHash } from '../support/stream.ts';
import { ADDRESSES, PROJECT, type Topology } from '../support/topology.ts';
import { waitFor } from '../support/wait.ts';

const STREAM = join(PROJECT, 'build', 'examples', 'stream.wasm');
const KEDGE = join(PROJECT, 'bin', 'kedge');
const GATEWAY = join(PROJECT, 'bin', 'gateway');

/** Failed with this code, one line and perhaps a hint, and printed nothing else. */
function failedWith(ended: Finished, code: string, words = /./, exit = 1): void {
  assert.match(ended.stderr, new RegExp(`^(kedge|gateway): ${code}: [^\\n]+(\\n {2}hint: [^\\n]+)?\\n$`));
  assert.match(ended.stderr, words);
  assert.deepEqual([ended.code, ended.stdout], [exit, '']);
}

/** A module from its text. */
async function wat(topology: Topology, name: string, text: string): Promise<string> {
  const [source, module] = [topology.path(`${name}.wat`), topology.path(`${name}.wasm`)];
  await writeFile(source, text);
  await run(['wat2wasm', source, '-o', module]);
  return module;
}

describe('bad input to commands', { timeout: 300_000 }, () => {
  let hosts: Hosts;
  let guest: MovingGuest;
  before(async () => {
    hosts = await Hosts.up();
    guest = await hosts.run('stream', { publish: true });
  });
  after(() => hosts[Symbol.asyncDispose]());

  const kedge = (...args: string[]): Promise<Finished> => hosts.agents.a.tryCli(args, { timeout: PATIENCE });

  /** The guest of before is the only one, and answers. */
  async function nothingIsLeft(): Promise<void> {
    const { body } = await hosts.gateway.get('/v1/guests');
    const { guests } = body as { guests: { name: string; state: string }[] };
    assert.deepEqual(
      guests.map(({ name, state }) => [name, state]),
      [[guest.name, 'running']],
    );
    const listed = await hosts.clients.a.list();
    assert.deepEqual(
      listed.map(({ name, state }) => [name, state]),
      [[guest.name, 'running']],
    );
  }

  test('modules: not Wasm, cut off, no start, unknown imports of every kind', async () => {
    const { topology } = hosts;
    const text = topology.path('text.wasm');
    await writeFile(text, 'this is no module');
    const cut = topology.path('cut.wasm');
    await writeFile(cut, (await readFile(STREAM)).subarray(0, 5000));
    const start = '(memory (export "memory") 1) (func (export "_start"))';
    const cases: [string, string, RegExp][] = [
      [text, 'KEDGE_MODULE_INVALID', /./],
      [cut, 'KEDGE_MODULE_INVALID', /./],
      [topology.path('nowhere.wasm'), 'KEDGE_MODULE_READ', /nowhere\.wasm/],
      [await wat(topology, 'empty', '(module (memory (export "memory") 1))'), 'KEDGE_MODULE_NO_START', /_start/],
      [
        await wat(topology, 'magic', `(module (import "env" "magic" (func)) ${start})`),
        'KEDGE_IMPORT_UNKNOWN',
        /env\.magic/,
      ],
      [
        await wat(topology, 'future', `(module (import "wasi_snapshot_preview1" "fd_teleport" (func)) ${start})`),
        'KEDGE_IMPORT_UNKNOWN',
        /wasi_snapshot_preview1\.fd_teleport/,
      ],
      [
        await wat(
          topology,
          'typed',
          `(module (import "wasi_snapshot_preview1" "fd_close" (func (param i64))) ${start})`,
        ),
        'KEDGE_IMPORT_TYPE',
        /fd_close/,
      ],
    ];
    for (const [file, code, words] of cases) failedWith(await kedge('run', '-d', file), code, words);
    await nothingIsLeft();
  });

  test('addresses and ports of a guest', async () => {
    const { body } = await hosts.gateway.get('/v1/guests');
    const [{ address } = { address: '' }] = (body as { guests: { address: string }[] }).guests;
    const spawn = (...flags: string[]): Promise<Finished> => kedge('run', '-d', '--name', 'x', ...flags, STREAM, '1');
    failedWith(await spawn('--address', address), 'KEDGE_ADDRESS_IN_USE', new RegExp(guest.name));
    failedWith(await spawn('--address', '10.1.2.3'), 'KEDGE_ADDRESS_OUTSIDE_POOL', /pool/);
    for (const wrong of ['100.64.0.999', '100.64.1', 'localhost', '::1', ''])
      failedWith(await spawn('--address', wrong), 'KEDGE_GUEST_ADDRESS', /is not an IPv4 address/);
    failedWith(await spawn('-p', String(guest.port)), 'KEDGE_PORT_IN_USE', new RegExp(`tcp/${guest.port}`));
    failedWith(await spawn('-p', '80', '-p', '80'), 'KEDGE_PORT_IN_USE', /80/);
    for (const ports of ['0', '65536', 'http', '80:', '80/sctp', '-1']) {
      const { code, stderr } = await spawn('-p', ports);
      assert.equal(code, 2, ports);
      assert.ok(stderr.includes(ports), stderr);
    }
    failedWith(await kedge('run', '-d', '--name', guest.name, STREAM, '1'), 'KEDGE_GUEST_EXISTS');
    await nothingIsLeft();
  });

  test('guests, agents and images that are not there', async () => {
    failedWith(await kedge('stop', 'nobody'), 'KEDGE_GUEST_UNKNOWN', /kedge ps/);
    failedWith(await kedge('migrate', 'nobody', '--to', hosts.agents.b.socket), 'KEDGE_GUEST_UNKNOWN');
    failedWith(await kedge('checkpoint', 'nobody', '-o', hosts.topology.path('image')), 'KEDGE_GUEST_UNKNOWN');
    const nowhere = hosts.topology.path('no-agent.sock');
    for (const args of [['ps'], ['run', '-d', STREAM], ['stop', 'x'], ['logs', 'x'], ['migrate', 'x', '--to', '/x']]) {
      const [command = '', ...rest] = args;
      failedWith(await kedge(command, '--agent', nowhere, ...rest), 'KEDGE_AGENT_UNREACHABLE', /kedge agent --socket/);
    }
    await nothingIsLeft();
  });

  test('agents: unknown leg, a socket that is in use or a file, no gateway', async () => {
    const { topology, gateway, agents } = hosts;
    const agent = (...args: string[]): Promise<Finished> => topology.tryRun('a', [KEDGE, 'agent', ...args]);
    const socket = topology.path('other.sock');
    const good = ['--gateway', gateway.socket, '--leg', 'a'];
    failedWith(await agent('--socket', socket, '--gateway', gateway.socket, '--leg', 'z'), 'KEDGE_LEG_UNKNOWN', /a, b/);
    failedWith(await agent('--socket', agents.a.socket, ...good), 'KEDGE_AGENT_RUNNING');
    const precious = topology.path('precious');
    await writeFile(precious, 'data');
    failedWith(await agent('--socket', precious, ...good), 'KEDGE_SOCKET_PATH');
    assert.equal(await readFile(precious, 'utf8'), 'data');
    failedWith(await agent('--socket', topology.path('no', 'where'), ...good), 'KEDGE_SOCKET_PATH');
    failedWith(await agent('--socket', socket, '--gateway', socket, '--leg', 'a'), 'KEDGE_GATEWAY_UNREACHABLE');
    const env = { KEDGE_FAULT: 'target.nothing:fail' };
    const faulty = await topology.tryRun('a', [KEDGE, 'agent', '--socket', socket, ...good], { env });
    failedWith(faulty, 'KEDGE_USAGE', /target\.nothing/, 2);
    await nothingIsLeft();
  });

  test('configurations of a gateway: refused before anything is changed', async () => {
    const { topology } = hosts;
    const good = gatewayConfig(topology.path('second.sock'));
    const state = (): Promise<string> =>
      topology.run('gw', ['bash', '-c', 'ip rule; ip route show table all; ip -br link']);
    const had = await state();
    const cases: [string, string, RegExp][] = [
      [`${good}\ncolour = "blue"\n`, 'KEDGE_CONFIG_UNKNOWN_KEY', /colour/],
      [`colour = "blue"\n${good}`, 'KEDGE_CONFIG_UNKNOWN_KEY', /colour/],
      [good.replace(ADDRESSES.outside, '10.77.1.300'), 'KEDGE_CONFIG_ADDRESS', /outside.*10\.77\.1\.300/],
      [good.replace(ADDRESSES.b, 'host-b'), 'KEDGE_CONFIG_ADDRESS', /host-b/],
      [good.replace(ADDRESSES.pool, '100.64.0.0/33'), 'KEDGE_CONFIG_PREFIX', /pool/],
      [good.replace('name = "b"', 'name = "a"'), 'KEDGE_CONFIG_DUPLICATE', /./],
      [good.replace('device = "hb0"', 'device = "eth9"'), 'KEDGE_DEVICE_MISSING', /eth9/],
      [good.replace('pool = ', 'pools = '), 'KEDGE_CONFIG_(UNKNOWN|MISSING)_KEY', /pool/],
      [`mtu = 70000\n${good}`, 'KEDGE_CONFIG_VALUE', /mtu/],
      [`mtu = "big"\n${good}`, 'KEDGE_CONFIG_VALUE', /mtu/],
      [`${good}\n[[leg\n`, 'KEDGE_CONFIG_SYNTAX', /./],
      [good, 'KEDGE_GATEWAY_RUNNING', /./],
    ];
    for (const [text, code, words] of cases) {
      const file = topology.path('bad.toml');
      await writeFile(file, text);
      failedWith(await topology.tryRun('gw', [GATEWAY, 'run', '--config', file]), code, words);
    }
    failedWith(await topology.tryRun('gw', [GATEWAY, 'run', '--config', '/nowhere.toml']), 'KEDGE_CONFIG_READ');
    assert.equal(await state(), had);
    await nothingIsLeft();
  });

  test('no gateway: commands say so; a guest that cannot move runs on', async () => {
    const { gateway, agents } = hosts;
    const peer = new PeerDriver(hosts.topology);
    const connection = await peer.connect({ address: ADDRESSES.outside, port: guest.port });
    await connection.say('PUT 0 1\n');
    await connection.hasReceivedText(`OK 0 ${patternHash(1, 0)}\n`);
    await gateway.kill();
    failedWith(await gateway.tryCli('flows', 'list'), 'KEDGE_GATEWAY_UNREACHABLE');
    failedWith(await gateway.tryCli('status'), 'KEDGE_GATEWAY_UNREACHABLE');
    failedWith(await kedge('migrate', guest.name, '--to', agents.b.socket), 'KEDGE_GATEWAY_UNREACHABLE', /stage check/);
    const image = join(agents.a.stateDirectory, 'image.kedge');
    failedWith(await kedge('checkpoint', guest.name, '-o', image), 'KEDGE_GATEWAY_UNREACHABLE', /stage check/);
    failedWith(await kedge('run', '-d', STREAM, '1'), 'KEDGE_GATEWAY_UNREACHABLE');
    const [listed] = await hosts.clients.a.list();
    assert.deepEqual([listed?.name, listed?.state], [guest.name, 'running']);
    // It can be stopped all the same, and the agent says that the gateway does not know.
    await kedge('stop', guest.name);
    await waitFor(() => /the gateway was not told/.test(agents.a.running.stderr), { what: 'a warning' });
  });
});
