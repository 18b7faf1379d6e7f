import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { after, before, beforeEach, describe, test } from 'node:test';
import { findGuest } from '../../../src/cli/gateway/guests.ts';
import { parsePeer, parseState } from '../../../src/cli/gateway/flows.ts';
import { renderTable } from '../../../src/cli/table.ts';
import { KedgeError } from '../../../src/errors.ts';
import { VERSION } from '../../../src/version.ts';
import { FLOW, FakeGateway, GUEST, STATUS } from './admin-fake.ts';

const GATEWAY = join(import.meta.dirname, '..', '..', '..', 'src', 'cli', 'gateway.ts');

type Ended = { code: number; stdout: string; stderr: string };

function gateway(args: readonly string[], env: Record<string, string> = {}): Promise<Ended> {
  return new Promise((resolve) => {
    const options = { env: { ...process.env, ...env }, timeout: 20_000 };
    execFile(process.execPath, [GATEWAY, ...args], options, (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : Number(error.code ?? -1), stdout, stderr });
    });
  });
}

describe('gateway', { concurrency: 2 }, () => {
  let fake: FakeGateway;
  let env: Record<string, string>;
  before(async () => {
    fake = await FakeGateway.start();
    env = { KEDGE_GATEWAY: fake.socket };
  });
  after(() => fake[Symbol.asyncDispose]());

  test('flows list: a table', async () => {
    assert.deepEqual(await gateway(['flows', 'list'], env), {
      code: 0,
      stderr: '',
      stdout: [
        'ID  PROTO  STATE       GUEST  GUEST-ADDRESS  OUTSIDE          PEER                LEG    AGE  BYTES-OUT       BYTES-IN  PKTS-OUT  PKTS-IN  CUSTODY  SPLICES  FROZEN  FAST',
        ' 7  tcp    CLOSE-WAIT  chat   100.64.0.1:80  192.0.2.10:8080  198.51.100.7:43210  a    2m05s       1000  1099511627776        10       20      300        2  yes     -',
        '',
      ].join('\n'),
    });
  });

  test('flows list: JSON is what the API answers', async () => {
    const { code, stdout } = await gateway(['flows', 'list', '-o', 'json', '--socket', fake.socket]);
    assert.equal(code, 0);
    assert.deepEqual(JSON.parse(stdout), { flows: [FLOW] });
  });

  test('flows show: everything', async () => {
    const { code, stdout } = await gateway(['flows', 'show', '7'], env);
    assert.equal(code, 0);
    const lines = new Map(
      stdout
        .trimEnd()
        .split('\n')
        .map((line) => [line.slice(0, 20).trim(), line.slice(20)]),
    );
    assert.equal(lines.get('state'), 'CLOSE-WAIT, frozen');
    assert.match(lines.get('SEQ delta') ?? '', /^4294967295 /);
    assert.equal(lines.get('guest ISN'), '1 first, 3 now');
    assert.match(lines.get('SND.UNA, SND.NXT') ?? '', /^-1, 5000000000 /);
    assert.equal(lines.get('peer window'), '501 << 7');
    assert.equal(lines.get('timestamps'), 'delta 11, last to peer 12, from peer 13');
    assert.equal(lines.get('custody ranges'), '[100, 300) [400, 500)');
    assert.equal(lines.get('movable'), 'yes');
    assert.deepEqual(JSON.parse((await gateway(['flows', 'show', '7', '-o', 'json'], env)).stdout), FLOW);
  });

  test('flows show of one that is not there fails', async () => {
    const { code, stdout, stderr } = await gateway(['flows', 'show', '8'], env);
    assert.deepEqual([code, stdout], [1, '']);
    assert.match(stderr, /^gateway: KEDGE_FLOW_UNKNOWN: there is no flow 8/);
  });

  test('guests list', async () => {
    const { code, stdout } = await gateway(['guests', 'list'], env);
    assert.equal(code, 0);
    assert.equal(
      stdout,
      [
        'GUEST  ADDRESS     STATE   LEG  EPOCH  FLOWS  PUBLISH       ID',
        `chat   100.64.0.1  frozen  a        3      1  8080->80/tcp  ${GUEST.id}`,
        '',
      ].join('\n'),
    );
    const json = await gateway(['guests', 'list', '--output', 'json'], env);
    assert.deepEqual(JSON.parse(json.stdout), { guests: [GUEST] });
  });

  test('guests rm: by name, id or address; what is refused is said', async () => {
    const { id } = GUEST;
    for (const word of ['chat', id, '100.64.0.1'])
      assert.deepEqual(await gateway(['guests', 'rm', word], env), { code: 0, stdout: 'chat\n', stderr: '' });
    assert.deepEqual((await gateway(['guests', 'rm', '--force', 'chat'], env)).code, 0);
    assert.deepEqual((await gateway(['guests', 'rm', 'chat', '-f'], env)).code, 0);
    const args = { id, epoch: GUEST.epoch };
    assert.deepEqual(
      fake.calls.splice(0),
      [false, false, false, true, true].map((force) => ({ verb: 'remove', args: { ...args, force } })),
    );
    const unknown = await gateway(['guests', 'rm', 'nobody'], env);
    assert.deepEqual([unknown.code, unknown.stdout], [1, '']);
    assert.match(unknown.stderr, /^gateway: KEDGE_GUEST_UNKNOWN: .* nobody\n {2}hint: gateway guests list/);
    assert.deepEqual(fake.calls, []);
    fake.answer = () => {
      throw new KedgeError('KEDGE_GUEST_RUNNING', 'guest chat is running on leg a', { hint: 'kedge stop' });
    };
    const refused = await gateway(['guests', 'rm', 'chat'], env);
    fake.answer = () => ({});
    assert.deepEqual(refused, {
      code: 1,
      stdout: '',
      stderr: 'gateway: KEDGE_GUEST_RUNNING: guest chat is running on leg a\n  hint: kedge stop\n',
    });
  });

  test('status', async () => {
    const { code, stdout } = await gateway(['status'], env);
    assert.equal(code, 0);
    assert.match(stdout, /^up {12}1d01h$/m);
    assert.match(stdout, /^fast path {5}on$/m);
    assert.match(stdout, /^custody {7}300 of 268435456 bytes$/m);
    assert.match(stdout, /^write errors {2}7$/m);
    assert.match(stdout, /^a +kg-a +ha0 +10\.0\.1\.2 +10 +20$/m);
    assert.match(stdout, /^DROPPED +PKTS\nfragment +12\nno-flow +3\n$/m);
    assert.deepEqual(JSON.parse((await gateway(['status', '-o', 'json'], env)).stdout), STATUS);
  });

  describe('filters', () => {
    beforeEach(() => {
      fake.queries.length = 0;
    });
    test('all of them reach the gateway; a state in any case', async () => {
      const args = ['flows', 'list', '--guest', 'chat', '--state', 'close-wait', '--peer', '198.51.100.7'];
      assert.equal((await gateway(args, env)).code, 0);
      assert.deepEqual(fake.queries.at(-1), { guest: 'chat', state: 'CLOSE-WAIT', peer: '198.51.100.7' });
    });
  });

  for (const [title, args, says] of [
    ['no command', [], /USAGE/],
    ['an unknown command', ['flwos'], /No command registered for `flwos`/],
    ['an unknown flag', ['flows', 'list', '--port', '1'], /--port/],
    ['a state there is not', ['flows', 'list', '--state', 'OPEN'], /"OPEN" is no state.*CLOSE-WAIT/],
    ['LISTEN, which no flow has', ['flows', 'list', '--state', 'LISTEN'], /is no state/],
    ['an output there is not', ['flows', 'list', '-o', 'xml'], /table\|json/],
    ['an id that is no number', ['flows', 'show', '7x'], /"7x" is no id/],
    ['no id', ['flows', 'show'], /id/],
    ['no guest to remove', ['guests', 'rm'], /name/],
    ['two guests to remove', ['guests', 'rm', 'a', 'b'], /b|Too many/],
    ['too many arguments', ['flows', 'show', '7', '8'], /8|Too many/],
    ['run without a config', ['run'], /--config/],
    ['a group of commands and none of them', ['flows'], /^USAGE\n {2}gateway flows list/],
    ['a peer that is no address', ['flows', 'list', '--peer', 'example.org'], /"example\.org" is not ADDRESS\[:PORT\]/],
    ['a peer with a port there is not', ['flows', 'list', '--peer', '198.51.100.7:65536'], /is not ADDRESS/],
    ['no guest to filter by', ['flows', 'list', '--guest', ''], /an id, a name or an address/],
    ['an empty path', ['status', '--socket', ''], /a path is not empty/],
  ] as const) {
    test(`called wrongly: ${title}`, async () => {
      const { code, stdout, stderr } = await gateway(args, env);
      assert.deepEqual([code, stdout], [2, ''], stderr);
      assert.match(stderr, says);
      // The help alone has no code.
      assert.match(stderr, /^(USAGE\n|gateway: KEDGE_USAGE: [^\n]+\n {2}hint: gateway( [a-z]+)? --help\n)/);
    });
  }

  test('output that nobody takes: a reader that is gone needs no word, a full disk does', async () => {
    const end = async (stdout: 'pipe' | number): Promise<[unknown, string]> => {
      const child = spawn(process.execPath, [GATEWAY, 'flows', 'list'], {
        env: { ...process.env, ...env },
        stdio: ['ignore', stdout, 'pipe'],
      });
      child.stdout?.destroy();
      const closed = once(child, 'close');
      const said = child.stderr === null ? '' : await text(child.stderr);
      const [code] = (await closed) as [unknown];
      return [code, said];
    };
    assert.deepEqual(await end('pipe'), [0, '']);
    const full = openSync('/dev/full', 'w');
    try {
      const [code, stderr] = await end(full);
      assert.equal(code, 1);
      assert.match(String(stderr), /^gateway: KEDGE_OUTPUT: cannot write to standard output: ENOSPC\n {2}hint: .*\n$/);
    } finally {
      closeSync(full);
    }
  });

  test('what answers is no gateway', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'kedge-cli-'));
    const server = createServer((socket) => socket.end('220 no HTTP\r\n')).listen(join(directory, 'x'));
    await once(server, 'listening');
    try {
      const { code, stderr } = await gateway(['status', '--socket', join(directory, 'x')]);
      assert.equal(code, 1);
      assert.match(stderr, /^gateway: KEDGE_GATEWAY_PROTOCOL: .* does not speak HTTP\n {2}hint: is it the socket of/);
    } finally {
      server.close();
      rmSync(directory, { recursive: true });
    }
  });

  test('no gateway', async () => {
    const { code, stdout, stderr } = await gateway(['flows', 'list', '--socket', '/nonexistent/gw.sock'], env);
    assert.deepEqual([code, stdout], [1, '']);
    assert.match(
      stderr,
      /^gateway: KEDGE_GATEWAY_UNREACHABLE: cannot reach a gateway at \/nonexistent\/gw\.sock: ENOENT\n {2}hint: /,
    );
  });

  test('help and version', async () => {
    assert.equal((await gateway(['flows', 'list', '--help'])).code, 0);
    assert.deepEqual(await gateway(['--version']), { code: 0, stdout: `${VERSION}\n`, stderr: '' });
  });

  test('a wrong configuration stops the start before anything is made', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'kedge-cli-'));
    const file = join(directory, 'gw.toml');
    writeFileSync(file, 'sockte = "/x"\n');
    try {
      const { code, stdout, stderr } = await gateway(['run', '--config', file]);
      assert.deepEqual([code, stdout], [1, '']);
      assert.match(stderr, /^gateway: KEDGE_CONFIG_MISSING_KEY: .*outside is missing/);
      assert.equal((await gateway(['run', '--config', join(directory, 'none')])).code, 1);
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});

