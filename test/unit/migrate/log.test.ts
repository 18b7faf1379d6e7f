/** What an agent remembers of the output of a guest. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Log } from '../../../src/migrate/kept.ts';
import type { ReadPart } from '../../../src/migrate/kept.ts';

const KIB = 1024;

/** What a reader gets of all that is there. */
async function readAll(log: Log): Promise<ReadPart[]> {
  const parts: ReadPart[] = [];
  for await (const part of log.read(Promise.resolve())) parts.push(part);
  return parts;
}

/** What is missing before the next part. */
async function missing(reader: AsyncGenerator<ReadPart, void>): Promise<number | undefined> {
  const { value } = await reader.next();
  return value?.missed;
}

describe('a log', () => {
  test('gives output in order, and says that nothing is missing', async () => {
    const log = new Log();
    void log.add({ stream: 'stdout', bytes: Buffer.from('one') });
    void log.add({ stream: 'stderr', bytes: Buffer.from('two') });
    assert.deepEqual(
      (await readAll(log)).map(({ stream, bytes, missed }) => [stream, Buffer.from(bytes).toString(), missed]),
      [
        ['stdout', 'one', 0],
        ['stderr', 'two', 0],
      ],
    );
  });

  test('tells a reader how much it forgot before the first part, and between two', async () => {
    const log = new Log();
    const add = (parts: number): void => {
      for (let i = 0; i < parts; i += 1) void log.add({ stream: 'stdout', bytes: new Uint8Array(100 * KIB) });
    };
    add(30);
    const never = new Promise<never>(() => undefined);
    const reader = log.read(never);
    assert.equal(await missing(reader), 20 * 100 * KIB);
    add(15);
    // It had the 21st; ten of 45 are there.
    assert.equal(await missing(reader), (35 - 21) * 100 * KIB);
    assert.equal(await missing(reader), 0);
  });

  test('forgets nothing that the reader it waits for has not taken, and says when there is room', async () => {
    const log = new Log(true);
    const add = (): Promise<void> | undefined => log.add({ stream: 'stdout', bytes: new Uint8Array(100 * KIB) });
    const rooms = Array.from({ length: 30 }, add);
    // Half a MiB is ahead of the reader after five.
    assert.deepEqual([rooms[4], rooms[5] === undefined], [undefined, false]);
    let hasRoom = false;
    void rooms[5]?.then(() => (hasRoom = true));
    const reader = log.readAwaited(new Promise<never>(() => undefined));
    for (let taken = 0; taken < 25; taken += 1) assert.equal(await missing(reader), 0);
    assert.equal(hasRoom, false, 'six parts are ahead of what it has asked for');
    assert.equal(await missing(reader), 0);
    await rooms[5];
    // Another reader finds what the log would have had anyway.
    assert.equal((await readAll(log)).length, 10);
  });

  test('whoever was waited for is not any more once it is released', async () => {
    const log = new Log(true);
    const full = Array.from({ length: 30 }, () => log.add({ stream: 'stdout', bytes: new Uint8Array(100 * KIB) }));
    log.release();
    await full.at(-1);
    assert.equal(log.add({ stream: 'stdout', bytes: new Uint8Array(100 * KIB) }), undefined);
    assert.equal((await readAll(log)).length, 10);
  });

  test('of a part that is longer than the log the beginning is missing', async () => {
    const log = new Log();
    void log.add({ stream: 'stdout', bytes: new Uint8Array(3 * KIB * KIB) });
    const [part, ...more] = await readAll(log);
    assert.deepEqual([part?.missed, more], [2 * KIB * KIB + 64, []]);
    assert.equal((part?.missed ?? 0) + (part?.bytes.length ?? 0), 3 * KIB * KIB);
  });
});
