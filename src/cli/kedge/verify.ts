/** `kedge verify`: two engines, one module, in lock step; without an agent. */
import type { CommandContext } from '@stricli/core';
import { buildCommand } from '@stricli/core';
import { outputFlag, parseDirectory, parseVariable, pointsFlag } from './options.ts';
import type { VerifyFlags } from './verify-flags.ts';
import { parseEngines, parseLimit, parseStride } from './verify-flags.ts';

export const verify = buildCommand<VerifyFlags, [string, ...string[]], CommandContext>({
  // Engines are loaded by this command alone.
  async loader() {
    const { verifyModule } = await import('./verify-module.ts');
    return verifyModule;
  },
  parameters: {
    flags: {
      engines: {
        kind: 'parsed',
        parse: parseEngines,
        brief: 'The first calls the host, the second is given what it got',
        default: 'v8,wamr',
        placeholder: 'a,b',
      },
      points: { ...pointsFlag, brief: 'Where they can be compared [default: instruction]' },
      stride: {
        kind: 'parsed',
        parse: parseStride,
        brief: 'Points between two comparisons; 1 compares at each',
        default: '20000',
        placeholder: 'points',
      },
      limit: {
        kind: 'parsed',
        parse: parseLimit,
        brief: 'Points after which it is enough [default: the whole run]',
        optional: true,
        placeholder: 'points',
      },
      dir: {
        kind: 'parsed',
        parse: parseDirectory,
        brief: 'Gives the guest a directory of this host',
        optional: true,
        variadic: true,
        placeholder: 'host:guest',
      },
      env: {
        kind: 'parsed',
        parse: parseVariable,
        brief: "A variable of the guest's environment",
        optional: true,
        variadic: true,
        placeholder: 'name=value',
      },
      address: {
        kind: 'parsed',
        parse: String,
        brief: "Address of this host for the guest's sockets",
        default: '127.0.0.1',
        placeholder: 'ipv4',
      },
      quiet: {
        kind: 'boolean',
        brief: 'Show neither what the guest prints nor how far it is',
        default: false,
      },
      output: outputFlag,
    },
    aliases: { e: 'env', o: 'output', q: 'quiet' },
    positional: {
      kind: 'array',
      minimum: 1,
      parameter: {
        brief: 'WebAssembly module (WASI command), and the arguments of the guest',
        parse: String,
        placeholder: 'module',
      },
    },
  },
  docs: {
    brief: 'Runs a module on two engines in lock step and finds where they differ',
    customUsage: ['[flags] module.wasm [argument]...'],
    fullDescription: [
      'Runs a module on two engines in lock step and compares their whole states: frames, memory, globals, tables. Host calls are made',
      'for the first engine and recorded; the second is given the same. Of a difference it shows the first point: function, offset,',
      'instruction, and the values on both sides. The exit code is 0 when all was equal and 1 when something differed or failed.',
      'What the guest prints goes to standard error.',
    ].join('\n'),
  },
});
