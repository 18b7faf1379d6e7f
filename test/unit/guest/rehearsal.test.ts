/** A rehearsal that ends early only makes moves slower, so that nobody would see it: here it must reach its end. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { instrument } from '../../../src/engine/points/instrument.ts';
import { createStopSignal } from '../../../src/engine/stop.ts';
import { v8Engine } from '../../../src/engine/v8/engine.ts';
import { createAccount } from '../../../src/guest/descriptors.ts';
import { createWords } from '../../../src/guest/protocol.ts';
import { LIFE, LIFE_SOURCE, rehearseLife } from '../../../src/guest/rehearsal-life.ts';
import { rehearseAll } from '../../../src/guest/rehearsal.ts';
import { GuestThread } from '../../../src/guest/thread.ts';
import { failed, native } from '../../../src/native.ts';
import { example } from '../migrate/agents.ts';

function descriptors(): number {
  return readdirSync('/proc/self/fd').length;
}

test('a rehearsal reaches its end, and leaves no descriptor open', () => {
  rehearseAll();
  const before = descriptors();
  rehearseAll();
  assert.equal(descriptors(), before);
});

test('a rehearsal of a module reaches its end, and says nothing', () => {
  const module = example('compute');
  const wakeFd = native.wakeCreate();
  assert.ok(!failed(wakeFd));
  const said: unknown[] = [];
  const guest = new GuestThread(
    {
      engine: 'v8',
      instrumented: instrument(module, 'loop', v8Engine.flag),
      module,
      address: 0x64400001,
      args: ['compute'],
      environ: [],
      preopens: [],
      stop: createStopSignal().handle,
      wakeFd,
      descriptors: createAccount(),
      words: createWords().buffer,
    },
    (message) => said.push(message),
  );
  guest.rehearse();
  assert.deepEqual(said, []);
  native.fdClose(wakeFd);
});

for (const engine of ['v8', 'wamr'] as const)
  test(`a rehearsal of lives on ${engine} reaches its end, and leaves no descriptor open`, () => {
    rehearseLife(engine);
    const before = descriptors();
    rehearseLife(engine);
    assert.equal(descriptors(), before);
  });

test('the module of the rehearsal is the one its source says', () => {
  const directory = mkdtempSync(join(tmpdir(), 'kedge-life-'));
  try {
    const [source, module] = [join(directory, 'life.wat'), join(directory, 'life.wasm')];
    writeFileSync(source, LIFE_SOURCE);
    execFileSync('wat2wasm', [source, '-o', module]);
    assert.deepEqual(readFileSync(module), LIFE);
  } finally {
    rmSync(directory, { recursive: true });
  }
});
