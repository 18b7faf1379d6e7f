/** `kedge verify` as people run it. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { describeVerdict, type Report } from '../../../src/cli/kedge/verify-report.ts';
import { protectGuestArguments } from '../../../src/cli/kedge/run-arguments.ts';
import { wat } from '../engine/support.ts';
import { example } from '../migrate/agents.ts';

const KEDGE = join(import.meta.dirname, '..', '..', '..', 'src', 'cli', 'kedge.ts');

type Ended = { readonly code: number | null; readonly stdout: string; readonly stderr: string };

describe('kedge verify', { concurrency: 2 }, () => {
  let directory = '';

  function kedge(...args: readonly string[]): Promise<Ended> {
    const child = spawn(process.execPath, [KEDGE, 'verify', ...args], {
      cwd: directory,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let [stdout, stderr] = ['', ''];
    child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
    child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
    return new Promise((resolve) => {
      child.once('close', (code) => resolve({ code, stdout, stderr }));
    });
  }

  before(() => {
    directory = mkdtempSync(join(tmpdir(), 'kedge-cli-'));
    writeFileSync(join(directory, 'compute.wasm'), example('compute'));
    writeFileSync(join(directory, 'not.wasm'), 'not a module');
    const simd = wat('(module (func (export "_start") (drop (i32x4.splat (i32.const 1)))))');
    writeFileSync(join(directory, 'simd.wasm'), simd);
  });
  after(() => rmSync(directory, { recursive: true }));

  test('a guest that does the same: the verdict on standard output, what it prints on standard error', async () => {
    const { code, stdout, stderr } = await kedge('compute.wasm', '3', '2');
    assert.equal(code, 0, stderr);
    assert.match(stdout, /^equal: v8 and wamr did the same in compute\.wasm\nboth exited with code 0: /);
    assert.match(stdout, /: \d+ points \(instruction\), \d+ host calls replayed, \d+\.\d s\n$/);
    assert.match(stderr, /^step 1 [0-9a-f]{16}\n.*result [0-9a-f]{16}\n$/s);
  });

  test('JSON, a limit, another policy, quiet', async () => {
    const { code, stdout, stderr } = await kedge(
      '-q',
      '--limit',
      '500',
      '--points',
      'loop-all',
      '--stride',
      '100',
      '-o',
      'json',
      'compute.wasm',
      '1000',
      '9',
    );
    assert.deepEqual([code, stderr], [0, '']);
    const report = JSON.parse(stdout) as Report;
    assert.deepEqual(
      [report.equal, report.points, report.policy, report.stride, report.end],
      [true, 500, 'loop-all', 100, { kind: 'limit' }],
    );
    assert.deepEqual(
      report.engines.map(({ name }) => name),
      ['v8', 'wamr'],
    );
  });

  const USAGE: readonly (readonly [RegExp, readonly string[]])[] = [
    [/no engine is called none/, ['--engines', 'v8,none', 'compute.wasm']],
    [/"v8" is not two engines/, ['--engines', 'v8', 'compute.wasm']],
    [/"v8,wamr,v8" is not two engines/, ['--engines', 'v8,wamr,v8', 'compute.wasm']],
    [/"0" is not a number of points/, ['--stride', '0', 'compute.wasm']],
    [/"many" is not a number of points/, ['--stride', 'many', 'compute.wasm']],
    [/"-1" is not a number of points/, ['--limit=-1', 'compute.wasm']],
    [/call\|function\|loop/, ['--points', 'none', 'compute.wasm']],
    [/"::1" is not an IPv4 address/, ['--address', '::1', 'compute.wasm']],
    [/is not HOST:GUEST/, ['--dir', 'x', 'compute.wasm']],
    [/module/, []],
  ];
  for (const [message, args] of USAGE) {
    test(`called wrongly: ${args.join(' ')}`, async () => {
      const { code, stdout, stderr } = await kedge(...args);
      assert.deepEqual([code, stdout], [2, '']);
      assert.match(stderr, message);
    });
  }

  test('what cannot be compared is refused with a code', async () => {
    for (const [file, message] of [
      [
        'simd.wasm',
        /^kedge: KEDGE_MODULE_UNSUPPORTED: WAMR cannot run the module: it uses SIMD \(first in function \d\)\n/,
      ],
      ['not.wasm', /^kedge: KEDGE_MODULE_INVALID: /],
      ['missing.wasm', /^kedge: KEDGE_MODULE_READ: cannot read the module missing\.wasm/],
    ] as const) {
      const { code, stdout, stderr } = await kedge(file);
      assert.deepEqual([code, stdout], [1, '']);
      assert.match(stderr, message);
    }
  });
});

test('a divergence for people', () => {
  const module = wat('(module (func $bits) (func (export "_start") (call $bits)))', '--debug-names');
  const report: Report = {
    module: 'm.wasm',
    engines: [
      { name: 'v8', version: '1' },
      { name: 'wamr', version: '2' },
    ],
    policy: 'instruction',
    stride: 100,
    seconds: 1.26,
    equal: false,
    points: 17,
    calls: 3,
    end: null,
    nan: 12,
    divergence: {
      point: 17,
      calls: 3,
      place: { function: 0, name: 'bits', offset: 35, instruction: 'i32.popcnt', source: 'bits.c:3:1' },
      differences: [
        { kind: 'operand', index: 0, function: 0, first: 'i32:2', second: 'i32:1' },
        { kind: 'local', index: 12, function: 1, first: 'f64:-0', second: 'f64:0' },
        { kind: 'table', index: 0, element: 3, first: 'funcref:0', second: 'funcref:null' },
        { kind: 'memory', address: 0x1000, first: '00 00 c0 7f', second: '01 00 c0 7f', nan: true },
        { kind: 'memory-size', first: '1 pages', second: '2 pages' },
      ],
      unseen: 7,
    },
  };
  assert.equal(
    describeVerdict(report, module),
    [
      'diverged at point 17 (instruction), after 3 host calls, 1.3 s',
      'after function 0 (bits), offset 0x23: i32.popcnt (bits.c:3:1)',
      'WHAT                            V8           WAMR',
      'operand 0 of function 0 (bits)  i32:2        i32:1',
      'local 12 of function 1          f64:-0       f64:0',
      'table 0 element 3               funcref:0    funcref:null',
      'memory 0x1000                   00 00 c0 7f  01 00 c0 7f',
      'memory size                     1 pages      2 pages',
      'note: NaNs whose bits WebAssembly leaves open to a degree; perhaps nobody is wrong',
      'note: 7 points before it were not compared; a smaller --stride does',
      'note: NaNs had other bits from point 12 on; they count as equal',
      '',
    ].join('\n'),
  );
});

test('what follows the module of verify belongs to the guest', () => {
  const cases: [string, string][] = [
    ['verify m.wasm --stride 3', 'verify -- m.wasm --stride 3'],
    ['verify -q --engines v8,wamr m.wasm -q', 'verify -q --engines v8,wamr -- m.wasm -q'],
    ['verify -o json m.wasm -- x', 'verify -o json -- m.wasm -- x'],
  ];
  for (const [given, wanted] of cases) assert.equal(protectGuestArguments(given.split(' ')).join(' '), wanted);
  // Every flag without a value is known where the module is looked for.
  const source = readFileSync(join(import.meta.dirname, '..', '..', '..', 'src', 'cli', 'kedge', 'verify.ts'), 'utf8');
  assert.equal(source.match(/kind: 'boolean'/g)?.length, 1);
});
