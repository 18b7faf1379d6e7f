/** A guest of Kedge in this thread, without sockets: what of a checkpoint and a restore is computation. */
import { createHostCallContext } from '../../src/engine/context.ts';
import type { CompiledModule, Instance, Policy, StopSignal } from '../../src/engine/engine.ts';
import { ENGINES, type EngineName } from '../../src/engine/engines.ts';
import { instrument } from '../../src/engine/points/instrument.ts';
import { createStopSignal } from '../../src/engine/stop.ts';
import { type ModuleInfo, parseModule } from '../../src/engine/wasm/module.ts';
import { initialMemories } from '../../src/engine/wasm/initial-memory.ts';
import { checkHandles } from '../../src/guest/handles-check.ts';
import { FORMAT_VERSION } from '../../src/image/format.ts';
import type { Manifest } from '../../src/image/manifest.ts';
import { applyDelta, collectDelta } from '../../src/image/memory-delta.ts';
import { decodeImage } from '../../src/image/reader.ts';
import { encodeImage, type WholeParts } from '../../src/image/writer.ts';
import { VERSION } from '../../src/version.ts';
import type { SavedWasi } from '../../src/wasi/saved.ts';
import { stopFlagWaiter } from '../../src/wasi/waiting.ts';
import { Wasi } from '../../src/wasi/imports.ts';

/** One form of one module on one engine, compiled once. */
export class LocalProgram {
  readonly engine: EngineName;
  readonly name: string;
  readonly module: Uint8Array;
  readonly args: readonly string[];
  readonly compiled: CompiledModule;
  readonly initial: Uint8Array;
  readonly original: ModuleInfo;

  constructor(engine: EngineName, name: string, module: Uint8Array, args: readonly string[], policy: Policy = 'loop') {
    this.engine = engine;
    this.name = name;
    this.module = module;
    this.args = args;
    this.compiled = ENGINES[engine].compile(instrument(module, policy, ENGINES[engine].flag));
    this.original = parseModule(module);
    this.initial = initialMemories(module, this.original)[0] ?? new Uint8Array();
  }
}

export class LocalGuest {
  readonly stop: StopSignal = createStopSignal();
  readonly instance: Instance;
  readonly #program: LocalProgram;
  readonly #wasi: Wasi;
  /** All that it wrote. */
  output = '';
  /** It stops when it has written this. */
  #last: string | undefined;

  constructor(program: LocalProgram, saved?: SavedWasi) {
    this.#program = program;
    const context = createHostCallContext();
    const print = (bytes: Uint8Array): void => {
      this.output += new TextDecoder().decode(bytes);
      if (this.#last !== undefined && this.output.includes(this.#last)) this.stop.request();
    };
    this.#wasi = new Wasi({
      context,
      stdio: { input: { kind: 'none' }, output: print, errors: print },
      waiter: stopFlagWaiter(this.stop),
      args: [program.name, ...program.args],
      ...(saved === undefined ? {} : { saved }),
    });
    this.instance = ENGINES[program.engine].instantiate(program.compiled, this.#wasi.imports, this.stop, context);
  }

  /** Starts and stops at one poll after the other, so many times. */
  stopAtPoll(polls: number): void {
    this.stop.request();
    let outcome = this.instance.start();
    for (let poll = 1; poll < polls && outcome.kind === 'stopped'; poll += 1) outcome = this.instance.resume();
    this.stop.clear();
    if (outcome.kind !== 'stopped') throw new Error(`the guest ${outcome.kind} before it was stopped: ${this.output}`);
  }

  /** Starts and stops at the first poll after it has written this. */
  stopAfter(text: string): void {
    this.#last = text;
    const { kind } = this.instance.start();
    this.#last = undefined;
    this.stop.clear();
    if (kind !== 'stopped') throw new Error(`the guest ${kind} before it was stopped: ${this.output}`);
  }

  /** An image of the stopped guest, in pieces. */
  checkpoint(module: Uint8Array | undefined): Promise<Uint8Array[]> {
    const { engine, name, module: original, args, compiled, initial } = this.#program;
    const { frames, call, globals, memory, memoryPages } = this.instance.capture();
    const manifest: Manifest = {
      formatVersion: FORMAT_VERSION,
      kedgeVersion: VERSION,
      createdAt: new Date().toISOString(),
      guest: { id: '7d444840-9dc0-11d1-b245-5ffdce74fad2', name, epoch: 1, address: '100.64.0.1' },
      module: { sha256: compiled.module.originalHash, size: original.length, name: `${name}.wasm` },
      args: [name, ...args],
      env: {},
      publish: [],
      preopens: [],
      engine,
      encoding: frames.encoding,
      policy: frames.policy,
      memoryPages,
      claim: true,
    };
    const parts: WholeParts = {
      manifest,
      module,
      memory: collectDelta(memory, initial),
      frames,
      call,
      globals,
      handles: { version: 1, exited: null, wasi: this.#wasi.save(), sockets: null },
      flows: [],
    };
    return encodeImage(parts);
  }

  /** The guest of an image, ready to go on. */
  static async restore(program: LocalProgram, bytes: Uint8Array): Promise<LocalGuest> {
    const image = await decodeImage(bytes);
    const { manifest, memory: delta, frames, call, globals, handles } = image;
    const guest = new LocalGuest(program, checkHandles(handles).wasi ?? undefined);
    const { memoryPages } = manifest;
    const memory = guest.instance.growMemory(memoryPages);
    applyDelta(delta, memory, memoryPages);
    const { originalHash } = program.compiled.module;
    const state = { originalHash, memory, memoryPages, globals, frames };
    guest.instance.restore(call === undefined ? state : { ...state, call }, program.original);
    return guest;
  }

  close(): void {
    this.#wasi.close();
  }
}
