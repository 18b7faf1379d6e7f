/** Every engine with every kind of module that it runs. What these suites ask holds for all of them. */
import { createHostCallContext } from '../../../../src/engine/context.ts';
import type {
  Engine,
  HostCallContext,
  HostImports,
  Instance,
  InstrumentedModule,
  Policy,
  StopSignal,
} from '../../../../src/engine/engine.ts';
import { ENGINES, type EngineName } from '../../../../src/engine/engines.ts';
import { instrument } from '../../../../src/engine/points/instrument.ts';
import { createStopSignal } from '../../../../src/engine/stop.ts';
import { wat } from '../support.ts';

export interface Subject {
  readonly name: string;
  readonly engine: Engine & { readonly name: EngineName };
  readonly policy: Policy;
  readonly instrument: (module: Uint8Array) => InstrumentedModule;
}

/** Where a guest is in turn, a step further at every move. */
export type Route = readonly [Subject, ...Subject[]];

/** The place of a guest after so many moves. */
export function placeAfter(route: Route, moves: number): Subject {
  return route[moves % route.length] ?? route[0];
}

export function routeName(route: Route): string {
  return [...new Set([...route, route[0]])].map(({ name }) => name).join(' and ');
}

/** A place: an engine with a policy. */
export function subject(name: EngineName, policy: Policy): Subject {
  const engine = ENGINES[name];
  return {
    name: `${name}, ${policy}`,
    engine,
    policy,
    instrument: (module) => instrument(module, policy, engine.flag),
  };
}

const NAMES = Object.keys(ENGINES) as EngineName[];

export const SUBJECTS: readonly Subject[] = NAMES.flatMap((name) => [subject(name, 'none'), subject(name, 'loop-all')]);

/** Every engine to itself, and every pair to and fro. */
function routes(policy: Policy): readonly Route[] {
  return NAMES.flatMap((from, n) =>
    NAMES.slice(n).map((to): Route => {
      const here = subject(from, policy);
      return from === to ? [here] : [here, subject(to, policy)];
    }),
  );
}

/** Where guests can be stopped while they compute. */
export const ROUTES: readonly Route[] = (['loop', 'loop-all'] as const).flatMap(routes);

/** Where they can be stopped everywhere. */
export const EVERYWHERE: readonly Route[] = routes('instruction');

export interface Made {
  readonly instance: Instance;
  readonly context: HostCallContext;
}

/** An instance of a module in text. */
export function make(
  { engine, instrument: prepare }: Subject,
  text: string,
  imports: (context: HostCallContext) => HostImports = () => ({}),
  stop: StopSignal = createStopSignal(),
): Made {
  const context = createHostCallContext();
  const compiled = engine.compile(prepare(wat(text, '--enable-all')));
  return { instance: engine.instantiate(compiled, imports(context), stop, context), context };
}
