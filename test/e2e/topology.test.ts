/**
 * The ground the end-to-end tests stand on: topology, captures, fields, checksums, counters and peers, with the kernel's own NAT
 * in the gateway's place. What is right here with the kernel is known to be no fault of Kedge's when it is wrong there.
 */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readdir, readlink } from 'node:fs/promises';
import { after, before, describe, test } from 'node:test';
import { BothSidesCapture, Capture, TAPS } from '../support/capture.ts';
import { assertClean, checkConversation, longestGap, readBothSides } from '../support/checker.ts';
import { SYN, readFields, readTcp } from '../support/fields.ts';
import { HARM, TROUBLE, difference, pick, readCounters } from '../support/nstat.ts';
import { Download, curl, hashFile, iperf3, iperf3Server, nc, nginx, socat, waitListening } from '../support/peers.ts';
import { run, tryRun } from '../support/process.ts';
import { ADDRESSES, PLACES, PROJECT, Topology, topologiesUp } from '../support/topology.ts';
import { waitFor } from '../support/wait.ts';

const GUEST = '100.64.0.1';
const SCRIPT = `${PROJECT}/netns-scripts/two-hosts.sh`;
const RECIPE = `${PROJECT}/netns-scripts/host-recipe.sh`;

/** Ids of all processes in a network namespace with this inode (from `ip netns` or /proc). */
async function processesIn(namespace: string): Promise<string[]> {
  const found: string[] = [];
  for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
    if ((await readlink(`/proc/${pid}/ns/net`).catch(() => '')) === namespace) found.push(pid);
  }
  return found;
}

