/** `kedge restore`. */
import type { CommandContext } from '@stricli/core';
import { buildCommand } from '@stricli/core';
import { readImageFile } from '../../image/file.ts';
import { verifyImage } from '../../image/reader.ts';
import type { Points, Publish } from '../../migrate/protocol.ts';
import { usageError } from '../run-app.ts';
import { stayWith } from './attach.ts';
import { setExitCode } from './exit-code.ts';
import type { AgentFlags } from './options.ts';
import { agentFlag, engineFlag, parsePublish, pointsFlag, withAgent } from './options.ts';

type RestoreFlags = AgentFlags & {
  readonly withoutFlows: boolean;
  readonly publish?: readonly Publish[];
  readonly noPublish: boolean;
  readonly engine?: string;
  readonly points?: Points;
  readonly detach: boolean;
};

/** Ports that are to take the place of those in the image. Throws KEDGE_USAGE. */
function newPorts({ withoutFlows, publish, noPublish }: RestoreFlags): Publish[] | undefined {
  if (publish === undefined && !noPublish) return undefined;
  if (publish !== undefined && noPublish) throw usageError('--publish and --no-publish exclude each other');
  if (!withoutFlows)
    throw usageError(
      `${noPublish ? '--no-publish' : '--publish'} needs --without-flows: a guest that keeps its connections keeps its ports`,
    );
  return [...(publish ?? [])];
}

export const restore = buildCommand<RestoreFlags, [string], CommandContext>({
  async func(flags, path) {
    const publish = newPorts(flags);
    const image = await readImageFile(path);
    // The agent looks for itself; this says it sooner.
    verifyImage(image);
    const { withoutFlows, engine, points, detach } = flags;
    const wanted = {
      ...(engine === undefined ? {} : { engine }),
      ...(points === undefined ? {} : { policy: points }),
      ...(publish === undefined ? {} : { publish }),
    };
    await withAgent(flags, async (agent) => {
      const options = { withoutFlows, ...wanted };
      if (detach) this.process.stdout.write(`${(await agent.restore(image, options)).name}\n`);
      else setExitCode(this, await stayWith(agent, await agent.restoreAttached(image, options), process));
    });
  },
  parameters: {
    flags: {
      withoutFlows: {
        kind: 'boolean',
        brief: 'Make another guest of the image, whose connections are reset',
        default: false,
      },
      publish: {
        kind: 'parsed',
        parse: parsePublish,
        brief: 'With --without-flows: a port in the place of those that the original publishes',
        optional: true,
        variadic: true,
        placeholder: '[outside:]guest[/tcp|udp]',
      },
      noPublish: {
        kind: 'boolean',
        brief: 'With --without-flows: it publishes no port',
        default: false,
        withNegated: false,
      },
      engine: { ...engineFlag, brief: 'What executes it from here on [default: the engine of the image]' },
      points: { ...pointsFlag, brief: 'Where it can be stopped while it computes [default: as before]' },
      detach: { kind: 'boolean', brief: 'Print the name and leave the guest to itself', default: false },
      agent: agentFlag,
    },
    aliases: { d: 'detach', p: 'publish' },
    positional: {
      kind: 'tuple',
      parameters: [{ brief: 'An image', parse: String, placeholder: 'file' }],
    },
  },
  docs: {
    brief: 'Continues the guest of an image here',
    fullDescription: [
      'Continues the guest of an image here, with its connections. A guest has one life: an image is continued once.',
      'With --without-flows it becomes another guest, as often as you like, that finds its connections reset. It publishes the ports of',
      'the original unless it is given others: beside an original that still has them it needs --publish or --no-publish.',
    ].join('\n'),
  },
});
