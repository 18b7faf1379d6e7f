/** Large memories are not copied when their guest stays: what the keeper reads of them, and what happens when the guest does not stay. */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import type { EngineName } from '../../../src/engine/engines.ts';
import type { Guest } from '../../../src/guest/guest.ts';
import type { SavedGuest, StandingGuest } from '../../../src/guest/protocol.ts';
import { unpackDelta } from '../../../src/image/memory-delta.ts';
import type { StoredSection } from '../../../src/image/memory-section.ts';
import { bytesOf } from '../../support/parts.ts';
import { wat } from '../engine/support.ts';
import { plainGuest } from './support.ts';

const MEBIBYTES = 24;
const PAGES = MEBIBYTES * 16;

/** Fills its memory with noise from the page behind the first on, then changes the first byte of each page in turn, without end. */
const MODULE = wat(`(module
  (memory (export "memory") ${PAGES})
  (func (export "_start") (local $at i32) (local $x i32)
    (local.set $x (i32.const 1))
    (local.set $at (i32.const 65536))
    (loop $fill
      (local.set $x (i32.xor (local.get $x) (i32.shl (local.get $x) (i32.const 13))))
      (local.set $x (i32.xor (local.get $x) (i32.shr_u (local.get $x) (i32.const 17))))
      (local.set $x (i32.xor (local.get $x) (i32.shl (local.get $x) (i32.const 5))))
      (i32.store (local.get $at) (local.get $x))
      (br_if $fill (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 4))) (i32.const ${PAGES * 65_536}))))
    (i32.store (i32.const 0) (i32.const 1))
    (loop $change
      (local.set $at (i32.const 65536))
      (loop $page
        (i32.store (local.get $at) (i32.add (i32.load (local.get $at)) (i32.const 1)))
        (br_if $page
          (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 4096))) (i32.const ${PAGES * 65_536}))))
      (br $change))))`);

/** Stopped once its memory is filled; it ends with the test. */
async function filled(engine: EngineName, t: TestContext): Promise<Guest> {
  const guest = plainGuest(MODULE, engine);
  t.after(() => guest.destroy());
  await guest.start();
  // Each stop holds it up: the next one leaves it twice as long.
  for (let turns = 256; ; turns *= 2) {
    for (let turn = 0; turn < turns; turn += 1) await setImmediate();
    assert.equal(await guest.stop(), 'stopped');
    await guest.drain(false);
    const { memory } = await guest.save([]);
    // Two runs: the first page, with its mark, and all that is noise.
    if (memory instanceof Uint8Array && memory.length > (MEBIBYTES - 1) * 1024 * 1024 && memory[4] === 0) return guest;
    await guest.resume();
  }
}

async function saved(guest: Guest, stays: boolean): Promise<SavedGuest | StandingGuest> {
  await guest.drain(stays);
  return await guest.save([]);
}

function lent({ memory }: SavedGuest | StandingGuest): StoredSection {
  assert.ok(!(memory instanceof Uint8Array), 'the memory is lent');
  return memory;
}

async function readAll(guest: Guest): Promise<void> {
  const section = lent(await guest.save([]));
  await bytesOf([section]);
}

function copied({ memory }: SavedGuest | StandingGuest): Uint8Array {
  assert.ok(memory instanceof Uint8Array, 'the memory is a copy');
  return memory;
}

for (const engine of ['v8', 'wamr'] as const) {
  test(`what is lent of a guest on ${engine} is what a copy would be`, { timeout: 120_000 }, async (t) => {
    const guest = await filled(engine, t);
    const copy = copied(await saved(guest, false));
    const section = lent(await saved(guest, true));
    const bytes = await bytesOf([section]);
    assert.equal(bytes.length, section.length);
    assert.equal(Buffer.compare(await unpackDelta(bytes, PAGES), copy), 0);
    // As often as anybody wants it, while the guest stands still.
    assert.equal(Buffer.compare(await bytesOf([section]), bytes), 0);
    // One that goes on has its memory to itself.
    await guest.resume();
    await assert.rejects(bytesOf([section]), { code: 'KEDGE_ENGINE_STATE' });
    assert.equal(await guest.stop(), 'stopped');
    const later = copied(await saved(guest, false));
    assert.notEqual(Buffer.compare(later, copy), 0);
  });

  test(`a guest on ${engine} that is let go before its memory is ready goes on`, { timeout: 120_000 }, async (t) => {
    const guest = await filled(engine, t);
    for (const asked of [false, true]) {
      await guest.drain(true);
      // Whichever is first: what was lent before the guest went on is of no use any more.
      const refused = asked ? assert.rejects(readAll(guest), { code: 'KEDGE_ENGINE_STATE' }) : undefined;
      await guest.resume();
      await refused;
      assert.equal(guest.state.name, 'running');
      assert.equal(await guest.stop(), 'stopped');
    }
    const section = lent(await saved(guest, true));
    assert.equal((await bytesOf([section])).length, section.length);
  });

  test(`a guest on ${engine} that ends takes what it lent with it`, { timeout: 120_000 }, async (t) => {
    const guest = await filled(engine, t);
    const section = lent(await saved(guest, true));
    const pieces = section.read()[Symbol.asyncIterator]();
    assert.ok((await pieces.next()).done === false);
    await guest.destroy();
    // The piece that was on its way may have come.
    const rest = async (): Promise<void> => {
      while ((await pieces.next()).done !== true);
    };
    await assert.rejects(rest(), { code: 'KEDGE_GUEST_ENDED' });
  });
}
