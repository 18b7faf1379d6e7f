import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { createHostCallContext } from '../../../src/engine/context.ts';
import type { ComputeState, InstrumentedModule, Outcome, StopSignal } from '../../../src/engine/engine.ts';
import { instrument } from '../../../src/engine/points/instrument.ts';
import { createStopSignal } from '../../../src/engine/stop.ts';
import { v8Engine } from '../../../src/engine/v8/engine.ts';
import { Wasi, type WasiOptions } from '../../../src/wasi/imports.ts';
import type { SavedWasi } from '../../../src/wasi/saved.ts';
import { stopFlagWaiter } from '../../../src/wasi/waiting.ts';
import { scriptedStop } from '../engine/support.ts';
import { compileC, temporaryDirectory } from './support.ts';

interface Result {
  readonly outcome: Outcome;
  readonly output: string;
  readonly moves: number;
}

/** Runs a program; whenever it stops it goes on in a fresh instance with fresh WASI, from copies of its state. */
function run(
  module: InstrumentedModule,
  options: Partial<WasiOptions>,
  stopOf: () => StopSignal,
  cleared: () => void = () => {},
): Result {
  const compiled = v8Engine.compile(module);
  let output = '';
  let image: { compute: ComputeState; wasi: SavedWasi } | undefined;
  for (let moves = 0; ; moves += 1) {
    const context = createHostCallContext();
    const stop = stopOf();
    const say = (bytes: Uint8Array): void => void (output += Buffer.from(bytes).toString());
    const wasi: Wasi = new Wasi({
      context,
      stdio: { input: { kind: 'none' }, output: say, errors: say },
      waiter: stopFlagWaiter(stop),
      ...options,
      ...(image === undefined ? {} : { saved: image.wasi }),
    });
    const instance = v8Engine.instantiate(compiled, wasi.imports, stop, context);
    let outcome: Outcome;
    if (image === undefined) {
      outcome = instance.start();
    } else {
      instance.restore(image.compute);
      cleared();
      outcome = instance.resume();
    }
    if (outcome.kind !== 'stopped') {
      wasi.close();
      return { outcome, output, moves };
    }
    image = { compute: structuredClone(instance.capture()), wasi: structuredClone(wasi.save()) };
    wasi.close();
  }
}

/** Stops at every n-th poll. */
function every(n: number): () => StopSignal {
  let polls = 0;
  let stopped = false;
  return () =>
    scriptedStop(() => {
      if (stopped) {
        stopped = false;
        return false;
      }
      polls += 1;
      stopped = polls % n === 0;
      return stopped;
    });
}

const never = (): StopSignal => createStopSignal();

const FILES = `
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static int compare(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

int main(int argc, char **argv)
{
    printf("%d %s %s\\n", argc, argv[1], getenv("COLOUR"));
    FILE *file = fopen("/data/lines", "w+");
    if (file == NULL) { perror("fopen"); return 1; }
    for (int i = 0; i < 200; i++) fprintf(file, "line %d of %s\\n", i, argv[1]);
    rewind(file);
    char line[100]; unsigned sum = 0; int lines = 0;
    while (fgets(line, sizeof line, file) != NULL) { lines++; for (char *c = line; *c; c++) sum = sum * 31 + (unsigned char)*c; }
    fclose(file);
    printf("%d lines, %08x\\n", lines, sum);
    char *names[40]; int count = 0;
    for (int i = 0; i < 30; i++) { char name[40]; snprintf(name, sizeof name, "/data/f%d", i); close(open(name, O_CREAT | O_WRONLY, 0666)); }
    DIR *directory = opendir("/data");
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;) names[count++] = strdup(entry->d_name);
    closedir(directory);
    qsort(names, count, sizeof *names, compare);
    printf("%d entries, %s to %s\\n", count, names[0], names[count - 1]);
    struct stat stat_;
    printf("%d %lld\\n", stat("/data/lines", &stat_), (long long)stat_.st_size);
    printf("%d %s\\n", open("/data/../../etc/passwd", O_RDONLY), errno == ENOTCAPABLE ? "not capable" : strerror(errno));
    printf("%d %s\\n", open("/nowhere", O_RDONLY), strerror(errno));
    printf("%.6f\\n", strtod("3.25", NULL) * sum);
    return 42;
}`;

