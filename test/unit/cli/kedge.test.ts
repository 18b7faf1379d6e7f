/** The command as people run it, against an agent in this process. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { VERSION } from '../../../src/version.ts';
import { waitFor } from '../../support/wait.ts';
import type { Hosts } from '../migrate/agents.ts';
import { example, lines, listed, printer, speaker, trapper } from '../migrate/agents.ts';
import type { Ended } from './command.ts';
import { Cli, KEDGE } from './command.ts';

const NO_MOVES = 'no-agent.sock';
/** Pieces of 64 KiB: 25 MiB, more than anybody between a guest and a reader holds. */
const PIECES = 400;

describe('kedge', { concurrency: 2 }, () => {
  let cli: Cli;
  let hosts: Hosts;
  const file = (name: string): string => cli.file(name);
  const kedge = (...args: string[]): Promise<Ended> => cli.run(...args);

  before(async () => {
    cli = await Cli.start();
    ({ hosts } = cli);
    writeFileSync(file('compute.wasm'), example('compute'));
    writeFileSync(file('says.wasm'), speaker('to stderr', 2, 7));
    writeFileSync(file('prints.wasm'), printer(PIECES));
    writeFileSync(file('traps.wasm'), trapper());
    writeFileSync(file('not.wasm'), 'not a module');
  });
  after(() => cli[Symbol.asyncDispose]());

  test('run: output, arguments and exit code are those of the guest', async () => {
    const { code, stdout, stderr } = await kedge('run', '--name', 'short', 'compute.wasm', '3', '2', '--name', 'x');
    assert.deepEqual([code, stderr], [0, '']);
    assert.match(stdout, /^step 1 [0-9a-f]{16}\nstep 2 [0-9a-f]{16}\nresult [0-9a-f]{16}\n$/);
    assert.deepEqual(await kedge('run', 'says.wasm'), { code: 7, stdout: '', stderr: 'to stderr' });
    const { state, exitCode } = await listed(hosts.a, 'short');
    assert.deepEqual([state, exitCode], ['exited', 0]);
  });

  test('run: a guest that traps fails with what the engine says', async () => {
    const { code, stdout, stderr } = await kedge('run', 'traps.wasm');
    assert.deepEqual([code, stdout], [1, '']);
    assert.match(stderr, /^kedge: KEDGE_GUEST_CRASHED: guest traps trapped: .*unreachable/);
  });

  test('run: on either engine, wherever it can be stopped', async () => {
    const results = new Set<string>();
    for (const engine of ['v8', 'wamr'])
      for (const points of ['loop', 'loop-all']) {
        const { code, stdout, stderr } = await kedge(
          'run',
          '--engine',
          engine,
          '--points',
          points,
          'compute.wasm',
          '3',
          '1',
        );
        assert.deepEqual([code, stderr], [0, ''], `${engine}, ${points}`);
        results.add(stdout);
      }
    assert.equal(results.size, 1, 'all have computed the same');
  });

  test('run: an engine that there is not, and points of no kind', async () => {
    const engine = await kedge('run', '--engine', 'nope', 'compute.wasm');
    assert.equal(engine.code, 1);
    assert.match(
      engine.stderr,
      /^kedge: KEDGE_ENGINE_UNKNOWN: no engine is called nope\n {2}hint: there are v8 and wamr\n$/,
    );
    const points = await kedge('run', '--points', 'nope', 'compute.wasm');
    assert.equal(points.code, 2);
    assert.match(points.stderr, /call\|function\|loop\|loop-all\|instruction/);
  });

  test('engines: a table, and JSON', async () => {
    const { code, stdout } = await kedge('engines');
    assert.equal(code, 0);
    assert.match(stdout, /^NAME +VERSION +FEATURES\nv8 +\S+ +.*SIMD.*\nwamr +2\.4\.3 +/);
    const listing = JSON.parse((await kedge('engines', '-o', 'json')).stdout) as {
      engines: { name: string; features: string[] }[];
    };
    assert.deepEqual(
      listing.engines.map(({ name, features }) => [name, features.includes('SIMD')]),
      [
        ['v8', true],
        ['wamr', false],
      ],
    );
  });

  test('run: a module that is none, or is not there', async () => {
    assert.match(
      (await kedge('run', 'not.wasm')).stderr,
      /^kedge: KEDGE_MODULE_INVALID: .*\n {2}hint: .*WASI preview 1/,
    );
    const missing = await kedge('run', 'missing.wasm');
    assert.equal(missing.code, 1);
    assert.match(missing.stderr, /^kedge: KEDGE_MODULE_READ: cannot read the module missing.wasm/);
  });

  test('run in the foreground: SIGINT stops the guest, and so does a terminal that is closed', async () => {
    for (const [signal, exit] of [
      ['SIGINT', 130],
      ['SIGHUP', 129],
    ] as const) {
      const name = `interrupted-${exit}`;
      const run = cli.start(['run', '--name', name, 'ticks.wasm']);
      await waitFor(() => run.printed().includes('tick 0002'), { what: 'output' });
      run.child.kill(signal);
      const { code, stderr } = await run.ended;
      assert.deepEqual([code, stderr], [exit, '']);
      await waitFor(async () => (await listed(hosts.a, name)).state !== 'running', { what: 'the guest to end' });
    }
  });

  test('run in the foreground: a guest waits for whoever reads, and all of its output comes', async () => {
    const run = cli.start(['run', '--name', 'prints', 'prints.wasm']);
    run.child.stdout.pause();
    // It stands in the midst of its output: what a pipe and the agent hold is less by far.
    await waitFor(() => hosts.a.agent.list().some(({ name }) => name === 'prints'), { what: 'the guest to run' });
    const slow = createHash('sha256');
    let bytes = 0;
    run.child.stdout.on('data', (text: string) => {
      bytes += text.length;
      slow.update(text);
    });
    run.child.stdout.resume();
    assert.deepEqual([(await run.ended).code, run.complained(), bytes], [0, '', PIECES * 65_536]);
    const expected = createHash('sha256');
    for (let piece = 0; piece < PIECES; piece += 1)
      expected.update(String.fromCharCode(97 + (piece % 26)).repeat(65_536));
    assert.equal(slow.digest('hex'), expected.digest('hex'));
  });

  test('run in the foreground: a guest whose reader waits can be stopped, one whose reader is gone goes on', async () => {
    const waiting = cli.start(['run', '--name', 'waits', 'prints.wasm']);
    waiting.child.stdout.pause();
    await waitFor(() => hosts.a.agent.list().some(({ name }) => name === 'waits'), { what: 'the guest to run' });
    assert.equal((await listed(hosts.a, 'waits')).state, 'running');
    await kedge('stop', 'waits');
    waiting.child.stdout.resume();
    assert.equal((await waiting.ended).code, 0);

    const left = cli.start(['run', '--name', 'left', 'prints.wasm']);
    left.child.stdout.destroy();
    await left.ended;
    await waitFor(async () => (await listed(hosts.a, 'left')).state === 'exited', {
      what: 'the guest to end by itself',
    });
  });

  test('run in the foreground: SIGINT while the guest is being moved stops it after that, or says where it is', async () => {
    for (const moves of [false, true]) {
      const name = moves ? 'leaves' : 'stays';
      const run = cli.start(['run', '--name', name, 'ticks.wasm']);
      await waitFor(() => run.printed().includes('tick 0002'), { what: 'output' });
      const kept = hosts.a.agent.find(name);
      const done = Promise.withResolvers<void>();
      const move = kept.during('moving', () => done.promise);
      run.child.kill('SIGINT');
      await waitFor(() => run.complained().includes('is moving already; it is stopped after that'), { what: 'a word' });
      if (moves) {
        kept.leave('moved to /run/other.sock');
        await kept.guest.destroy();
      }
      done.resolve();
      await move;
      const { code, stderr } = await run.ended;
      assert.equal(code, 130);
      const told = /\nkedge: guest leaves was moved to \/run\/other\.sock; follow it there: kedge logs leaves -f/.test(
        stderr,
      );
      assert.equal(told, moves, stderr);
      assert.notEqual((await listed(hosts.a, name)).state, 'running');
    }
  });

  test('run --detach, ps, logs, stop', async () => {
    const run = await kedge('run', '-d', '--name', 'long', '-p', '8080:80', 'ticks.wasm');
    assert.deepEqual(run, { code: 0, stdout: 'long\n', stderr: '' });
    await lines(hosts.a, 'long', 2);
    const table = (await kedge('ps')).stdout;
    assert.match(table, /^long +running +127\.77\.[0-9.]+ +8080->80\/tcp +v8 +1 /m);
    const { guests } = JSON.parse((await kedge('ps', '-o', 'json')).stdout) as { guests: { name: string }[] };
    // Others come and go beside it.
    const long = guests.find(({ name }) => name === 'long');
    assert.deepEqual(long, await listed(hosts.a, 'long'));
    assert.match((await kedge('logs', 'long')).stdout, /^tick 0001\ntick 0002\n/);
    const follower = cli.start(['logs', '-f', 'long']);
    await waitFor(() => follower.printed().includes('tick 0003'), { what: 'followed output' });
    const again = await kedge('run', '-d', '--name', 'long', 'compute.wasm');
    assert.equal(again.code, 1);
    assert.match(again.stderr, /^kedge: KEDGE_GUEST_EXISTS: /);
    assert.deepEqual(await kedge('stop', 'long'), { code: 0, stdout: 'long\n', stderr: '' });
    assert.equal((await follower.ended).code, 0);
  });

  test('migrate: a guest goes on at the other agent; the foreground of the first says where', async () => {
    const run = cli.start(['run', '--name', 'mover', 'ticks.wasm']);
    await waitFor(() => run.printed().includes('tick 0002'), { what: 'output' });
    const { code, stdout } = await kedge('migrate', 'mover', '--to', hosts.b.socket);
    assert.equal(code, 0);
    assert.match(stdout, /^mover runs at .*b\.sock, epoch 2, after [0-9.]+ ms\n/);
    const foreground = await run.ended;
    assert.equal(foreground.code, 0);
    assert.match(foreground.stderr, /^kedge: guest mover was moved to .*kedge logs mover -f --agent .*b\.sock\n$/);
    assert.equal((await listed(hosts.b, 'mover')).state, 'running');
    const json = await kedge('migrate', 'mover', '--to', hosts.a.socket, '-o', 'json', '--agent', hosts.b.socket);
    assert.equal((JSON.parse(json.stdout) as { epoch: number }).epoch, 3);
    const there = await kedge('stop', 'mover', '--agent', hosts.b.socket);
    assert.deepEqual([there.code, there.stdout], [0, 'mover\n']);
    assert.match(there.stderr, /^kedge: guest mover was moved to .*a\.sock; it is only off this agent's list\n$/);
    assert.equal((await listed(hosts.a, 'mover')).state, 'running');
    assert.deepEqual(await kedge('stop', 'mover'), { code: 0, stdout: 'mover\n', stderr: '' });
  });

  test('ps: the engine is the one that executes the guest now', async () => {
    const run = await kedge('run', '-d', '--name', 'changer', 'ticks.wasm');
    assert.equal(run.code, 0, run.stderr);
    const { code, stderr } = await kedge('migrate', 'changer', '--to', hosts.b.socket, '--engine', 'wamr');
    assert.deepEqual([code, stderr], [0, '']);
    const there = ['--agent', hosts.b.socket];
    assert.match(
      (await kedge('ps', ...there)).stdout,
      /^NAME .* ENGINE +EPOCH .*\n(?:.*\n)*changer +running .* wamr +2 /,
    );
    const { guests } = JSON.parse((await kedge('ps', '-o', 'json', ...there)).stdout) as {
      guests: { name: string; engine: string }[];
    };
    assert.equal(guests.find(({ name }) => name === 'changer')?.engine, 'wamr');
    assert.match((await kedge('ps')).stdout, /^changer +gone .* v8 +1 /m);
    await kedge('stop', 'changer', ...there);
  });

  test('migrate: no agent there, and no guest here', async () => {
    await kedge('run', '-d', '--name', 'stays', 'ticks.wasm');
    const unreachable = await kedge('migrate', 'stays', '--to', NO_MOVES);
    assert.equal(unreachable.code, 1);
    assert.match(unreachable.stderr, /^kedge: KEDGE_AGENT_UNREACHABLE: /);
    assert.ok(
      unreachable.stderr.includes(join(cli.directory, NO_MOVES)),
      'the path is of the directory of the command',
    );
    const unknown = await kedge('migrate', 'nobody', '--to', hosts.b.socket);
    assert.match(unknown.stderr, /^kedge: KEDGE_GUEST_UNKNOWN: .*\n {2}hint: kedge ps/);
    assert.equal((await listed(hosts.a, 'stays')).state, 'running');
    await kedge('stop', 'stays');
  });

  test('no agent runs', async () => {
    const { code, stderr } = await kedge('ps', '--agent', file('nobody.sock'));
    assert.equal(code, 1);
    assert.match(stderr, /^kedge: KEDGE_AGENT_UNREACHABLE: .*\n {2}hint: start one: kedge agent /);
  });

  test('an agent without a gateway does not start', async () => {
    const args = ['agent', '--socket', file('x.sock'), '--gateway', file('none.sock'), '--leg', 'a'];
    const { code, stderr } = await kedge(...args);
    assert.equal(code, 1);
    assert.match(stderr, /^kedge: KEDGE_GATEWAY_UNREACHABLE: .*\n {2}hint: start one with: gateway run/);
  });

  test('an agent: ready, one of a socket, a leg that is there, ended when its terminal is closed', async () => {
    const common = ['agent', '--gateway', hosts.gateway.socket, '--socket'];
    const agent = cli.start([...common, file('own.sock'), '--leg', 'a']);
    await waitFor(() => agent.printed().includes('\n'), { what: 'the agent to be ready' });
    assert.equal(agent.printed(), `agent ready socket=${file('own.sock')} leg=a\n`);
    assert.equal((await kedge('ps', '--agent', file('own.sock'))).code, 0);
    const second = await kedge(...common, file('own.sock'), '--leg', 'a');
    assert.deepEqual([second.code, second.stderr.split(':')[1]], [1, ' KEDGE_AGENT_RUNNING']);
    for (const none of ['nowhere', 'ticks.wasm']) {
      const { code, stderr } = await kedge(...common, file('other.sock'), '--leg', 'a', '--dir', `${none}:/x`);
      assert.equal(code, 1);
      assert.match(stderr, new RegExp(`^kedge: KEDGE_PREOPEN_INVALID: there is no directory .*/${none}\\n {2}hint: `));
    }
    const lost = await kedge(...common, file('other.sock'), '--leg', 'z');
    assert.deepEqual([lost.code, lost.stderr.split(':')[1]], [1, ' KEDGE_LEG_UNKNOWN']);
    agent.child.kill('SIGHUP');
    assert.equal((await agent.ended).code, 0);
    assert.deepEqual(
      // Tests beside this one have sockets of their own there.
      readdirSync(cli.directory).filter((name) => ['own.sock', 'other.sock'].includes(name)),
      [],
    );
  });

  test('an agent that was killed: the next one of its state directory signs its guests off', async () => {
    const args = ['agent', '--gateway', hosts.gateway.socket, '--socket', file('killed.sock'), '--leg', 'a'];
    args.push('--state-dir', file('state'));
    const first = cli.start(args);
    await waitFor(() => first.printed().includes('\n'), { what: 'the agent to be ready' });
    await kedge('run', '-d', '--name', 'orphan', '--agent', file('killed.sock'), 'ticks.wasm');
    first.child.kill('SIGKILL');
    await first.ended;
    const known = (): boolean => hosts.gateway.guests().some(({ name }) => name === 'orphan');
    assert.ok(known(), 'the gateway was told nothing');
    const second = cli.start(args);
    await waitFor(() => second.printed().includes('\n'), { what: 'the next agent to be ready' });
    assert.ok(!known());
    second.child.kill('SIGTERM');
    assert.match((await second.ended).stderr, /guest orphan ended with the agent before this one/);
  });

  test('called wrongly: exit code 2 and a word about it', async () => {
    const cases: [string[], RegExp][] = [
      [[], /^USAGE/],
      [['nope'], /No command registered for `nope`/],
      [['run'], /Expected at least 1 argument/],
      [['run', '--nope', 'compute.wasm'], /No flag registered for --nope/],
      [['run', '-p', '99999', 'compute.wasm'], /no port from 1 to 65535/],
      [['run', '--name', 'größe', 'compute.wasm'], /"größe" is no name of a guest/],
      [['run', '--name', '', 'compute.wasm'], /"" is no name of a guest/],
      [['run', '--name', 'x'.repeat(64), 'compute.wasm'], /is no name of a guest/],
      [['ps', '--agent', ''], /a path is not empty/],
      [['migrate', 'x', '--to', ''], /a path is not empty/],
      [['checkpoint', 'x', '-o', ''], /a path is not empty/],
      [['migrate', 'x'], /Expected input for flag --to/],
      [
        [
          'agent',
          '--socket',
          'x',
          '--gateway',
          hosts.gateway.socket,
          '--leg',
          'a',
          '--dir',
          '/usr:/x',
          '--dir',
          '/bin:/x',
        ],
        /KEDGE_USAGE: --dir gives guests both \/usr and \/bin as \/x/,
      ],
    ];
    for (const [args, words] of cases) {
      const { code, stdout, stderr } = await kedge(...args);
      assert.deepEqual([code, stdout], [2, ''], args.join(' '));
      assert.match(stderr, words);
      assert.match(stderr, /^(USAGE\n|kedge: KEDGE_USAGE: )/);
    }
  });

  test('output that cannot be written: said in two lines; a reader that has gone is no failure', () => {
    const into = (stdout: string): (number | string | null)[] => {
      const shell = ['-c', `"$@" ${stdout}; exit "$PIPESTATUS"`, 'bash', process.execPath, KEDGE, 'engines'];
      const { status, stderr } = spawnSync('bash', shell, { encoding: 'utf8' });
      return [status, stderr];
    };
    const [code, stderr] = into('>/dev/full');
    assert.match(String(stderr), /^kedge: KEDGE_OUTPUT: .*ENOSPC.*\n {2}hint: .*\n$/);
    assert.equal(code, 1);
    assert.deepEqual(into('| true'), [0, '']);
  });

  test('version and help', async () => {
    assert.deepEqual(await kedge('--version'), { code: 0, stdout: `${VERSION}\n`, stderr: '' });
    const commands = ['agent', 'run', 'ps', 'logs', 'stop', 'migrate', 'checkpoint', 'restore', 'inspect'];
    const help = (await kedge('--help')).stdout;
    for (const command of commands) assert.match(help, new RegExp(`^  ${command} `, 'm'));
    for (const command of ['agent', 'run']) {
      const own = await kedge(command, '--help');
      assert.equal(own.code, 0);
      assert.match(own.stdout, new RegExp(`^USAGE\n  kedge ${command}`));
    }
  });
});
