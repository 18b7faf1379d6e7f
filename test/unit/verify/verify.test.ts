/** V8 and WAMR do the same, in programs of all kinds; and what the host does is recorded whole. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { Policy } from '../../../src/engine/engine.ts';
import { ENGINES } from '../../../src/engine/engines.ts';
import { KedgeError } from '../../../src/errors.ts';
import { runJob } from '../../../src/verify/job.ts';
import { wat } from '../engine/support.ts';
import { compileC } from '../wasi/support.ts';
import { compare, compilePrograms, divergence, LOOPBACK, wrongEngine } from './support.ts';

const EXAMPLES = join(import.meta.dirname, '..', '..', '..', 'build', 'examples');

function example(name: string): Uint8Array {
  return new Uint8Array(readFileSync(join(EXAMPLES, `${name}.wasm`)));
}

/** With a size that makes some thousands to some hundred thousands of instructions. */
const PROGRAMS = {
  'binary-trees': '3',
  fannkuch: '5',
  fib: '10',
  mandelbrot: '6',
  matmul: '6',
  mix: '1',
  nbody: '50',
  queens: '5',
  sieve: '100',
  sort: '20',
  'spectral-norm': '4',
} as const;

describe('programs are the same on V8 and WAMR', () => {
  const compiled = compilePrograms(Object.keys(PROGRAMS) as (keyof typeof PROGRAMS)[]);
  for (const [name, size] of Object.entries(PROGRAMS) as [keyof typeof PROGRAMS, string][])
    test(`${name} ${size}, at every instruction`, { timeout: 60_000 }, () => {
      const { verdict, printed } = compare(compiled[name], { args: [name, size] });
      assert.equal(verdict.equal, true, JSON.stringify(verdict));
      assert.deepEqual(verdict.end, { kind: 'exited', code: 0 });
      assert.ok(verdict.points > 4000 && verdict.calls > 0);
      assert.match(printed, /^checksum [0-9a-f]+\n$/);
    });

  test('under every policy', () => {
    for (const policy of ['call', 'function', 'loop', 'loop-all'] as const satisfies Policy[]) {
      const { verdict } = compare(compiled.sort, { args: ['sort', '20'], policy, stride: 10 });
      assert.equal(verdict.equal, true, `${policy}: ${JSON.stringify(verdict)}`);
    }
  });

  test('the same engine twice, and a limit', () => {
    const engines = [ENGINES.wamr, ENGINES.wamr] as const;
    const { verdict } = compare(compiled.fib, { args: ['fib', '10'], engines, limit: 4321, stride: 1000 });
    assert.deepEqual(verdict, {
      equal: true,
      points: 4321,
      calls: verdict.calls,
      end: { kind: 'limit' },
      divergence: null,
      nan: null,
    });
  });
});

test('compute: progress is told after each stride', () => {
  const told: number[] = [];
  const { verdict, printed } = compare(example('compute'), {
    args: ['compute', '3', '2'],
    stride: 1000,
    progress: ({ points }) => void told.push(points),
  });
  assert.equal(verdict.equal, true);
  assert.match(printed, /^step 1 [0-9a-f]{16}\n.*result [0-9a-f]{16}\n$/s);
  assert.deepEqual(told.slice(0, 3), [1000, 2000, 3000]);
  assert.equal(told.at(-1), verdict.points);
});

/** Clocks, randomness, the environment, files that are written, read, listed and removed. */
const WORLD = `
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
int main(int argc, char **argv)
{
    struct timespec now, pause = { 0, 2000000 };
    unsigned char random[64];
    char buffer[256];
    struct stat status;
    unsigned sum = 0;
    clock_gettime(CLOCK_REALTIME, &now);
    sum += (unsigned)now.tv_sec ^ (unsigned)now.tv_nsec;
    nanosleep(&pause, NULL);
    clock_gettime(CLOCK_MONOTONIC, &now);
    sum += (unsigned)now.tv_nsec;
    if (getentropy(random, sizeof random) != 0) return 1;
    for (unsigned i = 0; i < sizeof random; i += 1) sum = sum * 31 + random[i];
    FILE *file = fopen("/data/numbers", "w");
    if (file == NULL) return 2;
    for (int i = 0; i < 100; i += 1) fprintf(file, "%u %d\\n", sum, i);
    fclose(file);
    int fd = open("/data/numbers", O_RDONLY);
    for (ssize_t n; (n = read(fd, buffer, sizeof buffer)) > 0;)
        for (ssize_t i = 0; i < n; i += 1) sum = sum * 31 + (unsigned char)buffer[i];
    if (fstat(fd, &status) != 0 || open("/data/none", O_RDONLY) >= 0) return 3;
    sum += (unsigned)status.st_size;
    close(fd);
    DIR *directory = opendir("/data");
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;) sum += strlen(entry->d_name);
    closedir(directory);
    if (unlink("/data/numbers") != 0) return 4;
    printf("%s %s %s %u\\n", argv[0], argc > 1 ? argv[1] : "-", getenv("NAME"), sum);
    return 7;
}`;

