/**
 * What the gateway daemon changes in its network namespace: that packets find their way by it, and that nothing of it is left, however
 * the daemon ends.
 */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { after, before, beforeEach, describe, test } from 'node:test';
import { GatewayClient } from '../../src/gateway/admin/client.ts';
import { Gateway, gatewayConfig } from '../support/gateway.ts';
import { waitListening } from '../support/peers.ts';
import type { Finished } from '../support/process.ts';
import { ADDRESSES, PROJECT, Topology } from '../support/topology.ts';
import type { Place } from '../support/topology.ts';
import { unprivileged } from '../support/unprivileged.ts';
import { waitFor } from '../support/wait.ts';

const COMMAND = `${PROJECT}/bin/gateway`;
const GUEST = '100.64.0.1';
const SYSCTLS = [
  'net/ipv4/ip_forward',
  'net/ipv4/neigh/up0/proxy_delay',
  ...['all', 'up0', 'ha0', 'hb0'].map((device) => `net/ipv4/conf/${device}/rp_filter`),
];

/** Everything of the gateway's namespace that the daemon may change. */
async function state(topology: Topology): Promise<string> {
  const commands = [
    ['ip', '-4', 'rule', 'show'],
    ['ip', '-4', 'route', 'show', 'table', 'all'],
    ['ip', '-br', 'link'],
    ['ip', '-4', 'neigh', 'show', 'proxy'],
    ['head', '-v', ...SYSCTLS.map((path) => `/proc/sys/${path}`)],
  ];
  const shown: string[] = [];
  for (const command of commands) shown.push(`${command.join(' ')}\n${await topology.run('gw', command)}`);
  return shown.join('\n');
}

async function setSysctl(topology: Topology, path: string, value: string): Promise<void> {
  await topology.run('gw', ['sh', '-c', 'echo "$1" >"/proc/sys/$0"', path, value]);
}

/** What comes back from an echo over a new connection. */
async function echo(topology: Topology, place: Place, address: string, from = ''): Promise<string> {
  const target = `TCP4:${address},connect-timeout=5${from === '' ? '' : `,bind=${from}`}`;
  return await topology.run(place, ['socat', '-t', '5', '-', target], { input: 'there and back' });
}

async function echoServer(topology: Topology, place: Place, address: string, port: number): Promise<void> {
  const listen = `TCP4-LISTEN:${port},bind=${address},reuseaddr,fork`;
  const server = topology.spawn(place, ['socat', listen, 'EXEC:cat']);
  await waitListening(topology, place, port, server);
}

