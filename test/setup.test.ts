/** Set-up and start say what they lack, install nothing where they may not, and find the right Node whatever is on the PATH. */
import assert from 'node:assert/strict';
import { chmod, cp, mkdir, mkdtemp, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { VERSION } from '../src/version.ts';
import { run, tryRun, type Finished } from './support/process.ts';

const PROJECT = join(import.meta.dirname, '..');
/** Nobody, as root; whoever runs the tests without privilege may install nothing either. */
const ANYBODY = process.getuid?.() === 0 ? ['setpriv', '--reuid', '65534', '--regid', '65534', '--clear-groups'] : [];

let scratch = '';
before(async () => {
  scratch = await mkdtemp(join(tmpdir(), 'kedge-setup-'));
  await chmod(scratch, 0o755);
});
after(() => rm(scratch, { recursive: true, force: true }));

async function program(path: string, ...lines: string[]): Promise<void> {
  await writeFile(path, ['#!/bin/sh', ...lines, ''].join('\n'), { mode: 0o755 });
}

describe('scripts/setup.sh', () => {
  /** Programs of this machine that the script finds. `apt-get` is one that says so when it is run. */
  const FOUND = ['bash', 'dirname', 'flock', 'cmp', 'cc', 'clang-14', 'cmake'];

  /**
   * Runs `setup.sh tools` without privilege in a clone of its own, with nothing on the PATH but `found` and an apt-get, `without`
   * some of them.
   */
  async function setup(name: string, without: readonly string[], prepare?: (clone: string) => Promise<void>) {
    const clone = join(scratch, name);
    const path = join(clone, 'path');
    await Promise.all([mkdir(path, { recursive: true }), mkdir(join(clone, 'bin'), { recursive: true })]);
    await cp(join(PROJECT, 'scripts'), join(clone, 'scripts'), { recursive: true });
    await writeFile(join(clone, 'package-lock.json'), '{}');
    for (const each of FOUND.filter((it) => !without.includes(it)))
      await symlink((await run(['sh', '-c', `command -v ${each}`])).trim(), join(path, each));
    if (!without.includes('apt-get')) await program(join(path, 'apt-get'), 'echo apt-get was run');
    await prepare?.(clone);
    return tryRun([...ANYBODY, 'env', `PATH=${path}`, 'bash', join(clone, 'scripts', 'setup.sh'), 'tools'], {
      cwd: '/',
    });
  }

  function said({ code, stdout, stderr }: Finished): unknown {
    return { code, stdout, stderr };
  }

  function fails(...lines: string[]): unknown {
    return { code: 1, stdout: '', stderr: `${lines.join('\n')}\n` };
  }

  test('says which packages are missing, and runs no apt-get without root', async () => {
    assert.deepEqual(
      said(await setup('packages', ['cmake', 'clang-14'])),
      fails(
        'setup: these Debian packages are missing, and only root may install them. Run this, then try again:',
        '  sudo apt-get update && sudo apt-get install --no-install-recommends clang-14 cmake',
      ),
    );
  });

  test('says which they are where there is no apt-get, too', async () => {
    assert.deepEqual(
      said(await setup('no-apt', ['cmake', 'apt-get'])),
      fails(
        "setup: these are missing (names of Debian's packages), and there is no apt-get to install them with:",
        '  cmake',
      ),
    );
  });

  test('says that npm or cargo is missing', async () => {
    assert.deepEqual(
      said(await setup('no-npm', [])),
      fails('setup: npm is missing; any Node with npm will do, e.g. apt-get install npm'),
    );
    const installed = await setup('no-cargo', [], async (clone) => {
      await mkdir(join(clone, 'node_modules'));
      await cp(join(clone, 'package-lock.json'), join(clone, 'node_modules', '.kedge-lock'));
      await program(join(clone, 'bin', 'node'), 'exit 0');
    });
    assert.deepEqual(
      said(installed),
      fails('setup: cargo is missing; install Rust 1.88 or newer, e.g. from https://rustup.rs'),
    );
  });
});

describe('what is packed', () => {
  test('is what a machine without the sources needs, and none of them', async () => {
    const text = await run(['npm', 'pack', '--dry-run', '--json'], { cwd: PROJECT });
    const [pack] = JSON.parse(text) as { files: { path: string }[] }[];
    const paths = (pack?.files ?? []).map(({ path }) => path);
    for (const needed of ['bin/kedge', 'bin/gateway', 'bin/node', 'native/index.js', 'LICENSE', 'NOTICE', 'README.md'])
      assert.ok(paths.includes(needed), needed);
    assert.ok(paths.some((path) => /^native\/.*\.node$/.test(path)));
    assert.deepEqual(
      paths.filter((path) => /^(src|test|bench|demo|scripts|build|native\/(src|target|tests))\/|\.map$/.test(path)),
      [],
    );
  });

  test('starts where it is installed, which is where Node strips no types', async () => {
    const place = join(scratch, 'installed', 'node_modules', 'kedge');
    await mkdir(join(place, 'native'), { recursive: true });
    for (const name of ['bin', 'package.json', 'native/index.js'])
      await cp(join(PROJECT, name), join(place, name), { recursive: true });
    for (const addon of await readdir(join(PROJECT, 'native')))
      if (addon.endsWith('.node')) await cp(join(PROJECT, 'native', addon), join(place, 'native', addon));
    await symlink(join(PROJECT, 'node_modules'), join(place, 'node_modules'));
    const compiler = join(PROJECT, 'node_modules', 'typescript', 'bin', 'tsc');
    const options = ['-p', join(PROJECT, 'tsconfig.build.json'), '--outDir', join(place, 'dist')];
    await run([process.execPath, compiler, ...options], { timeout: 60_000 });
    assert.match(await run([join(place, 'bin', 'kedge'), 'engines']), /^v8 .*\nwamr /m);
    assert.equal((await run([join(place, 'bin', 'gateway'), '--version'])).trim(), VERSION);
  });
});

describe('with another node first on the PATH', () => {
  /** The environment in which `node` is a program that says it has this version, and nothing else. */
  async function having(version: string): Promise<{ readonly PATH: string; readonly node: string }> {
    const directory = join(scratch, version);
    await mkdir(directory, { recursive: true });
    const node = join(directory, 'node');
    await program(node, `echo ${version}`);
    return { PATH: `${directory}:${process.env['PATH']}`, node };
  }

  test('bin/node is the one that was installed', async () => {
    const { PATH } = await having('v20.0.0');
    assert.equal(await run([join(PROJECT, 'bin', 'node'), '--version'], { env: { PATH } }), `${process.version}\n`);
  });

  for (const command of ['kedge', 'gateway'])
    test(`bin/${command} starts`, async () => {
      const { PATH } = await having('v20.0.0');
      assert.equal((await run([join(PROJECT, 'bin', command), '--version'], { env: { PATH } })).trim(), VERSION);
    });

  test('and none installed, it is used when it is new enough, and else named', async () => {
    const clone = join(scratch, 'clone');
    await cp(join(PROJECT, 'bin'), join(clone, 'bin'), { recursive: true });
    const start = async (PATH: string) => tryRun([join(clone, 'bin', 'node'), '--version'], { env: { PATH } });
    for (const version of ['v24.11.0', 'v25.0.0']) {
      const { code, stdout } = await start((await having(version)).PATH);
      assert.deepEqual([code, stdout], [0, `${version}\n`]);
    }
    for (const version of ['v20.0.0', 'v24.10.9']) {
      const { PATH, node } = await having(version);
      const { code, stdout, stderr } = await start(PATH);
      assert.deepEqual([code, stdout], [1, '']);
      assert.equal(
        stderr,
        `kedge: needs Node 24.11 or newer; ${node} is ${version}. Run 'make setup' in ${clone}, or put a newer node on the PATH.\n`,
      );
    }
  });
});
