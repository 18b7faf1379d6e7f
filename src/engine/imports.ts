/** Checks what a module imports against what the host offers, before any guest code runs. */
import { KedgeError } from '../errors.ts';
import type { FunctionType, HostFunction, HostImports, ImportedFunction, ValueType } from './engine.ts';

const LETTERS: Readonly<Record<string, ValueType>> = {
  i: 'i32',
  '*': 'i32',
  '~': 'i32',
  $: 'i32',
  I: 'i64',
  f: 'f32',
  F: 'f64',
};

/** The type that a signature in WAMR's letters stands for. Throws TypeError for one that is not well-formed. */
export function typeOfSignature(signature: string): FunctionType {
  const match = /^\(([iIfF*~$]*)\)([iIfF]?)$/u.exec(signature);
  if (match === null) {
    throw new TypeError(`not a signature: ${signature}`);
  }
  const types = (letters: string): readonly ValueType[] => [...letters].flatMap((letter) => LETTERS[letter] ?? []);
  return { params: types(match[1] ?? ''), results: types(match[2] ?? '') };
}

/**
 * The host functions for a list of imports, in the same order. Throws KEDGE_IMPORT_UNKNOWN for one that the host does
 * not have and KEDGE_IMPORT_TYPE for one of another type; the message names module and function.
 */
export function resolveImports(wanted: readonly ImportedFunction[], offered: HostImports): readonly HostFunction[] {
  return wanted.map(({ module, name, type }) => {
    const functions = Object.hasOwn(offered, module) ? offered[module] : undefined;
    const found = functions !== undefined && Object.hasOwn(functions, name) ? functions[name] : undefined;
    if (found === undefined) {
      throw new KedgeError('KEDGE_IMPORT_UNKNOWN', `the module imports ${module}.${name}, which Kedge does not have`);
    }
    const has = typeOfSignature(found.signature);
    if (!sameTypes(has, type)) {
      throw new KedgeError(
        'KEDGE_IMPORT_TYPE',
        `the module imports ${module}.${name} as ${formatType(type)}, but it is ${formatType(has)}`,
      );
    }
    return found;
  });
}

/** `(i32, i64) -> i32` */
export function formatType(type: FunctionType): string {
  const results = type.results.join(', ');
  return `(${type.params.join(', ')}) -> ${type.results.length === 1 ? results : `(${results})`}`;
}

function sameTypes(a: FunctionType, b: FunctionType): boolean {
  const same = (x: readonly ValueType[], y: readonly ValueType[]): boolean =>
    x.length === y.length && x.every((type, i) => type === y[i]);
  return same(a.params, b.params) && same(a.results, b.results);
}
