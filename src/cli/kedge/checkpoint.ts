/** `kedge checkpoint`. */
import type { CommandContext } from '@stricli/core';
import { buildCommand } from '@stricli/core';
import { KedgeError } from '../../errors.ts';
import type { WrittenImage } from '../../image/file.ts';
import { mustBeWritable, writeImageFile } from '../../image/file.ts';
import { parsePath } from '../parse.ts';
import type { AgentFlags } from './options.ts';
import { agentFlag, guestArgument, withAgent } from './options.ts';

type CheckpointFlags = AgentFlags & {
  readonly output: string;
  readonly leaveRunning: boolean;
  readonly force: boolean;
};

/** The agent failed when the file was there already: what becomes of it depends on whether the guest goes on. */
async function withoutAgent(error: unknown, image: WrittenImage, flags: CheckpointFlags): Promise<unknown> {
  if (error instanceof KedgeError && error.code === 'KEDGE_LINK_BROKEN') {
    const { code, message, cause } = error;
    const how = flags.leaveRunning ? 'kedge restore --without-flows' : 'kedge restore';
    const hint = `the agent died, but the image was written: ${how} ${flags.output}`;
    return new KedgeError(code, message, { hint, cause });
  }
  // The guest goes on, and the file would be its life of a moment ago.
  await image.remove();
  return error;
}

export const checkpoint = buildCommand<CheckpointFlags, [string], CommandContext>({
  async func(flags, name) {
    const { output, leaveRunning, force } = flags;
    // The write looks again; this comes before the guest stops.
    await mustBeWritable(output, { force });
    let written: WrittenImage | undefined;
    try {
      // Written here, with this user's rights; the guest ends only when the file is safe.
      const { bytes } = await withAgent(flags, (agent) =>
        agent.checkpoint(name, leaveRunning, async (chunks) => {
          written = await writeImageFile(output, chunks, { force });
        }),
      );
      this.process.stdout.write(`${output}: ${bytes} bytes\n`);
    } catch (error) {
      throw written === undefined ? error : await withoutAgent(error, written, flags);
    }
  },
  parameters: {
    flags: {
      output: { kind: 'parsed', parse: parsePath, brief: 'The image', placeholder: 'file' },
      leaveRunning: {
        kind: 'boolean',
        brief: 'The guest goes on; the image is a copy without its connections',
        default: false,
      },
      force: {
        kind: 'boolean',
        brief: 'Write over a file that is there: a guest that is sealed in it is lost',
        default: false,
        withNegated: false,
      },
      agent: agentFlag,
    },
    aliases: { o: 'output' },
    positional: guestArgument,
  },
  docs: {
    brief: 'Puts a guest into an image',
    fullDescription: [
      'Puts a guest into an image. The guest ends here when the file is safe on disk, and its connections wait in the gateway until',
      'kedge restore continues it. When the file cannot be written, or one of that name is there, the guest goes on.',
    ].join('\n'),
  },
});
