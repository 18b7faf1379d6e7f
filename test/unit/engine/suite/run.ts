/** Runs a script on a route of engines. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Policy } from '../../../../src/engine/engine.ts';
import type { EngineName } from '../../../../src/engine/engines.ts';
import { KedgeError } from '../../../../src/errors.ts';
import { Bare, type Ended, type Form, formOf } from '../bare.ts';
import {
  sameTrap,
  type Script,
  type Step,
  wrongResults,
  type CallStep,
  type ModuleStep,
  type TrapStep,
} from './script.ts';

export interface Way {
  readonly name: string;
  /** Where a module is in turn. */
  readonly engines: readonly [EngineName, ...EngineName[]];
  readonly policy: Policy;
  /** Only modules that this engine cannot run. */
  readonly except?: EngineName;
  /** In each call the state goes to a fresh instance on the next engine. */
  readonly moving: boolean;
}

export interface Report {
  modules: number;
  assertions: number;
  /** Calls in the middle of which the state moved. */
  stops: number;
  readonly failures: string[];
  /** Why modules cannot run: by feature how many assertions of which scripts that leaves out. */
  readonly refused: Map<string, Map<string, number>>;
}

export function newReport(): Report {
  return { modules: 0, assertions: 0, stops: 0, failures: [], refused: new Map() };
}

/** One module of a script while the script runs. */
interface Live {
  readonly step: ModuleStep;
  readonly forms: readonly Form[];
  instance: Bare;
  /** How often it has moved. */
  moves: number;
}

type Slot = Live | { readonly refused: string };

/** Of a module that another way runs: none of its assertions is left out. */
const ELSEWHERE = 'it runs elsewhere';
const AFTER: Slot = { refused: 'what comes after a step that is left out' };

export class ScriptRun {
  readonly #directory: string;
  readonly #script: Script;
  readonly #way: Way;
  readonly #report: Report;
  #modules: Slot[] = [];

  constructor(directory: string, script: Script, way: Way, report: Report) {
    this.#directory = directory;
    this.#script = script;
    this.#way = way;
    this.#report = report;
  }

  run(): void {
    for (const step of this.#script.steps) {
      try {
        this.#step(step);
      } catch (error) {
        this.#fail(step, error instanceof Error ? (error.stack ?? error.message) : String(error));
      }
    }
    for (const slot of this.#modules) if ('instance' in slot) slot.instance.dispose();
  }

  #fail(step: Step, what: string): void {
    const where = 'line' in step ? step.line : JSON.stringify(step).slice(0, 80);
    this.#report.failures.push(`${this.#way.name}, ${this.#script.name}:${where}: ${what}`);
  }