test('a C program with files and directories, moved every few polls', { timeout: 60_000 }, () => {
  const module = instrument(compileC(FILES), 'loop-all', 'memory');
  using directory = temporaryDirectory();
  const options = (name: string): Partial<WasiOptions> => {
    const hostPath = join(directory.path, name);
    mkdirSync(hostPath);
    return { args: ['prog', 'käse'], environ: ['COLOUR=blue'], preopens: [{ guestPath: '/data', hostPath }] };
  };
  const straight = run(module, options('a'), never);
  assert.deepEqual(straight.outcome, { kind: 'exited', code: 42 });
  assert.match(straight.output, /^2 käse blue\n200 lines, [0-9a-f]{8}\n33 entries, \. to lines\n/u);
  assert.match(straight.output, /\n-1 not capable\n/u);
  const moved = run(module, options('b'), every(151));
  assert.deepEqual(moved.outcome, straight.outcome);
  assert.equal(moved.output, straight.output);
  assert.ok(moved.moves > 100, `${moved.moves} moves`);
  for (const name of ['a', 'b']) {
    assert.equal(readFileSync(join(directory.path, name, 'lines'), 'utf8').split('\n')[199], 'line 199 of käse');
  }
});

const LONG = `
#include <stdio.h>
#include <unistd.h>
static char bytes[200000];
int main(void) {
    for (int i = 0; i < sizeof bytes; i++) bytes[i] = 'a' + i % 26;
    setvbuf(stdout, NULL, _IOFBF, 100000);
    fputs("begin ", stdout);
    fwrite(bytes, 1, sizeof bytes, stdout);
    puts(" end");
    fflush(stdout);
    fprintf(stderr, "%d", (int)write(1, bytes, sizeof bytes));
    return 0;
}`;

test('a C program prints more than one call takes', () => {
  const { output } = run(instrument(compileC(LONG), 'loop-all', 'memory'), {}, never);
  const bytes = Array.from({ length: 200_000 }, (_, i) => 'abcdefghijklmnopqrstuvwxyz'[i % 26]).join('');
  assert.ok(output.startsWith(`begin ${bytes} end\n`));
  assert.ok(output.endsWith(`${bytes}200000`), 'write(2) takes all of it');
});

const CLOCK = `
#include <stdio.h>
#include <time.h>
#include <unistd.h>
static long long now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec * 1000000000ll + t.tv_nsec; }
int main(void)
{
    long long last = now(), backwards = 0, before;
    for (int i = 0; i < 2000; i++) { long long t = now(); backwards += t < last; last = t; }
    before = now();
    usleep(300000);
    long long slept = (now() - before) / 1000000;
    printf("%lld backwards, slept %s\\n", backwards, slept >= 300 ? "enough" : "too little");
    return slept < 300;
}`;

test('sleeps are interrupted by another thread and end when they should', { timeout: 30_000 }, async () => {
  const module = instrument(compileC(CLOCK), 'loop-all', 'memory');
  const stop = createStopSignal();
  // Requests a stop a few milliseconds after the flag was cleared, for ever.
  const worker = new Worker(
    `const { workerData } = require('node:worker_threads');
     const words = new Int32Array(workerData.buffer, 0, 2);
     for (;;) {
       if (Atomics.load(words, 0) === 0) {
         Atomics.wait(words, 1, 0, 12);
         Atomics.store(words, 0, 1);
         Atomics.notify(words, 0);
       } else Atomics.wait(words, 1, 0, 1);
     }`,
    { eval: true, workerData: stop.handle },
  );
  try {
    const result = run(
      module,
      {},
      () => stop,
      () => stop.clear(),
    );
    assert.equal(result.output, '0 backwards, slept enough\n');
    assert.deepEqual(result.outcome, { kind: 'exited', code: 0 });
    assert.ok(result.moves >= 5, `${result.moves} moves`);
  } finally {
    await worker.terminate();
  }
});

test('standard input from a descriptor, and an abort', { timeout: 30_000 }, async () => {
  using directory = temporaryDirectory();
  const file = join(directory.path, 'input');
  writeFileSync(file, 'first\nsecond\n');
  const { closeSync, openSync } = await import('node:fs');
  const fd = openSync(file, 'r');
  try {
    const module = instrument(
      compileC(`#include <stdio.h>
#include <stdlib.h>
int main(void) { char line[64]; while (fgets(line, sizeof line, stdin)) printf("> %s", line); abort(); }`),
      'loop-all',
      'memory',
    );
    let output = '';
    const say = (bytes: Uint8Array): void => void (output += Buffer.from(bytes).toString());
    const result = run(module, { stdio: { input: { kind: 'descriptor', fd }, output: say, errors: say } }, never);
    assert.equal(output, '> first\n> second\n');
    assert.deepEqual(result.outcome, { kind: 'trapped', message: 'unreachable' });
  } finally {
    closeSync(fd);
  }
});
