import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseDirectory, parsePublish, parseVariable } from '../../../src/cli/kedge/options.ts';
import { moveText } from '../../../src/cli/kedge/migrate.ts';
import { guestTable } from '../../../src/cli/kedge/ps.ts';
import { protectGuestArguments } from '../../../src/cli/kedge/run-arguments.ts';

test('ports are published as [outside:]guest[/protocol]', () => {
  assert.deepEqual(parsePublish('80'), { proto: 'tcp', outsidePort: 80, guestPort: 80 });
  assert.deepEqual(parsePublish('8080:80'), { proto: 'tcp', outsidePort: 8080, guestPort: 80 });
  assert.deepEqual(parsePublish('5353:53/udp'), { proto: 'udp', outsidePort: 5353, guestPort: 53 });
  assert.deepEqual(parsePublish('1:65535/tcp'), { proto: 'tcp', outsidePort: 1, guestPort: 65_535 });
  for (const bad of ['', ':', '80:', ':80', '0', '65536', 'http', '80/sctp', '1:2:3', '-1', '8e1', '80 ']) {
    assert.throws(() => parsePublish(bad), Error, bad);
  }
});

test('directories and variables', () => {
  assert.deepEqual(parseDirectory('/srv/data:/data'), { host: '/srv/data', guest: '/data' });
  assert.deepEqual(parseDirectory('/odd:name:/data'), { host: '/odd:name', guest: '/data' });
  assert.deepEqual(parseDirectory('data:/data'), { host: `${process.cwd()}/data`, guest: '/data' });
  for (const bad of ['', '/data', ':/data', '/srv:data', '/srv:']) assert.throws(() => parseDirectory(bad), Error, bad);
  assert.deepEqual(parseVariable('A=b=c'), ['A', 'b=c']);
  assert.deepEqual(parseVariable('A='), ['A', '']);
  for (const bad of ['', '=b', 'A']) assert.throws(() => parseVariable(bad), Error, bad);
});

test('what follows the module of run belongs to the guest', () => {
  const cases: [string, string][] = [
    ['run m.wasm -x --name y', 'run -- m.wasm -x --name y'],
    ['run --name n -d m.wasm --detach', 'run --name n -d -- m.wasm --detach'],
    ['run --name=n m.wasm', 'run --name=n -- m.wasm'],
    ['run -p 80 -p 81:81 --env A=b m.wasm -- x', 'run -p 80 -p 81:81 --env A=b -- m.wasm -- x'],
    ['run --detach -- m.wasm', 'run --detach -- m.wasm'],
    ['run --help', 'run --help'],
    ['run', 'run'],
    ['run --name', 'run --name'],
    ['run -', 'run -- -'],
    ['logs -f name', 'logs -f name'],
  ];
  for (const [given, wanted] of cases) assert.equal(protectGuestArguments(given.split(' ')).join(' '), wanted);
});

test('guests as a table', () => {
  const guest = {
    id: '7d444840-9dc0-11d1-b245-5ffdce74fad2',
    name: 'chat',
    address: '100.64.0.1',
    state: 'running',
    epoch: 3,
    engine: 'v8',
    policy: 'loop',
    module: 'chat.wasm',
    startedAt: '2026-01-01T00:00:00.000Z',
    publish: [
      { proto: 'tcp', outsidePort: 8080, guestPort: 80 },
      { proto: 'udp', outsidePort: 53, guestPort: 53 },
    ],
  } as const;
  const ended = { ...guest, name: 'old', state: 'exited', exitCode: 3, publish: [], message: 'why' } as const;
  const text = guestTable(
    [
      { ...guest, publish: [...guest.publish] },
      { ...ended, publish: [] },
    ],
    Date.UTC(2026, 0, 1, 0, 2, 5),
  );
  assert.equal(
    text,
    [
      'NAME  STATE       ADDRESS     PUBLISH                  ENGINE  EPOCH    AGE  MODULE     ID                                    NOTE',
      'chat  running     100.64.0.1  8080->80/tcp,53->53/udp  v8          3  2m05s  chat.wasm  7d444840-9dc0-11d1-b245-5ffdce74fad2',
      'old   exited (3)  100.64.0.1  -                        v8          3  2m05s  chat.wasm  7d444840-9dc0-11d1-b245-5ffdce74fad2  why',
      '',
    ].join('\n'),
  );
});

test('a move in words', () => {
  const stages = [
    { name: 'source.stop', ms: 0.52 },
    { name: 'target.commit', ms: 12 },
  ];
  assert.equal(
    moveText('chat', '/run/b.sock', { epoch: 2, stages, totalMs: 30.25 }),
    'chat runs at /run/b.sock, epoch 2, after 30.3 ms\n  source.stop    0.5 ms\n  target.commit  12.0 ms\n',
  );
});
