/** A guest that prints without end is held to its keeper's pace. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { LOG_LIMIT } from '../../../src/guest/protocol.ts';
import { wat } from '../engine/support.ts';
import { Hosts, listed, spec } from '../migrate/agents.ts';

/** Prints a line of 64 bytes for ever. */
function printer(): Uint8Array {
  return wat(`(module
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 0) "\\10\\00\\00\\00\\40\\00\\00\\00")
    (func (export "_start")
      (loop $again
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
        (br $again))))`);
}

/** Bytes that this process has in memory, without what the collector has yet to take away. */
function collected(): number {
  setFlagsFromString('--expose-gc');
  (runInNewContext('gc') as () => void)();
  return process.memoryUsage.rss();
}

test('what is on its way stays bounded, and the guest can still be moved', async () => {
  await using hosts = await Hosts.start();
  await hosts.a.client.run(spec({ name: 'printer' }), printer());
  const log = hosts.a.agent.find('printer').log;
  const { promise: never } = Promise.withResolvers<void>();
  const output = log.read(never)[Symbol.asyncIterator]();
  const readOn = async (bytes: number): Promise<void> => {
    for (let left = bytes; left > 0;) {
      const next = await output.next();
      assert.ok(next.done !== true);
      left -= next.value.bytes.length;
    }
  };
  // By then the agents have their next workers in store, too.
  await readOn(6 * LOG_LIMIT);
  const before = collected();
  await readOn(6 * LOG_LIMIT);
  // Unbounded, a second of it is hundreds of megabytes.
  const more = collected() - before;
  assert.ok(more < 128 * 1024 * 1024, `${more} bytes more`);
  await hosts.a.client.migrate('printer', hosts.b.socket);
  assert.equal((await listed(hosts.b, 'printer')).state, 'running');
});
