/** The BPF programs of the fast path beside the pump: the same segments, the same bytes, the same that is known afterwards. */
import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { before, describe, test } from 'node:test';
import { run } from '../support/process.ts';
import { PLAIN_KINDS, SPECIAL_KINDS } from './support/fast-path-segments.ts';
import type { Report } from './support/fast-path-scenario.ts';

const SCENARIO = join(import.meta.dirname, 'support', 'fast-path-scenario.ts');
const SEEDS = [7, 20_261, 99_991];
const PROGRAM = join(import.meta.dirname, '..', '..', 'native', 'bpf', 'fast_path.bpf.c');

for (const seed of SEEDS)
  describe(`segments of seed ${seed}, both ways`, () => {
    let report: Report;
    before(async () => {
      const command = ['unshare', '--net', process.execPath, SCENARIO, String(seed)];
      report = JSON.parse(await run(command, { timeout: 120_000 })) as Report;
    });

    test('what the kernel carries is what the pump would have sent, and both then know the same', () => {
      assert.deepEqual(report.differences, []);
    });

    test('plain segments are carried', () => {
      for (const name of Object.keys(PLAIN_KINDS)) {
        const { carried = 0, passed = 0 } = report.kinds[name] ?? {};
        assert.ok(carried > passed, `${name}: ${carried} carried, ${passed} passed`);
      }
    });

    test('what comes from a host that the guest has left goes to the pump, and changes nothing for the flow', () => {
      const { sent, ...harm } = report.elsewhere;
      assert.ok(sent > 0);
      assert.deepEqual(harm, { carried: 0, letGo: 0 });
    });

    test('all others go to the pump', () => {
      for (const name of Object.keys(SPECIAL_KINDS)) {
        const { carried, passed } = report.kinds[name] ?? { carried: -1, passed: 0 };
        assert.equal(carried, 0, name);
        assert.ok(passed > 0, `${name}: none was sent`);
      }
    });
  });

/** Opcode of an atomic operation on 32 bits; an addition that is a full barrier has the bit FETCH. */
const ATOMIC_32 = 0xc3;
const ADD = 0x00;
const FETCH = 0x01;
/** Where `busy` is in `struct flow`. */
const BUSY = 8;

test('a packet counts as busy, and as no longer so, with full barriers: also where stores are reordered', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'kedge-bpf-'));
  try {
    const object = join(folder, 'object');
    const include = `-I/usr/include/${process.arch === 'arm64' ? 'aarch64' : 'x86_64'}-linux-gnu`;
    const clang = process.env['CLANG'] ?? 'clang-14';
    await run([clang, '-target', 'bpf', '-mcpu=v3', '-O2', '-g', include, '-c', PROGRAM, '-o', object]);
    const bytes = await readFile(object);
    const found: number[] = [];
    for (let at = 0; at + 8 <= bytes.length; at += 8) {
      const operation = bytes.readInt32LE(at + 4);
      if (bytes[at] !== ATOMIC_32 || bytes.readInt16LE(at + 2) !== BUSY) continue;
      if ((operation & ~FETCH) === ADD) found.push(operation);
    }
    assert.ok(found.length >= 4, 'one at each end of each program');
    assert.deepEqual(new Set(found), new Set([ADD | FETCH]));
  } finally {
    await rm(folder, { recursive: true });
  }
});
