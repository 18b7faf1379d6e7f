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
import { instrument } from '../../../../src/engine/instrument/instrument.ts';
import { createStopSignal } from '../../../../src/engine/stop.ts';
import { wat } from '../support.ts';

export interface Subject {
  readonly name: string;
  readonly engine: Engine & { readonly name: EngineName };
  readonly policy: Policy;
  readonly instrument: (module: Uint8Array) => Promise<InstrumentedModule>;
}

function subject(name: EngineName, policy: Policy): Subject {
  return {
    name: `${name}, ${policy}`,
    engine: ENGINES[name],
    policy,
    instrument: (module) => instrument(module, policy),
  };
}

export const SUBJECTS: readonly Subject[] = [subject('v8', 'none'), subject('v8', 'loop-all'), subject('wamr', 'none')];

export interface Made {
  readonly instance: Instance;
  readonly context: HostCallContext;
}

/** An instance of a module in text. */
export async function make(
  { engine, instrument: prepare }: Subject,
  text: string,
  imports: (context: HostCallContext) => HostImports = () => ({}),
  stop: StopSignal = createStopSignal(),
): Promise<Made> {
  const context = createHostCallContext();
  const compiled = engine.compile(await prepare(wat(text, '--enable-all')));
  return { instance: engine.instantiate(compiled, imports(context), stop, context), context };
}
