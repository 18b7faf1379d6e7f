/** Which engines execute a guest in turn, a step further at every move: what can be asked of a moving guest is asked on each route. */
import type { EngineName } from '../../src/engine/engines.ts';

export interface Route {
  readonly name: string;
  readonly engines: readonly [EngineName, ...EngineName[]];
  /** An interpreter takes so many times longer for what a guest computes: it gets that much less to do. */
  readonly slower: number;
}

export const V8: Route = { name: 'V8', engines: ['v8'], slower: 1 };
export const WAMR: Route = { name: 'WAMR', engines: ['wamr'], slower: 3 };
/** The engine changes with the host, at each move; after an even number of moves it is V8 again. */
export const BOTH: Route = { name: 'V8 and WAMR in turn', engines: ['v8', 'wamr'], slower: 1 };

export const ROUTES: readonly Route[] = [V8, WAMR, BOTH];

/** The engine that executes a guest after so many moves. */
export function engineAfter({ engines }: Route, moves: number): EngineName {
  return engines[moves % engines.length] ?? engines[0];
}
