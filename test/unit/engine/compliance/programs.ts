/** Programs in C over WASI and over real sockets: what they print and do is the same on every engine. */
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { createHostCallContext } from '../../../../src/engine/context.ts';
import type { Outcome } from '../../../../src/engine/engine.ts';
import { createStopSignal } from '../../../../src/engine/stop.ts';
import { Wasi, type WasiOptions } from '../../../../src/wasi/imports.ts';
import { stopFlagWaiter } from '../../../../src/wasi/waiting.ts';
import { patternHash } from '../../../support/stream.ts';
import { ExampleGuest, exampleModule, Peer } from '../../examples/support.ts';
import { compileC, temporaryDirectory } from '../../wasi/support.ts';
import type { Route, Subject } from './subjects.ts';

/** Runs a program to its end. */
function run(
  { engine, instrument }: Subject,
  module: Uint8Array,
  options: Partial<WasiOptions> = {},
): { readonly outcome: Outcome; readonly output: string } {
  let output = '';
  const say = (bytes: Uint8Array): void => void (output += Buffer.from(bytes).toString());
  const context = createHostCallContext();
  const stop = createStopSignal();
  const wasi: Wasi = new Wasi({
    context,
    stdio: { input: { kind: 'none' }, output: say, errors: say },
    waiter: stopFlagWaiter(stop),
    ...options,
  });
  const instance = engine.instantiate(engine.compile(instrument(module)), wasi.imports, stop, context);
  const outcome = instance.start();
  wasi.close();
  return { outcome, output };
}

/** Recursion, function pointers, the heap, floats, a sort with a callback, text. */
const LANGUAGE = `
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
struct node { struct node *left, *right; };
static struct node *grow(int depth) {
    struct node *node = malloc(sizeof *node);
    node->left = depth ? grow(depth - 1) : NULL;
    node->right = depth ? grow(depth - 1) : NULL;
    return node;
}
static int count(const struct node *node) { return node ? 1 + count(node->left) + count(node->right) : 0; }
static int compare(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }
static double twice(double x) { return 2 * x; }
static double half(double x) { return x / 2; }
int main(int argc, char **argv) {
    double (*volatile apply[])(double) = {twice, half, sqrt};
    int *numbers = malloc(100000 * sizeof *numbers);
    unsigned state = 1;
    for (int i = 0; i < 100000; i++) numbers[i] = (state = state * 1664525 + 1013904223) >> 8;
    qsort(numbers, 100000, sizeof *numbers, compare);
    double sum = 0;
    for (int i = 0; i < 100000; i++) sum += apply[i % 3](numbers[i]);
    char text[200];
    snprintf(text, sizeof text, "%d %s %.9e %d %d", argc, argv[argc - 1], sum, count(grow(14)), numbers[5000]);
    puts(text);
    memset(malloc(8 << 20), 1, 8 << 20);
    fprintf(stderr, "%lld %g %g\\n", (long long)1e18 % 1000003, exp(1), pow(2, 0.5));
    return (int)strlen(text);
}`;

const FILES = `
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
int main(void) {
    FILE *file = fopen("/data/lines", "w+");
    for (int i = 0; i < 500; i++) fprintf(file, "line %d\\n", i);
    rewind(file);
    unsigned sum = 0;
    for (int c; (c = fgetc(file)) != EOF;) sum = sum * 31 + (unsigned)c;
    fclose(file);
    int entries = 0;
    DIR *directory = opendir("/data");
    while (readdir(directory) != NULL) entries++;
    struct timespec before, after;
    clock_gettime(CLOCK_MONOTONIC, &before);
    usleep(20000);
    clock_gettime(CLOCK_MONOTONIC, &after);
    long long slept = (after.tv_sec - before.tv_sec) * 1000 + (after.tv_nsec - before.tv_nsec) / 1000000;
    printf("%08x %d %d %d\\n", sum, entries, open("/data/../../etc/passwd", O_RDONLY) < 0 && errno == ENOTCAPABLE, slept >= 20);
    return 0;
}`;

