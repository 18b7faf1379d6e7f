/** `kedge migrate`. */
import { resolve } from 'node:path';
import type { CommandContext } from '@stricli/core';
import { buildCommand } from '@stricli/core';
import type { MoveResult } from '../../migrate/protocol.ts';
import { formatPairs, toJson } from '../format.ts';
import { parsePath } from '../parse.ts';
import type { AgentFlags, OutputFlags } from './options.ts';
import { agentFlag, engineFlag, guestArgument, outputFlag, withAgent } from './options.ts';

type MigrateFlags = AgentFlags & OutputFlags & { readonly to: string; readonly engine?: string };

/** The text of `kedge migrate`: one line, and the time of each stage. */
export function moveText(name: string, to: string, { epoch, stages, totalMs }: MoveResult): string {
  const times = stages.map(({ name: stage, ms }) => [`  ${stage}`, `${ms.toFixed(1)} ms`] as const);
  return `${name} runs at ${to}, epoch ${epoch}, after ${totalMs.toFixed(1)} ms\n${formatPairs(times)}`;
}

export const migrate = buildCommand<MigrateFlags, [string], CommandContext>({
  async func(flags, name) {
    // The agent runs in another directory.
    const to = resolve(flags.to);
    const engine = flags.engine === undefined ? {} : { engine: flags.engine };
    const result = await withAgent(flags, (agent) => agent.migrate(name, to, engine));
    this.process.stdout.write(flags.output === 'json' ? toJson(result) : moveText(name, to, result));
  },
  parameters: {
    flags: {
      to: { kind: 'parsed', parse: parsePath, brief: 'Socket of the agent of the other host', placeholder: 'path' },
      engine: { ...engineFlag, brief: 'What executes it there [default: the same as here]' },
      output: outputFlag,
      agent: agentFlag,
    },
    aliases: { o: 'output' },
    positional: guestArgument,
  },
  docs: {
    brief: 'Moves a guest to another agent, with its connections',
    fullDescription: [
      'Moves a guest to another agent, with its connections. Returns when it runs there.',
      'When a step fails before the gateway has switched, the guest goes on where it was, and nothing of its connections is lost.',
    ].join('\n'),
  },
});
