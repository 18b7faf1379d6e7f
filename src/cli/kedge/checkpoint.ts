/** `kedge checkpoint`. */
import type { CommandContext } from '@stricli/core';
import { buildCommand } from '@stricli/core';
import { writeImageFile } from '../../image/file.ts';
import type { AgentFlags } from './options.ts';
import { agentFlag, guestArgument, withAgent } from './options.ts';

type CheckpointFlags = AgentFlags & { readonly output: string; readonly leaveRunning: boolean };

export const checkpoint = buildCommand<CheckpointFlags, [string], CommandContext>({
  async func(flags, name) {
    const { output, leaveRunning } = flags;
    // Written here, with this user's rights; the guest ends only when the file is safe.
    const { bytes } = await withAgent(flags, (agent) =>
      agent.checkpoint(name, leaveRunning, async (chunks) => {
        await writeImageFile(output, chunks);
      }),
    );
    this.process.stdout.write(`${output}: ${bytes} bytes\n`);
  },
  parameters: {
    flags: {
      output: { kind: 'parsed', parse: String, brief: 'The image', placeholder: 'file' },
      leaveRunning: {
        kind: 'boolean',
        brief: 'The guest goes on; the image is a copy without its connections',
        default: false,
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
      'kedge restore continues it. When the file cannot be written, the guest goes on.',
    ].join('\n'),
  },
});