/** The examples, stopped again and again while their peers talk to them. */
export function movingPrograms(route: Route): void {
  const start = (name: string, ...args: readonly string[]): ExampleGuest => ExampleGuest.startOn(route, name, ...args);

  test('chat remembers people over moves', { timeout: 60_000 }, async () => {
    await using chat = start('chat', '7001');
    await chat.until(() => chat.output.includes('listening on port 7001'));
    await chat.move();
    const anna = await Peer.to(chat.address, 7001);
    assert.equal(await anna.line(), 'hello, who are you?');
    await anna.write('Anna\n');
    assert.equal(await anna.line(), 'nice to meet you, Anna');
    for (let i = 1; i <= 5; i += 1) {
      await anna.write(`half of `);
      await chat.move();
      await anna.write(`line ${i}\n`);
      assert.match(await anna.line(), new RegExp(`^Anna, line ${i} has 14 characters`, 'u'));
    }
    anna.socket.destroy();
  });

  test('compute comes to the same result however often it moves', { timeout: 60_000 }, async () => {
    await using straight = start('compute', '300000', '10');
    await straight.ended;
    await using moved = start('compute', '300000', '10');
    let ended = false;
    void moved.ended.finally(() => (ended = true)).catch(() => {});
    // Then it is left alone: a guest that is always being moved makes little progress.
    while (!ended && moved.moves < 25) {
      await Promise.race([moved.move().catch(() => {}), moved.ended]);
    }
    await moved.ended;
    assert.equal(moved.output, straight.output);
    assert.match(moved.output, /step 10 [0-9a-f]{16}\nresult [0-9a-f]{16}\n$/u);
    assert.ok(moved.moves > 3, `${moved.moves} moves`);
  });
}

export function programs(subject: Subject): void {
  test('a program with recursion, function pointers, a large heap and floats', { timeout: 60_000 }, () => {
    const result = run(subject, compileC(LANGUAGE), { args: ['program', 'käse'] });
    assert.deepEqual(result, {
      outcome: { kind: 'exited', code: 36 },
      output: '2 käse 6.987282257e+11 32767 842135\n999976 2.71828 1.41421\n',
    });
  });

  test('files, directories, clocks and sleep', { timeout: 60_000 }, () => {
    using directory = temporaryDirectory();
    const hostPath = join(directory.path, 'data');
    mkdirSync(hostPath);
    const result = run(subject, compileC(FILES), { preopens: [{ guestPath: '/data', hostPath }] });
    assert.deepEqual(result.outcome, { kind: 'exited', code: 0 });
    assert.match(result.output, /^[0-9a-f]{8} 3 1 1\n$/u);
    assert.equal(readFileSync(join(hostPath, 'lines'), 'utf8').split('\n')[499], 'line 499');
  });

  test('an abort', { timeout: 60_000 }, () => {
    const result = run(subject, compileC('#include <stdlib.h>\nint main(void) { abort(); }'));
    assert.deepEqual(result.outcome, { kind: 'trapped', message: 'unreachable' });
  });

  test('the example compute', { timeout: 60_000 }, () => {
    const result = run(subject, exampleModule('compute'), { args: ['compute', '100000', '3'] });
    assert.deepEqual(result.outcome, { kind: 'exited', code: 0 });
    assert.match(result.output, /^step 1 [0-9a-f]{16}\nstep 2 [0-9a-f]{16}\nstep 3 ([0-9a-f]{16})\nresult \1\n$/u);
  });

  test('the examples chat, stream and fetch over real connections', { timeout: 60_000 }, async () => {
    const start = (name: string, ...args: readonly string[]): ExampleGuest =>
      ExampleGuest.startOn([subject], name, ...args);
    await using chat = start('chat', '7001');
    await chat.until(() => chat.output.includes('listening on port 7001'));
    const anna = await Peer.to(chat.address, 7001);
    assert.equal(await anna.line(), 'hello, who are you?');
    await anna.write('Anna\ngood morning\nbye\n');
    assert.match((await anna.rest()).toString(), /nice to meet you, Anna\nAnna, line 1 has 12 characters\n/u);
    anna.socket.destroy();

    const size = 300_007;
    await using stream = start('stream', '7000');
    await stream.until(() => stream.output.includes('listening'));
    await using fetch = start('fetch', 'both', stream.address, '7000', String(size), '4');
    assert.deepEqual(await fetch.ended, { kind: 'exited', code: 0 }, fetch.output);
    assert.ok(fetch.output.endsWith(`bytes ${size} sha256 ${patternHash(4, size)}\n`), fetch.output);
  });
}
