/** A guest that prints without end is held to its keeper's pace. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
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

test('what is on its way stays bounded, and the guest can still be moved', async () => {
  await using hosts = await Hosts.start();
  await hosts.a.client.run(spec({ name: 'printer' }), printer());
  const log = hosts.a.agent.find('printer').log;
  let bytes = 0;
  const before = process.memoryUsage.rss();
  const { promise: never } = Promise.withResolvers<void>();
  for await (const part of log.read(never)) if ((bytes += part.bytes.length) > 8 * LOG_LIMIT) break;
  // Unbounded, a second of it is hundreds of megabytes.
  assert.ok(process.memoryUsage.rss() - before < 256 * 1024 * 1024);
  await hosts.a.client.migrate('printer', hosts.b.socket);
  assert.equal((await listed(hosts.b, 'printer')).state, 'running');
});