test('clock, randomness, environment and files are those of the first engine, and touched once', () => {
  const directory = mkdtempSync(join(tmpdir(), 'kedge-verify-'));
  try {
    mkdirSync(join(directory, 'sub'));
    const preopens = [{ guestPath: '/data', hostPath: directory }];
    const { verdict, printed } = compare(compileC(WORLD), {
      args: ['world', 'argument'],
      environ: ['NAME=value'],
      preopens,
    });
    assert.deepEqual([verdict.equal, verdict.end], [true, { kind: 'exited', code: 7 }], JSON.stringify(verdict));
    // Printed once, so called once.
    assert.match(printed, /^world argument value \d+\n$/);
    assert.ok(verdict.calls > 15, `${verdict.calls} calls`);
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test('a download over a socket reaches the server once', { timeout: 60_000 }, async () => {
  const body = Buffer.alloc(20_000, 'kedge ');
  let requests = 0;
  const server = createServer((_request, response) => {
    requests += 1;
    response.end(body);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  try {
    const { port } = server.address() as AddressInfo;
    const verdict = await runJob(
      {
        module: example('fetch'),
        engines: ['v8', 'wamr'],
        policy: 'instruction',
        stride: 100_000,
        args: ['fetch', 'http', '127.0.0.1', String(port), '/'],
        environ: [],
        preopens: [],
        address: LOOPBACK,
        quiet: true,
      },
      () => undefined,
    );
    assert.deepEqual([verdict.equal, verdict.end], [true, { kind: 'exited', code: 0 }], JSON.stringify(verdict));
    assert.equal(requests, 1);
    assert.ok(verdict.calls > 10 && verdict.points > 200_000, JSON.stringify(verdict));
  } finally {
    server.closeAllConnections();
    server.close();
  }
});

describe('host calls that differ', () => {
  /** Says two letters, then four; the texts have the second call's arguments. */
  const says = (arguments_: string): Uint8Array =>
    wat(`(module
      (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "fd_seek" (func $seek (param i32 i64 i32 i32) (result i32)))
      (memory (export "memory") 1) (data (i32.const 0) "\\10\\00\\00\\00\\02\\00\\00\\00") (data (i32.const 16) "ab")
      (func (export "_start") (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 32))) ${arguments_}))`);

  test('what the host is told is compared where it is told', () => {
    // Under the policy "call" there are no points but calls, so nothing else can find it.
    const module = says(
      '(i32.store8 (i32.const 17) (i32.const 99)) (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 32)))',
    );
    const other = says(
      '(i32.store8 (i32.const 17) (i32.const 98)) (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 32)))',
    );
    const found = compare(module, { engines: [ENGINES.v8, wrongEngine(other)], policy: 'call' });
    assert.equal(found.printed, 'abac');
    assert.deepEqual(divergence(found).differences, [
      { kind: 'call-memory', address: 17, first: '63', second: '62' },
      {
        kind: 'call',
        first: 'wasi_snapshot_preview1.fd_write(1, 0, 1, 32)',
        second: 'wasi_snapshot_preview1.fd_write(1, 0, 1, 32)',
      },
    ]);
  });

  test('other arguments, another function, and one more', () => {
    const module = says('(drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 32)))');
    const cases = [
      ['(drop (call $write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 32)))', 'fd_write(2, 0, 1, 32)'],
      [
        '(drop (call $seek (i32.const 1) (i64.const -1) (i32.const 1) (i32.const 32)))',
        'fd_seek(1, 0xffffffffffffffff, 1, 32)',
      ],
    ] as const;
    for (const [text, second] of cases) {
      const found = divergence(compare(module, { engines: [ENGINES.v8, wrongEngine(says(text))], policy: 'call' }));
      assert.deepEqual(found.differences, [
        {
          kind: 'call',
          first: 'wasi_snapshot_preview1.fd_write(1, 0, 1, 32)',
          second: `wasi_snapshot_preview1.${second}`,
        },
      ]);
    }
    const silent = divergence(compare(says(''), { engines: [ENGINES.v8, wrongEngine(module)], policy: 'call' }));
    assert.deepEqual(silent.differences, [
      { kind: 'call', first: 'no call', second: 'wasi_snapshot_preview1.fd_write(1, 0, 1, 32)' },
    ]);
    const fewer = divergence(compare(module, { engines: [ENGINES.v8, wrongEngine(says(''))], policy: 'call' }));
    assert.deepEqual(fewer.differences, [{ kind: 'call', first: '2 host calls', second: '1 host calls' }]);
  });
});

test('NaNs of other bits count as equal, and are told of', () => {
  // The wrong engine makes the NaN by another operation, whose sign is another.
  const text = (operation: string): Uint8Array =>
    wat(`(module (global $g (mut f64) (f64.const 0)) (func (export "_start") (local $x f64)
      (local.set $x (f64.const nan)) (global.set $g (f64.${operation} (local.get $x))) (nop) (nop)))`);
  const { verdict } = compare(text('abs'), { engines: [ENGINES.v8, wrongEngine(text('neg'))], stride: 1 });
  assert.equal(verdict.equal, true);
  // Behind the operation, as an operand of what comes next.
  assert.equal(verdict.nan, 5);
});

test('both trap alike, also where each engine has words of its own for it', () => {
  const traps: Readonly<Record<string, string>> = {
    '(drop (i32.load (i32.const 65534)))': 'out of bounds memory access',
    '(call_indirect (i32.const 0))': 'indirect call of null or of another type',
    '(call_indirect (i32.const 1))': 'indirect call of null or of another type',
    '(call_indirect (i32.const 2))': 'out of bounds table access',
    '(drop (i32.trunc_f64_s (f64.const 1e30)))': 'integer overflow or invalid conversion to integer',
    '(drop (i64.trunc_f32_u (f32.const nan)))': 'integer overflow or invalid conversion to integer',
    '(drop (i32.div_s (i32.const 0x80000000) (i32.const -1)))': 'integer overflow or invalid conversion to integer',
  };
  for (const [body, message] of Object.entries(traps)) {
    const text = `(module (memory 1) (table 2 2 funcref) (elem (i32.const 1) $other) (func $other (param i32))
      (func (export "_start") ${body}))`;
    const { verdict } = compare(wat(text));
    assert.deepEqual([verdict.equal, verdict.end], [true, { kind: 'trapped', message }], body);
  }
});

test('a module with a start function, tables and references', () => {
  const module =
    wat(`(module (memory 1) (table $t 4 funcref) (elem declare func $f $first) (global $g (mut funcref) (ref.null func))
    (func $first (local i32) (loop (table.set $t (i32.const 1) (ref.func $f))
      (br_if 0 (i32.lt_u (local.tee 0 (i32.add (local.get 0) (i32.const 1))) (i32.const 10)))))
    (start $first)
    (func $f (param i32) (result i32) (i32.mul (local.get 0) (i32.const 3)))
    (func (export "_start") (local $n i32)
      (loop $again
        (global.set $g (table.get $t (i32.const 1)))
        (table.set $t (i32.and (local.get $n) (i32.const 3)) (global.get $g))
        (i32.store (local.get $n) (call_indirect $t (param i32) (result i32) (local.get $n) (i32.const 1)))
        (br_if $again (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 40))))))`);
  for (const stride of [1, 37, 20_000]) {
    const { verdict } = compare(module, { stride });
    assert.deepEqual([verdict.equal, verdict.end], [true, { kind: 'exited', code: 0 }], JSON.stringify(verdict));
  }
});

test('a module that one of the engines cannot run is refused with the name of the feature', () => {
  const module = wat('(module (func (export "_start") (drop (i32x4.splat (i32.const 1)))))');
  assert.throws(
    () => compare(module),
    (error) =>
      error instanceof KedgeError && error.code === 'KEDGE_MODULE_UNSUPPORTED' && /WAMR.*SIMD/u.test(error.message),
  );
  assert.equal(compare(module, { engines: [ENGINES.v8, ENGINES.v8] }).verdict.equal, true);
});

test('what is no module, what has no _start, and an import that there is not', () => {
  assert.throws(() => compare(new Uint8Array(9)), { code: 'KEDGE_MODULE_INVALID' });
  assert.throws(() => compare(wat('(module)')), { code: 'KEDGE_MODULE_NO_START' });
  const module = wat('(module (import "env" "launch" (func)) (func (export "_start")))');
  assert.throws(() => compare(module), { code: 'KEDGE_IMPORT_UNKNOWN' });
  const preopens = [{ guestPath: '/', hostPath: join(tmpdir(), 'kedge-none') }];
  assert.throws(() => compare(wat('(module (func (export "_start")))'), { preopens }), {
    code: 'KEDGE_PREOPEN_INVALID',
  });
});

test('a thread that compares says what went wrong', { timeout: 30_000 }, async () => {
  const job = {
    module: new Uint8Array(3),
    engines: ['v8', 'wamr'],
    policy: 'loop',
    stride: 1,
    args: [],
    environ: [],
    preopens: [],
    address: LOOPBACK,
    quiet: true,
  } as const;
  await assert.rejects(
    runJob(job, () => undefined),
    { code: 'KEDGE_MODULE_INVALID' },
  );
});
