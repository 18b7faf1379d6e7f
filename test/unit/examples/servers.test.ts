import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { pattern, patternHash } from '../../support/stream.ts';
import { ExampleGuest, Peer } from './support.ts';

const TIMEOUT = { timeout: 60_000 };

test('the stream is what the README says', () => {
  assert.equal(Buffer.from(pattern(1, 0, 16)).toString('hex'), 'b7284e516bf9a0969083bc1264991e97');
  assert.deepEqual(pattern(1, 3, 7), pattern(1, 0, 16).subarray(3, 10));
});

test('chat remembers several people over moves', TIMEOUT, async () => {
  await using guest = ExampleGuest.start('chat', '7001');
  await guest.until(() => guest.output.includes('listening on port 7001'));
  await guest.move();
  const anna = await Peer.to(guest.address, 7001);
  assert.equal(await anna.line(), 'hello, who are you?');
  const bert = await Peer.to(guest.address, 7001);
  assert.equal(await bert.line(), 'hello, who are you?');
  await anna.write('my name is Anna\n');
  assert.equal(await anna.line(), 'nice to meet you, Anna');
  await guest.move();
  await bert.write('Bert\r\n');
  assert.equal(await bert.line(), 'nice to meet you, Bert');
  await anna.write('good mor');
  await guest.move();
  await anna.write('ning\n');
  assert.equal(await anna.line(), 'Anna, line 1 has 12 characters');
  for (let i = 2; i <= 7; i += 1) {
    await guest.move();
    await anna.write(`line ${i}\n`);
    assert.match(await anna.line(), new RegExp(`^Anna, line ${i} has 6 characters; before that you said: `, 'u'));
  }
  await anna.write('recall\nwho\nbye\n');
  const said = (await anna.rest()).toString().split('\n');
  assert.deepEqual(said.slice(0, 6), [
    'you said 7 lines',
    '3: line 3',
    '4: line 4',
    '5: line 5',
    '6: line 6',
    '7: line 7',
  ]);
  assert.deepEqual(said.slice(6), ['Anna: 7', 'Bert: 0', 'bye, Anna: 7 lines', '']);
  await guest.move();
  const again = await Peer.to(guest.address, 7001);
  await again.line();
  await again.write('anna\n');
  assert.equal(await again.line(), 'welcome back, Anna: 7 lines so far');
  assert.ok(guest.moves >= 10);
  for (const peer of [anna, bert, again]) {
    peer.socket.destroy();
  }
});

test('stream: downloads, uploads, both, echo, at once and while it moves', TIMEOUT, async () => {
  await using guest = ExampleGuest.start('stream', '7000');
  await guest.until(() => guest.output.includes('listening'));
  const size = 1_500_001;

  const download = async (seed: number): Promise<void> => {
    const peer = await Peer.to(guest.address, 7000);
    await peer.write(`GET ${size} ${seed}\n`);
    const bytes = await peer.rest();
    assert.equal(bytes.length, size);
    assert.equal(createHash('sha256').update(bytes).digest('hex'), patternHash(seed, size));
    peer.socket.destroy();
  };
  const upload = async (seed: number): Promise<void> => {
    const peer = await Peer.to(guest.address, 7000);
    await peer.write(`PUT ${size} ${seed}\n`);
    await peer.write(pattern(seed, 0, size));
    assert.equal(await peer.line(), `OK ${size} ${patternHash(seed, size)}`);
    // The connection takes more requests.
    await peer.write('SINK 5\nhelloPUT 4 9\nbad!');
    assert.equal(await peer.line(), 'OK 5');
    assert.equal(await peer.line(), 'BAD 0');
    const wrong = Uint8Array.from(pattern(9, 0, 100));
    wrong[77] = (wrong[77] ?? 0) ^ 1;
    await peer.write(Buffer.concat([Buffer.from('PUT 100 9\n'), wrong]));
    assert.equal(await peer.line(), 'BAD 77');
    peer.socket.destroy();
  };
  const both = async (seed: number): Promise<void> => {
    const peer = await Peer.to(guest.address, 7000);
    await peer.write(`BOTH ${size} ${seed}\n`);
    const written = peer.write(pattern(seed + 1, 0, size));
    const bytes = await peer.bytes(size);
    assert.equal(createHash('sha256').update(bytes).digest('hex'), patternHash(seed, size));
    await written;
    assert.equal((await peer.rest()).toString(), `OK ${size} ${patternHash(seed + 1, size)}\n`);
    peer.socket.destroy();
  };
  const echo = async (seed: number): Promise<void> => {
    const peer = await Peer.to(guest.address, 7000);
    await peer.write('ECHO\n');
    const data = pattern(seed, 0, 500_000);
    const written = peer.write(data);
    assert.deepEqual(new Uint8Array(await peer.bytes(data.length)), data);
    await written;
    peer.socket.end();
    assert.equal((await peer.rest()).length, 0);
  };

  let running = true;
  const moving = (async () => {
    // Not without end: a guest that is stopped all the time gets nothing done.
    while (running && guest.moves < 40) {
      await guest.move();
    }
  })();
  await Promise.all([1, 2, 3].flatMap((seed) => [download(seed), upload(seed + 10), both(seed + 20), echo(seed + 30)]));
  running = false;
  await moving;
  assert.ok(guest.moves > 3, `${guest.moves} moves`);
});

test('stream: nonsense and early ends do it no harm', TIMEOUT, async () => {
  await using guest = ExampleGuest.start('stream', '7000', '--burn', '1000');
  await guest.until(() => guest.output.includes('listening'));
  for (const nonsense of ['hello\n', 'GET 5\n', 'GET x y\n', 'GET 5 5 5\n', `${'x'.repeat(5000)}\n`]) {
    const peer = await Peer.to(guest.address, 7000);
    await peer.write(nonsense);
    assert.equal((await peer.rest()).toString(), 'ERROR\n');
    peer.socket.destroy();
  }
  const early = await Peer.to(guest.address, 7000);
  await early.write('PUT 1000 1\nabc');
  early.socket.resetAndDestroy();
  const silent = await Peer.to(guest.address, 7000);
  silent.socket.end();
  await silent.rest();
  const run = promisify(execFile);
  const { stdout } = await run('curl', ['-sS', '--max-time', '20', `http://${guest.address}:7000/stream/100000/5`], {
    encoding: 'buffer',
  });
  assert.equal(createHash('sha256').update(stdout).digest('hex'), patternHash(5, 100_000));
  const missing = await run('curl', [
    '-s',
    '-o',
    '/dev/null',
    '-w',
    '%{http_code}',
    `http://${guest.address}:7000/other`,
  ]);
  assert.equal(missing.stdout, '404');
});