describe('gateway routes', { timeout: 120_000 }, () => {
  let topology: Topology;
  let pristine: string;
  let socket: string;
  before(async () => {
    topology = await Topology.up();
    pristine = await state(topology);
    socket = topology.path('gateway.sock');
    await echoServer(topology, 'a', GUEST, 80);
    await echoServer(topology, 'peer', ADDRESSES.peer, 7);
    await echoServer(topology, 'gw', ADDRESSES.gwA, 7);
  });
  after(async () => {
    await topology.down();
  });

  /** Runs `gateway run` to its end, which must be soon. */
  async function fails(config: string, prefix: readonly string[] = []): Promise<Finished> {
    const file = topology.path('wrong.toml');
    await writeFile(file, config);
    const finished = await topology.tryRun('gw', [...prefix, COMMAND, 'run', '--config', file]);
    assert.deepEqual([finished.code, finished.stdout], [1, ''], finished.stderr);
    return finished;
  }

  async function registered(): Promise<Gateway> {
    const gateway = await Gateway.start(topology);
    const publish = [{ proto: 'tcp', outsidePort: 8080, guestPort: 80 }];
    const body = { id: randomUUID(), name: 'g', address: GUEST, leg: 'a', publish };
    assert.equal((await gateway.post('/v1/guests', body)).status, 201);
    return gateway;
  }

  describe('while it runs', () => {
    let gateway: Gateway;
    before(async () => {
      gateway = await registered();
    });
    after(async () => {
      const { code } = await gateway.running.stop(5000);
      assert.equal(code, 0, gateway.running.describe());
      assert.equal(await state(topology), pristine);
    });

    test('says so in one line on stdout', () => {
      assert.equal(gateway.running.stdout, `gateway ready socket=${socket} legs=a,b\n`);
    });

    test('a peer reaches a published port', async () => {
      assert.equal(await echo(topology, 'peer', `${ADDRESSES.outside}:8080`), 'there and back');
    });

    test('a guest reaches a peer, who sees the outside address', async () => {
      assert.equal(await echo(topology, 'a', `${ADDRESSES.peer}:7`, GUEST), 'there and back');
      const flows = await gateway.flows(`?peer=${ADDRESSES.peer}:7`);
      assert.match(flows[0]?.outside ?? '', new RegExp(`^${ADDRESSES.outside}:`));
    });

    test('a guest reaches a service of the gateway’s own machine, translated as any', async () => {
      assert.equal(await echo(topology, 'a', `${ADDRESSES.gwA}:7`, GUEST), 'there and back');
      assert.equal((await gateway.flows(`?peer=${ADDRESSES.gwA}:7`)).length, 1);
    });

    test('the gateway’s own machine reaches a published port', async () => {
      assert.equal(await echo(topology, 'gw', `${ADDRESSES.outside}:8080`), 'there and back');
    });

    test('a host’s own traffic passes the gateway by', async () => {
      const earlier = await gateway.status();
      assert.equal(await echo(topology, 'a', `${ADDRESSES.gwA}:7`), 'there and back');
      assert.equal((await gateway.status()).flows, earlier.flows);
    });

    test('strict reverse-path checks on all devices do not matter', async () => {
      await setSysctl(topology, 'net/ipv4/conf/all/rp_filter', '1');
      try {
        assert.equal(await echo(topology, 'peer', `${ADDRESSES.outside}:8080`), 'there and back');
        assert.equal(await echo(topology, 'a', `${ADDRESSES.gwA}:7`, GUEST), 'there and back');
      } finally {
        await setSysctl(topology, 'net/ipv4/conf/all/rp_filter', '0');
      }
    });

    test('only those the socket’s mode names may use it', async () => {
      assert.match(await topology.run('gw', ['stat', '-c', '%a %g', socket]), /^660 65534\n$/);
    });

    test('a second one is refused, and the first is none the worse', async () => {
      const during = await state(topology);
      const same = await fails(gatewayConfig(socket));
      assert.match(same.stderr, /^gateway: KEDGE_GATEWAY_RUNNING: a gateway already answers at /m);
      const other = await fails(gatewayConfig(topology.path('other.sock')));
      assert.match(other.stderr, /^gateway: KEDGE_GATEWAY_RUNNING: another gateway runs in this network namespace/m);
      assert.equal(existsSync(topology.path('other.sock')), false);
      assert.equal(await state(topology), during);
      assert.equal(await echo(topology, 'peer', `${ADDRESSES.outside}:8080`), 'there and back');
    });
  });

  describe('when it was killed', () => {
    test('the next start clears what was left, and takes all back at its end', async () => {
      await setSysctl(topology, 'net/ipv4/ip_forward', '0');
      const forwardOff = await state(topology);
      try {
        const first = await registered();
        const during = await state(topology);
        assert.notEqual(during, forwardOff);
        await first.kill();
        assert.match(await topology.run('gw', ['ip', '-4', 'rule']), /iif kg-a \[detached\] lookup 5602/);
        assert.equal(existsSync(socket), true);

        const second = await registered();
        assert.equal(await state(topology), during);
        assert.equal(await echo(topology, 'peer', `${ADDRESSES.outside}:8080`), 'there and back');
        assert.equal((await second.running.stop(5000)).code, 0, second.running.describe());
        assert.equal(await state(topology), forwardOff);
        assert.equal(existsSync(socket), false);
        assert.equal(existsSync(`${socket}.routes.json`), false);
      } finally {
        await setSysctl(topology, 'net/ipv4/ip_forward', '1');
      }
    });

    test('a start with another configuration clears it as well', async () => {
      const first = await registered();
      await first.kill();
      // One leg fewer, of another name.
      const config = gatewayConfig(socket)
        .replace(/\[\[leg\]\]\nname = "b"[^]*$/, '')
        .replace('name = "a"', 'name = "x"');
      const file = topology.path('other.toml');
      await writeFile(file, config);
      const second = await Gateway.start(topology, { configFile: file });
      const rules = await topology.run('gw', ['ip', '-4', 'rule']);
      assert.equal(rules.includes('detached'), false, rules);
      assert.equal(rules.includes('hb0'), false, rules);
      assert.equal((await second.running.stop(5000)).code, 0, second.running.describe());
      assert.equal(await state(topology), pristine);
    });

    test('a start that fails late takes back what the killed one left, too', async () => {
      const first = await registered();
      await first.kill();
      const failed = await fails(gatewayConfig(socket).replace(ADDRESSES.b, '10.99.0.1'));
      assert.match(
        failed.stderr,
        /^gateway: KEDGE_ROUTES_FAILED: ip -4 route replace default via 10\.99\.0\.1 dev hb0/m,
      );
      assert.equal(await state(topology), pristine);
    });
  });

  describe('when it ends by itself', () => {
    test('because a device went away: it says so, takes the rest back and fails', async () => {
      const gateway = await registered();
      await topology.run('gw', ['ip', 'link', 'del', 'kg-b']);
      const { code, stderr } = await gateway.running.ended;
      assert.equal(code, 1);
      assert.match(stderr, /^gateway: KEDGE_PUMP_FAILED: the pump died: /m);
      assert.equal(await state(topology), pristine);
      assert.equal(existsSync(socket), false);
    });

    for (const signal of ['SIGINT', 'SIGHUP'] as const) {
      test(`because of ${signal}`, async () => {
        const gateway = await registered();
        gateway.running.signal(signal);
        assert.equal((await gateway.running.ended).code, 0);
        assert.equal(await state(topology), pristine);
      });
    }

    test('and not because nobody takes what it says', async () => {
      const file = topology.path('gw.toml');
      await writeFile(file, gatewayConfig(socket));
      // A reader that is gone before the first line, and a full disk.
      for (const output of ['> >(true) 2>&1', '>/dev/full 2>&1']) {
        const script = `exec "$0" run --config "$1" ${output}`;
        const running = topology.spawn('gw', ['bash', '-c', script, COMMAND, file]);
        const client = new GatewayClient(socket);
        const health = (): Promise<unknown> => client.health().catch(() => undefined);
        await waitFor(async () => (await health()) !== undefined, { what: `an answer, ${output}` });
        client.close();
        running.signal('SIGTERM');
        assert.equal((await running.ended).code, 0, output);
        assert.equal(await state(topology), pristine);
      }
    });

    test('because of a signal while it starts', async () => {
      const file = topology.path('gw.toml');
      await writeFile(file, gatewayConfig(socket));
      const running = topology.spawn('gw', [COMMAND, 'run', '--config', file]);
      await waitFor(async () => (await topology.run('gw', ['ip', '-br', 'link'])).includes('kg-out'), { interval: 1 });
      running.signal('SIGTERM');
      assert.equal((await running.ended).code, 0, running.describe());
      assert.equal(await state(topology), pristine);
    });
  });

  describe('when it cannot start, it says why and changes nothing', () => {
    beforeEach(async () => {
      assert.equal(await state(topology), pristine);
    });
    after(async () => {
      assert.equal(await state(topology), pristine);
    });

    test('without privilege', async () => {
      const prefix = await unprivileged();
      const { stderr } = await fails(gatewayConfig(socket), prefix);
      assert.match(stderr, /^gateway: KEDGE_TUN_PERMISSION: .*\n {2}hint: .*(?:CAP_NET_ADMIN|root)/m);
      assert.equal(existsSync(socket), false);
    });

    test('without /dev/net/tun', async () => {
      const hide = 'mount -t tmpfs none /dev/net && exec "$@"';
      const { stderr } = await fails(gatewayConfig(socket), ['unshare', '-m', 'sh', '-c', hide, 'sh']);
      assert.match(stderr, /^gateway: KEDGE_TUN_MISSING: .*\/dev\/net\/tun/m);
    });

    test('without the ip command', async () => {
      const inert = topology.path('inert');
      await writeFile(inert, '', { mode: 0o644 });
      const { stderr } = await fails(gatewayConfig(socket), [
        'unshare',
        '-m',
        'sh',
        '-c',
        // Wherever it is looked for, there is a file that cannot be run.
        'for f in /sbin/ip /usr/sbin/ip /bin/ip /usr/bin/ip; do if [ -e $f ]; then mount --bind "$0" $f; fi; done; exec "$@"',
        inert,
      ]);
      assert.match(stderr, /^gateway: KEDGE_IP_COMMAND_MISSING: /m);
    });

    test('a device there is not', async () => {
      const { stderr } = await fails(gatewayConfig(socket).replace('"hb0"', '"hb9"'));
      assert.match(stderr, /^gateway: KEDGE_DEVICE_MISSING: leg\[1\]\.device: there is no network device hb9 here$/m);
      assert.match(stderr, /^ {2}hint: devices of this network namespace: .*ha0/m);
    });

    test('an outside address that is this machine’s own', async () => {
      const { stderr } = await fails(gatewayConfig(socket).replace(ADDRESSES.outside, ADDRESSES.gwPeer));
      assert.match(
        stderr,
        /^gateway: KEDGE_OUTSIDE_ADDRESS_LOCAL: outside\.address: 10\.77\.1\.1 is assigned to up0$/m,
      );
    });

    test('addresses that only this machine has, or nobody', async () => {
      const good = gatewayConfig(socket);
      const own = new RegExp(`${ADDRESSES.gwA.replaceAll('.', '\\.')} is this machine's own, on ha0`);
      for (const [wrong, words] of [
        [good.replace(ADDRESSES.a, ADDRESSES.gwA), own],
        [good.replace(ADDRESSES.outside, '10.77.1.255'), /outside\.address: .* broadcast address of up0/],
        [good.replace(ADDRESSES.outside, '10.77.1.0'), /outside\.address: .* network or/],
        [good.replace('100.64.0.0/10', '10.77.1.0/29'), /pool: 10\.77\.1\.1 in 10\.77\.1\.0\/29 is assigned to up0/],
      ] as const) {
        const { stderr } = await fails(wrong);
        assert.match(stderr, /^gateway: KEDGE_CONFIG_CONFLICT: .*\n {2}hint: ip address show dev /m);
        assert.match(stderr, words);
      }
    });

    test('a host that is not on the device', async () => {
      const { stderr } = await fails(gatewayConfig(socket).replace(ADDRESSES.a, '10.99.0.1'));
      assert.match(stderr, /^gateway: KEDGE_ROUTES_FAILED: ip -4 route replace default via 10\.99\.0\.1 dev ha0 /m);
    });

    test('a group there is not', async () => {
      const { stderr } = await fails(gatewayConfig(socket).replace('"65534"', '"no-such-group"'));
      assert.match(stderr, /^gateway: KEDGE_CONFIG_VALUE: socket_group: there is no group no-such-group/m);
    });

    test('something else where its socket should be', async () => {
      const file = topology.path('precious');
      await writeFile(file, 'mine');
      const { stderr } = await fails(gatewayConfig(file));
      assert.match(stderr, /^gateway: KEDGE_SOCKET_PATH: .* is no socket$/m);
      assert.equal(await readFile(file, 'utf8'), 'mine');
    });

    test('a folder that takes no file', async () => {
      const { stderr } = await fails(gatewayConfig('/proc/gateway.sock'));
      assert.match(
        stderr,
        /^gateway: KEDGE_SOCKET_PATH: cannot write \/proc\/gateway\.sock\.routes\.json, .*\n {2}hint: /m,
      );
    });

    test('a folder that cannot be made', async () => {
      const { stderr } = await fails(gatewayConfig('/proc/nothing/gateway.sock'));
      assert.match(stderr, /^gateway: KEDGE_SOCKET_PATH: cannot listen at \/proc\/nothing\/gateway\.sock: /m);
    });
  });
});
