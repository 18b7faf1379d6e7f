/** The stack of a stopped guest, with lines of its source where the module has them. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { describeStack, stackRows } from '../../../src/cli/kedge/inspect-stack.ts';
import { instrument } from '../../../src/engine/points/instrument.ts';
import { sourceLines } from '../../../src/engine/wasm/lines.ts';
import { parseModule } from '../../../src/engine/wasm/module.ts';
import { Bench, temporaryDirectory } from '../wasi/support.ts';
import { makeInstance, scriptedStop } from '../engine/support.ts';

const SOURCE = `
static volatile unsigned sum;
__attribute__((noinline)) static unsigned spin(unsigned n)
{
    for (;;)
        sum = sum * 3 + n;
}
int main(void)
{
    return 1 +
        (int)spin(7);
}
`;

function compile(...flags: readonly string[]): Uint8Array {
  using directory = temporaryDirectory();
  writeFileSync(join(directory.path, 'spin.c'), SOURCE);
  const clang = process.env['CLANG'] ?? 'clang-14';
  execFileSync(clang, ['--target=wasm32-wasi', '-O1', ...flags, '-o', 'spin.wasm', 'spin.c'], { cwd: directory.path });
  return new Uint8Array(readFileSync(join(directory.path, 'spin.wasm')));
}

/** Frames of the guest, stopped so many instructions after its beginning. */
function stopped(module: Uint8Array, instructions = 60): Uint8Array {
  using bench = new Bench();
  let polls = 0;
  const stop = scriptedStop(() => (polls += 1) > instructions);
  const { instance } = makeInstance(instrument(module, 'instruction', 'memory'), () => bench.wasi.imports, stop);
  assert.deepEqual(instance.start(), { kind: 'stopped' });
  return instance.capture().frames.bytes.slice();
}

describe('the stack of a guest', () => {
  for (const version of [2, 3, 4, 5])
    test(`has lines of source: DWARF ${version}`, () => {
      const module = compile('-g', `-gdwarf-${version}`);
      const lines = new Set<string>();
      // One turn of the loop.
      for (let instructions = 60; instructions < 72; instructions += 1) {
        const [spin, main] = describeStack(stopped(module, instructions), module);
        assert.equal(spin?.name, 'spin');
        assert.match(main?.source ?? '', /(^|\/)spin\.c:11:14$/u);
        lines.add(/(?:^|\/)spin\.c:(.*)$/u.exec(spin.source ?? '')?.[1] ?? 'none');
      }
      // As llvm-dwarfdump says: the loop begins with the function; load, multiplication, addition, store; and over again.
      assert.deepEqual([...lines].toSorted(), ['4', '5:5', '6:13', '6:15', '6:19', '6:23']);
    });

  test('has none without -g, and none without the module', () => {
    // The C library has lines of its own.
    const module = compile('-Wl,--strip-debug');
    const frames = stopped(module);
    for (const given of [module, undefined]) {
      const stack = describeStack(frames, given);
      assert.ok(stack.length > 1);
      assert.ok(stack.every(({ source }) => source === null));
      assert.equal(stackRows(stack)[0]?.[3], '-');
    }
  });

  test('damaged line numbers are nobody’s error, and end', () => {
    const module = compile('-g', '-gdwarf-5');
    const offsets = describeStack(stopped(module), module).map(({ offset }) => offset);
    const section = parseModule(module).sections.find(({ name }) => name === '.debug_line');
    assert.ok(section !== undefined);
    for (let at = section.start + 12; at < section.end; at += 1) {
      for (const byte of [0x00, 0x7f, 0xff]) {
        const damaged = module.slice();
        damaged[at] = byte;
        for (const { line } of sourceLines(damaged, offsets).values()) assert.ok(line > 0);
      }
    }
  });
});
