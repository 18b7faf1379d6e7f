import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createHostCallContext } from '../../../src/engine/context.ts';
import type {
  ComputeState,
  Engine,
  HostCallContext,
  HostFunction,
  HostImports,
  Instance,
  InstrumentedModule,
  StopSignal,
} from '../../../src/engine/engine.ts';
import { createStopSignal } from '../../../src/engine/stop.ts';
import { v8Engine } from '../../../src/engine/v8/engine.ts';

const assembled = new Map<string, Uint8Array>();

/** Assembles WebAssembly text with wabt's wat2wasm. */
export function wat(text: string, ...flags: readonly string[]): Uint8Array {
  const key = [...flags, text].join('\n');
  const known = assembled.get(key) ?? assemble(text, flags);
  assembled.set(key, known);
  return known;
}

function assemble(text: string, flags: readonly string[]): Uint8Array {
  const directory = mkdtempSync(join(tmpdir(), 'kedge-wat-'));
  try {
    const source = join(directory, 'module.wat');
    const target = join(directory, 'module.wasm');
    writeFileSync(source, text);
    execFileSync('wat2wasm', [...flags, source, '-o', target], { stdio: ['ignore', 'ignore', 'pipe'] });
    return new Uint8Array(readFileSync(target));
  } finally {
    rmSync(directory, { recursive: true });
  }
}

/** A host function from a plain one. */
export function host<Arguments extends readonly (number | bigint)[]>(
  signature: string,
  call: (...args: Arguments) => number | bigint | undefined,
): HostFunction {
  return { signature, call: call as unknown as HostFunction['call'] };
}

/**
 * A stop signal whose flag is always up, so that every poll asks; `decide` says whether it stops. This makes stops
 * happen at exact points, without a second thread.
 */
export function scriptedStop(decide: () => boolean): StopSignal {
  const signal = createStopSignal();
  signal.request();
  return { ...signal, requested: decide };
}

export interface Made {
  readonly instance: Instance;
  readonly context: HostCallContext;
}

export function makeInstance(
  module: InstrumentedModule,
  imports: (context: HostCallContext) => HostImports,
  stop: StopSignal = createStopSignal(),
  engine: Engine = v8Engine,
): Made {
  const context = createHostCallContext();
  const instance = engine.instantiate(engine.compile(module), imports(context), stop, context);
  return { instance, context };
}

/** As an image would do it: nothing of the old instance is shared. */
export function copyState(state: ComputeState): ComputeState {
  return structuredClone(state);
}
