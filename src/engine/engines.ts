import type { Engine } from './engine.ts';
import { v8Engine } from './v8/engine.ts';
import { wamrEngine } from './wamr/engine.ts';

/** All engines by name; the first is the one that is used unless another is asked for. */
export const ENGINES = { v8: v8Engine, wamr: wamrEngine } as const satisfies Readonly<Record<string, Engine>>;

export type EngineName = keyof typeof ENGINES;
