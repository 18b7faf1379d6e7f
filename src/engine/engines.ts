import { KedgeError } from '../errors.ts';
import type { Engine } from './engine.ts';
import { v8Engine } from './v8/engine.ts';
import { wamrEngine } from './wamr/engine.ts';

/** All engines by name; the first is the one that is used unless another is asked for. */
export const ENGINES = { v8: v8Engine, wamr: wamrEngine } as const satisfies Readonly<Record<string, Engine>>;

export type EngineName = keyof typeof ENGINES;

export function isEngineName(name: string): name is EngineName {
  return Object.hasOwn(ENGINES, name);
}

/** An engine by a name that comes from outside. Throws KEDGE_ENGINE_UNKNOWN. */
export function engineOf(name: string): Engine & { readonly name: EngineName } {
  if (isEngineName(name)) return ENGINES[name];
  throw new KedgeError('KEDGE_ENGINE_UNKNOWN', `no engine is called ${name}`, {
    hint: `there are ${Object.keys(ENGINES).join(' and ')}`,
  });
}