describe('two-hosts', { timeout: 120_000 }, () => {
  test('leaves nothing behind: no namespace, no process, no device, no file', async () => {
    const devices = await run(['ip', '-br', 'link']);
    const topology = await Topology.up();
    const { name, directory } = topology;
    assert.deepEqual((await topologiesUp()).get(name), process.pid);
    const inodes = await Promise.all(
      PLACES.map(async (place) => (await topology.run(place, ['readlink', '/proc/self/ns/net'])).trim()),
    );
    // One that we know of and one that we do not, deaf to SIGTERM.
    topology.spawn('a', ['sleep', '1000']);
    await topology.run('b', ['bash', '-c', 'trap "" TERM; sleep 1000 >/dev/null 2>&1 & disown']);
    assert.equal((await Promise.all(inodes.map(processesIn))).flat().length, 2);
    await topology.down();
    assert.equal((await topologiesUp()).has(name), false);
    assert.equal(existsSync(directory), false);
    assert.deepEqual((await Promise.all(inodes.map(processesIn))).flat(), []);
    assert.equal(await run(['ip', '-br', 'link']), devices);
    await topology.down();
  });

  test('is safe to repeat, up and down', async () => {
    const name = `kt${process.pid}-0000`;
    try {
      for (let round = 0; round < 2; round++) {
        await run([SCRIPT, 'up', name]);
        await run([
          'nsenter',
          `--net=/run/netns/${name}-peer`,
          '--',
          'ip',
          'addr',
          'add',
          '10.99.0.1/24',
          'dev',
          'eth0',
        ]);
      }
      await run([SCRIPT, 'up', name, '--mtu', '9000']);
      const address = await run([
        'nsenter',
        `--net=/run/netns/${name}-peer`,
        '--',
        'ip',
        '-br',
        'addr',
        'show',
        'eth0',
      ]);
      assert.match(address, /10\.77\.1\.2\/24/);
      assert.doesNotMatch(address, /10\.99/);
      const env = await run([SCRIPT, 'env', name]);
      assert.match(env, new RegExp(`^GW_NS=${name}-gw$`, 'm'));
      assert.match(env, new RegExp(`^OUTSIDE_ADDRESS=${ADDRESSES.outside}$`, 'm'));
      assert.ok(env.split('\n').every((line) => line === '' || /^[A-Z_]+=\S+$/.test(line)));
    } finally {
      await run([SCRIPT, 'down', name]);
    }
    await run([SCRIPT, 'down', name]);
    assert.equal((await topologiesUp()).has(name), false);
  });

  test('what a killed run left is removed by the next', async () => {
    // The id of a process that has ended.
    const pid = (await run(['bash', '-c', 'echo $$'])).trim();
    const name = `kt${pid}-dead`;
    await run([SCRIPT, 'up', name]);
    await using topology = await Topology.up();
    assert.deepEqual([...(await topologiesUp()).keys()].includes(name), false);
    assert.ok((await topologiesUp()).has(topology.name));
  });

  test('an up that fails takes back what it made', async () => {
    const name = `kt${process.pid}-fa11`;
    // A failing ip command in the middle: the first two namespaces exist by then.
    const directory = (await run(['mktemp', '-d'])).trim();
    try {
      const broken = '#!/bin/sh\ncase "$*" in "netns add "*-a) exit 1;; esac\nexec /sbin/ip "$@"\n';
      await run(['bash', '-c', `cat >${directory}/ip && chmod +x ${directory}/ip`], { input: broken });
      const { code, stderr } = await tryRun([SCRIPT, 'up', name], {
        env: { PATH: `${directory}:${process.env['PATH']}` },
      });
      assert.equal(code, 1);
      assert.match(stderr, /up failed; nothing is left/);
      assert.equal((await topologiesUp()).has(name), false);
    } finally {
      await run(['rm', '-r', directory]);
    }
  });

  test('says what is wrong with its arguments', async () => {
    const cases = [
      [['up'], 2, /usage/],
      [['fly', 'x1'], 2, /usage/],
      [['up', 'a/b'], 1, /bad name/],
      [['up', 'x1', '--mtu', '10'], 2, /--mtu 576/],
      [['up', 'x1', '--rps', '2'], 2, /--rps one\|all/],
      [['env', 'kt-not-there'], 1, /is not up/],
      [['loss', 'kt-not-there', 'peer', '1%'], 1, /is not up/],
    ] as const;
    for (const [args, code, message] of cases) {
      const finished = await tryRun([SCRIPT, ...args]);
      assert.equal(finished.code, code, args.join(' '));
      assert.match(finished.stderr, message);
    }
    assert.equal((await tryRun([RECIPE, 'up'])).code, 2);
  });

  test('the host recipe can be taken back and put on again', async () => {
    await using topology = await Topology.up();
    const rules = async (): Promise<string> => await topology.run('a', ['ip', '-4', 'rule', 'show']);
    const local = async (): Promise<string> => await topology.run('a', ['ip', '-4', 'route', 'show', 'table', 'all']);
    const args = [ADDRESSES.pool, ADDRESSES.gwA, 'eth0'];
    const on = { rules: await rules(), routes: await local() };
    for (let round = 0; round < 2; round++) await topology.run('a', [RECIPE, 'down', ...args]);
    const fresh = await tryRun(['unshare', '-n', 'ip', '-4', 'rule', 'show']);
    assert.equal(await rules(), fresh.stdout);
    assert.doesNotMatch(await local(), /100\.64|table 100/);
    for (let round = 0; round < 2; round++) await topology.run('a', [RECIPE, 'up', ...args]);
    assert.deepEqual({ rules: await rules(), routes: await local() }, on);
  });

  test('the host recipe leaves rules of others alone, and says which is in its way', async () => {
    await using topology = await Topology.up();
    const args = [ADDRESSES.pool, ADDRESSES.gwA, 'eth0'];
    await topology.run('a', [RECIPE, 'down', ...args]);
    await topology.run('a', ['ip', '-4', 'rule', 'add', 'pref', '10', 'from', '192.0.2.1', 'lookup', '77']);
    const show = async (): Promise<string> =>
      await topology.run('a', ['sh', '-c', 'ip -4 rule show; ip -4 route show table all']);
    const found = await show();
    const refused = await topology.tryRun('a', [RECIPE, 'up', ...args]);
    assert.equal(refused.code, 1);
    assert.match(refused.stderr, /^host-recipe\.sh: rule 10 is taken: "from 192\.0\.2\.1 lookup 77"/);
    assert.equal(await show(), found);
    await topology.run('a', [RECIPE, 'down', ...args]);
    assert.equal(await show(), found);
  });
});

