/** Comparisons as tests want them. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Engine } from '../../../src/engine/engine.ts';
import { ENGINES } from '../../../src/engine/engines.ts';
import { instrument } from '../../../src/engine/points/instrument.ts';
import { PointTable } from '../../../src/engine/points/table.ts';
import { parseModule } from '../../../src/engine/wasm/module.ts';
import type { Ipv4 } from '../../../src/rewrite/numbers.ts';
import type { Divergence, Verdict } from '../../../src/verify/verdict.ts';
import { verify, type VerifyOptions } from '../../../src/verify/verify.ts';

const PROJECT = join(import.meta.dirname, '..', '..', '..');
export const LOOPBACK = 0x7f00_0001 as Ipv4;

export interface Compared {
  readonly verdict: Verdict;
  /** What the guest has printed. */
  readonly printed: string;
}

/** Compares V8 and WAMR at every instruction, unless told otherwise. */
export function compare(module: Uint8Array, options: Partial<VerifyOptions> = {}): Compared {
  const printed: Uint8Array[] = [];
  const output = (bytes: Uint8Array): void => void printed.push(bytes);
  const verdict = verify({
    module,
    engines: [ENGINES.v8, ENGINES.wamr],
    policy: 'instruction',
    stride: 20_000,
    args: ['guest'],
    environ: [],
    preopens: [],
    address: LOOPBACK,
    stdio: { input: { kind: 'none' }, output, errors: output },
    ...options,
  });
  return { verdict, printed: Buffer.concat(printed).toString() };
}

/** The divergence that must have been found. */
export function divergence({ verdict }: Compared): Divergence {
  if (verdict.divergence === null) throw new Error(`no divergence: ${JSON.stringify(verdict)}`);
  return verdict.divergence;
}

/** An engine that runs another module of the same shape in the place of the one it is given: it does one thing wrong. */
export function wrongEngine(instead: Uint8Array, engine: Engine = ENGINES.wamr): Engine {
  return {
    ...engine,
    name: `wrong ${engine.name}`,
    compile: ({ policy, flag, originalHash }) => engine.compile({ ...instrument(instead, policy, flag), originalHash }),
  };
}

/** Where a module has such an instruction: byte offsets. */
export function instructions(module: Uint8Array, opcode: number): readonly number[] {
  const { bodies, importedFunctions } = parseModule(module);
  const table = new PointTable(instrument(module, 'instruction', 'count').bytes);
  return bodies.flatMap(({ start, end }, n) =>
    Array.from({ length: end - start }, (_, at) => start + at).filter(
      (at) => module[at] === opcode && table.at(importedFunctions + n, at, 'at') !== undefined,
    ),
  );
}

/** Where it has the only one. */
export function only(module: Uint8Array, opcode: number): number {
  const [first, ...others] = instructions(module, opcode);
  if (first === undefined || others.length > 0) throw new Error(`not exactly one 0x${opcode.toString(16)}`);
  return first;
}

/** The module with one byte changed. */
export function changed(module: Uint8Array, at: number, byte: number): Uint8Array {
  const copy = module.slice();
  copy[at] = byte;
  return copy;
}

/** Programs of `bench/programs`, compiled. */
export function compilePrograms<Name extends string>(names: readonly Name[]): Readonly<Record<Name, Uint8Array>> {
  const directory = mkdtempSync(join(tmpdir(), 'kedge-programs-'));
  try {
    const files = names.map((name) => join(directory, `${name}.wasm`));
    execFileSync('make', ['--silent', '-C', join(PROJECT, 'bench', 'programs'), `OUT=${directory}`, ...files], {
      stdio: ['ignore', 'ignore', 'inherit'],
    });
    const read = names.map((name, n) => [name, new Uint8Array(readFileSync(files[n] ?? ''))] as const);
    return Object.fromEntries(read) as Record<Name, Uint8Array>;
  } finally {
    rmSync(directory, { recursive: true });
  }
}