  #step(step: Step): void {
    if ('call' in step) this.#call(step);
    else if ('traps' in step) this.#instantiationTraps(step);
    else if ('skipped' in step) this.#refuse(step.skipped);
    else if ('module' in step) {
      // It may put others in the place of those before it.
      const slot = this.#make(step);
      this.#modules.push(slot);
    }
  }

  #refuse(feature: string): void {
    const { refused } = this.#report;
    const scripts = refused.get(feature) ?? new Map<string, number>();
    refused.set(feature, scripts.set(this.#script.name, (scripts.get(this.#script.name) ?? 0) + 1));
  }

  #forms(file: string): readonly Form[] {
    const bytes = new Uint8Array(readFileSync(join(this.#directory, file)));
    const { engines, policy } = this.#way;
    return engines.map((engine) => formOf(engine, bytes, policy));
  }

  #runsOn(engine: EngineName | undefined, file: string): boolean {
    if (engine === undefined) return false;
    try {
      formOf(engine, new Uint8Array(readFileSync(join(this.#directory, file))), 'none');
      return true;
    } catch {
      return false;
    }
  }

  #make(step: ModuleStep): Slot {
    if (step.module === null) return { refused: 'a module of another kind' };
    let forms: readonly Form[];
    try {
      forms = this.#forms(step.module);
    } catch (error) {
      return this.#alone(featureOf(error), step);
    }
    const other = forms[0]?.compiled.module.imports.find(({ module }) => module !== 'spectest');
    if (other !== undefined) return this.#alone('an imported function of another module', step);
    if (this.#runsOn(this.#way.except, step.module)) return { refused: ELSEWHERE };
    const [first] = forms;
    if (first === undefined) throw new Error('a way has engines');
    const instance = new Bare(first, HOST);
    const ended = instance.start();
    if (ended.kind !== 'returned') this.#fail(step, `starting it: ${JSON.stringify(ended)}`);
    this.#report.modules += 1;
    return { step, forms, instance, moves: 0 };
  }

  /** What a module that cannot be made would have done to those before it nobody knows. */
  #alone(refused: string, { linked }: { readonly linked?: boolean }): Slot {
    if (linked === true) this.#modules = this.#modules.map(() => AFTER);
    return { refused };
  }

  #instantiationTraps(step: TrapStep): void {
    let form: Form | undefined;
    try {
      [form] = this.#forms(step.module);
    } catch (error) {
      const feature = featureOf(error);
      this.#refuse(feature);
      this.#alone(feature, step);
      return;
    }
    if (form === undefined) return;
    if (form.compiled.module.imports.some(({ module }) => module !== 'spectest')) {
      this.#refuse('an imported function of another module');
      this.#alone('', step);
      return;
    }
    this.#report.assertions += 1;
    try {
      if (new Bare(form, HOST).start().kind === 'trapped') return;
    } catch (error) {
      if (error instanceof KedgeError && error.code === 'KEDGE_MODULE_INVALID') return;
      throw error;
    }
    throw new Error(`${step.module} was instantiated`);
  }

  #call(step: CallStep): void {
    const live = this.#modules[step.of];
    if (live === undefined) throw new Error('there is no such module');
    if ('refused' in live) return this.#refuse(live.refused);
    const types = live.step.results?.[step.call];
    if (types === undefined || types === null) {
      // Nor what this call would have done.
      this.#modules[step.of] = AFTER;
      return this.#refuse('a reference of the host as an argument');
    }
    this.#report.assertions += 1;
    const ended = this.#way.moving ? this.#moved(live, step) : live.instance.call(`call:${step.call}`);
    const wrong = this.#wrong(live, step, types, ended);
    if (wrong !== undefined) this.#fail(step, wrong);
  }

  #wrong({ instance, step: { first = 0 } }: Live, step: CallStep, types: string, ended: Ended): string | undefined {
    if (step.traps !== undefined) {
      const fits = ended.kind === 'trapped' && sameTrap(step.traps, ended.message);
      return fits ? undefined : `${JSON.stringify(ended)}, not the trap ${step.traps}`;
    }
    if (ended.kind !== 'returned') return JSON.stringify(ended);
    return step.returns === undefined
      ? undefined
      : wrongResults(types, step.returns, (n) => instance.global(first + n));
  }

  /** The state moves to a fresh instance on the next engine at one of the call's first instructions. */
  #moved(live: Live, step: CallStep): Ended {
    const name = `call:${step.call}`;
    // How deep a recursion can be differs, and where it is moved from.
    if (step.traps?.includes('stack') === true) return live.instance.call(name);
    let left = 1 + (step.line % 4);
    const ended = live.instance.call(name, () => ((left -= 1) === 0 ? 'stop' : 'on'));
    if (ended.kind !== 'stopped') return ended;
    this.#report.stops += 1;
    const snapshot = live.instance.capture();
    live.moves += 1;
    const form = live.forms[live.moves % live.forms.length];
    if (form === undefined) throw new Error('a way has engines');
    live.instance.dispose();
    live.instance = new Bare(form, HOST);
    live.instance.restore(snapshot);
    return live.instance.resume();
  }
}

/** `spectest` prints, which nobody looks at. */
const HOST = { call: () => undefined };

/** The feature that an engine, or Kedge, has not; other errors are none of that. */
function featureOf(error: unknown): string {
  if (!(error instanceof KedgeError)) throw error;
  const { code, message } = error;
  if (code === 'KEDGE_IMPORT_UNKNOWN') return message.replace(/^the module imports the (\w+) .*$/u, 'an imported $1');
  const uses = /uses (.*?)(?: \((?:at byte|first in).*|, which cannot.*)?$/u.exec(message);
  if (code === 'KEDGE_MODULE_UNSUPPORTED' && uses !== null) return uses[1] ?? message;
  if (message.includes('gc proposal')) return 'garbage collection';
  if (code === 'KEDGE_MODULE_UNSUPPORTED' || code === 'KEDGE_MODULE_INVALID' || code === 'KEDGE_IMPORT_TYPE') {
    return message;
  }
  throw error;
}