describe('through the kernel as gateway', { timeout: 120_000 }, () => {
  let topology: Topology;
  before(async () => {
    topology = await Topology.up({ offload: 'off' });
    await topology.script('kernel-nat', GUEST);
  });
  after(async () => {
    await topology.down();
  });

  test('an unprivileged process on a host serves and connects from a guest address, and the peer sees the outside address', async () => {
    const nobody = ['setpriv', '--reuid', '65534', '--regid', '65534', '--clear-groups'];
    const server = topology.spawn('a', [...nobody, 'socat', `TCP4-LISTEN:8000,bind=${GUEST}`, 'EXEC:cat']);
    await waitListening(topology, 'a', 8000, server);
    const chat = socat(topology, 'peer', ADDRESSES.outside, 8000);
    chat.say('hello');
    await chat.hear(/^hello$/);
    chat.finish();
    await chat.running.done();
    const listener = topology.spawn('peer', ['socat', '-d', '-d', 'TCP4-LISTEN:9000', 'EXEC:cat']);
    await waitListening(topology, 'peer', 9000, listener);
    const talk = nc(topology, 'a', ADDRESSES.peer, 9000, ['-s', GUEST]);
    talk.say('and back');
    await talk.hear(/^and back$/);
    talk.finish();
    await talk.running.done();
    assert.match(listener.stderr, new RegExp(`accepting connection from AF=2 ${ADDRESSES.outside}`));
  });

  test('an address of the host cannot be reached past the translation', async () => {
    const finished = await topology.tryRun('peer', ['nc', '-z', '-w', '1', ADDRESSES.a, '80']);
    assert.notEqual(finished.code, 0);
  });

  test('a download is captured whole on both sides, and the checker finds nothing', async () => {
    const content = randomBytes(4 * 1024 * 1024);
    await nginx(topology, { place: 'a', address: GUEST, port: 8080, files: { data: content } });
    const counters = await readCounters(topology, 'peer');
    await using capture = await BothSidesCapture.start(topology, { full: true });
    const download = await curl(topology, 'peer', `http://${ADDRESSES.outside}:8080/data`);
    const rows = await readBothSides(await capture.stop());
    assert.equal(download.bytes, content.length);

    const harmed = difference(counters, await readCounters(topology, 'peer'));
    assert.deepEqual(pick(harmed, HARM), {});
    const syn = rows.peer.find((row) => row.flags === SYN);
    assert.ok(syn !== undefined);
    const peer = { address: ADDRESSES.peer, port: syn.srcPort };
    const outside = { address: ADDRESSES.outside, port: 8080 };
    const report = checkConversation(rows, { peer, outside, guest: { address: GUEST, port: 8080 } });
    assertClean(report);
    assert.deepEqual(
      report.epochs.map(({ leg, isn }) => ({ leg, isn })),
      [{ leg: 'a', isn: report.conversation.peerSide.find((row) => row.outbound)?.seq }],
    );
    assert.equal(report.deltas[0]?.delta, 0);
    const payload = report.conversation.peerSide.filter((row) => row.outbound).reduce((sum, row) => sum + row.len, 0);
    assert.ok(payload >= content.length, `${payload} bytes on the wire`);
    assert.ok(
      report.conversation.peerSide.every((row) => row.len <= 1460),
      'whole frames only',
    );
    assert.ok(longestGap(report.conversation.peerSide).ms < 1000);
    assert.equal(rows.legs['b']?.length, 0);
  });

  test('with loss at the peer the stream is whole, captures show what arrived, and checks of the stream still hold', async () => {
    const content = randomBytes(4 * 1024 * 1024);
    await nginx(topology, { place: 'a', address: GUEST, port: 8081, files: { data: content } });
    await topology.lossAtPeer('1%');
    try {
      const counters = await readCounters(topology, 'a');
      await using capture = await BothSidesCapture.start(topology, { full: true });
      const download = new Download(topology, 'peer', `http://${ADDRESSES.outside}:8081/data`);
      assert.equal((await download.result()).bytes, content.length);
      const rows = await readBothSides(await capture.stop());
      assert.ok((difference(counters, await readCounters(topology, 'a'))['TcpRetransSegs'] ?? 0) > 0);
      const port = rows.peer.find((row) => row.flags === SYN)?.srcPort ?? 0;
      const tuple = {
        peer: { address: ADDRESSES.peer, port },
        outside: { address: ADDRESSES.outside, port: 8081 },
        guest: { address: GUEST, port: 8081 },
      };
      assertClean(checkConversation(rows, tuple));
      assert.ok(rows.peer.some((row) => row.sack.length > 0));
    } finally {
      await topology.noLossAtPeer();
    }
    const counters = await readCounters(topology, 'a');
    await curl(topology, 'peer', `http://${ADDRESSES.outside}:8081/data`);
    assert.equal(difference(counters, await readCounters(topology, 'a'))['TcpRetransSegs'] ?? 0, 0);
  });

  test('iperf3 in both directions', async () => {
    for (const direction of [[], ['--reverse']]) {
      const server = await iperf3Server(topology, 'a', GUEST);
      const result = await iperf3(topology, 'peer', ADDRESSES.outside, ['--bytes', '8M', ...direction]);
      assert.ok(result.bytes > 4 * 1024 * 1024, `${result.bytes} bytes received`);
      await server.done();
    }
  });

  test('a guest that downloads from nginx of the peer', async () => {
    const content = randomBytes(100_000);
    await nginx(topology, { files: { 'index.html': content } });
    const file = topology.path('expected');
    await run(['bash', '-c', `cp ${topology.path('nginx-*')}/html/index.html ${file}`]);
    const download = await curl(topology, 'a', `http://${ADDRESSES.peer}/`, ['--interface', GUEST]);
    assert.deepEqual(download, await hashFile(file));
  });

  test('a capture in the peer shows UDP and other fields too', async () => {
    await using capture = await Capture.start(topology, TAPS.peer, { full: true, filter: 'udp port 7777' });
    await topology.run('peer', ['bash', '-c', `printf hello >/dev/udp/${ADDRESSES.outside}/7777`]);
    const rows = await readFields(await capture.stop(), 'udp.dstport == 7777', [
      'ip.dst',
      'udp.length',
      'udp.checksum.status',
    ]);
    assert.deepEqual(rows, [[ADDRESSES.outside, '13', '1']]);
    assert.deepEqual(await readTcp(capture.file), []);
  });

  test('a second stop of a capture is the first, and one that cannot start says why', async () => {
    const capture = await Capture.start(topology, TAPS.gwB);
    assert.equal(await capture.stop(), await capture.stop());
    const nowhere = { ...TAPS.gwB, device: 'nowhere' };
    await assert.rejects(Capture.start(topology, nowhere), /nowhere/);
  });

  test('every counter we name is one the kernel has', async () => {
    const counters = await readCounters(topology, 'peer');
    for (const name of [...HARM, ...TROUBLE]) assert.ok(name in counters, name);
    assert.deepEqual(difference({ A: 1, B: 2 }, { A: 1, B: 5, C: 1 }), { B: 3, C: 1 });
    assert.deepEqual(pick({ B: 3, C: 1, D: 0 }, ['A', 'B', 'D']), { B: 3 });
  });

  test('programs are ended by their id, with their children', async () => {
    const running = topology.spawn('a', ['bash', '-c', 'sleep 1000 & echo $!; wait']);
    const child = await waitFor(() => running.stdout.trim(), { what: 'the id of the child' });
    await running.stop();
    await waitFor(() => !existsSync(`/proc/${child}`), { what: 'the end of the child' });
    assert.equal(running.running, false);
  });

  test('waiting fails with what was waited for and seen', async () => {
    await assert.rejects(
      waitFor(() => 0, { timeout: 20, what: 'a miracle' }),
      /waited 20 ms for a miracle; last seen: 0/,
    );
    const never = waitFor(() => Promise.reject(new Error('not yet')), { timeout: 20, explain: () => 'the log' });
    await assert.rejects(never, /last seen: not yet\nthe log/);
    assert.equal(await waitFor(() => 7), 7);
  });
});