test('tables: aligned, wide cells widen, no trailing blanks', () => {
  const columns = [
    { title: 'NAME', align: 'left' },
    { title: 'N', align: 'right' },
    { title: 'REST', align: 'left' },
  ] as const;
  assert.equal(renderTable(columns, []), 'NAME  N  REST\n');
  assert.equal(
    renderTable(columns, [
      ['a', '100', ''],
      ['longer', '1', 'x'],
    ]),
    'NAME      N  REST\na       100\nlonger    1  x\n',
  );
});

test('a peer as the gateway writes it', () => {
  assert.equal(parsePeer('198.51.100.7'), '198.51.100.7');
  assert.equal(parsePeer('198.51.100.7:0443'), '198.51.100.7:443');
});

test('a state in any case', () => {
  assert.equal(parseState('time-wait'), 'TIME-WAIT');
  assert.throws(() => parseState('TIMEWAIT'));
});

test('a guest by id or address before one by name; of two by one name none', () => {
  const other = { ...GUEST, id: '00000000-9dc0-11d1-b245-5ffdce74fad2', address: '100.64.0.2' };
  assert.equal(findGuest([GUEST, other], other.id), other);
  assert.equal(findGuest([other, GUEST], GUEST.address), GUEST);
  const named = { ...other, name: GUEST.id };
  assert.equal(findGuest([named, GUEST], GUEST.id), GUEST);
  assert.throws(() => findGuest([GUEST, other], 'chat'), { code: 'KEDGE_GUEST_AMBIGUOUS' });
  assert.throws(() => findGuest([], 'chat'), { code: 'KEDGE_GUEST_UNKNOWN' });
});
