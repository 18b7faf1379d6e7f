/** `kedge run`. */
import { basename } from 'node:path';
import type { CommandContext } from '@stricli/core';
import { buildCommand } from '@stricli/core';
import type { Points, Publish } from '../../migrate/protocol.ts';
import { stayWith } from './attach.ts';
import { setExitCode } from './exit-code.ts';
import { readModule } from './module-file.ts';
import type { AgentFlags } from './options.ts';
import {
  agentFlag,
  engineFlag,
  parseDirectory,
  parseName,
  parsePublish,
  parseVariable,
  pointsFlag,
  withAgent,
} from './options.ts';

type RunFlags = AgentFlags & {
  readonly name?: string;
  readonly address?: string;
  readonly publish?: readonly Publish[];
  readonly dir?: readonly { readonly host: string; readonly guest: string }[];
  readonly env?: readonly (readonly [string, string])[];
  readonly engine?: string;
  readonly points?: Points;
  readonly detach: boolean;
};

export const run = buildCommand<RunFlags, [string, ...string[]], CommandContext>({
  async func(flags, path, ...args) {
    // The agent may not see this user's files, so it gets the bytes.
    const module = await readModule(path);
    const { name, address, publish = [], dir = [], env = [], engine, points, detach } = flags;
    const spec = {
      ...(name === undefined ? {} : { name }),
      ...(address === undefined ? {} : { address }),
      ...(engine === undefined ? {} : { engine }),
      ...(points === undefined ? {} : { policy: points }),
      publish: [...publish],
      dirs: [...dir],
      env: Object.fromEntries(env),
      moduleName: basename(path),
      args,
    };
    await withAgent(flags, async (agent) => {
      if (detach) this.process.stdout.write(`${(await agent.run(spec, module)).name}\n`);
      else setExitCode(this, await stayWith(agent, await agent.runAttached(spec, module), process));
    });
  },
  parameters: {
    flags: {
      name: { kind: 'parsed', parse: parseName, brief: "Name of the guest [default: the module's]", optional: true },
      address: {
        kind: 'parsed',
        parse: String,
        brief: "Guest address [default: a free one of the gateway's pool]",
        optional: true,
        placeholder: 'ipv4',
      },
      publish: {
        kind: 'parsed',
        parse: parsePublish,
        brief: "Leads a port of the gateway's outside address to one of the guest",
        optional: true,
        variadic: true,
        placeholder: '[outside:]guest[/tcp|udp]',
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
      engine: { ...engineFlag, brief: 'What executes it; kedge engines lists them [default: v8]' },
      points: { ...pointsFlag, brief: 'Where it can be stopped while it computes [default: loop]' },
      detach: { kind: 'boolean', brief: 'Print the name and leave the guest to itself', default: false },
      agent: agentFlag,
    },
    aliases: { d: 'detach', p: 'publish', e: 'env' },
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
    brief: 'Runs a module as a guest',
    customUsage: ['[flags] module.wasm [argument]...'],
    fullDescription: [
      'Runs a WebAssembly module (a WASI command) as a guest. What follows the module are the guest’s own arguments, flags included.',
      'In the foreground its output is copied, SIGINT, SIGTERM and SIGHUP stop it, and its exit code becomes that of this command. Its\n' +
        'standard input is at its end.',
    ].join('\n'),
  },
});
