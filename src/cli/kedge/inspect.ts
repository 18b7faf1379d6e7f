/** `kedge inspect`: what is in an image, without an agent. */
import type { CommandContext } from '@stricli/core';
import { buildCommand } from '@stricli/core';
import type { OutputFlags } from './options.ts';
import { outputFlag } from './options.ts';

export const inspect = buildCommand<OutputFlags, [string], CommandContext>({
  // What reads sockets of an image is loaded by this command alone.
  async loader() {
    const { inspectImage } = await import('./inspect-image.ts');
    return inspectImage;
  },
  parameters: {
    flags: { output: outputFlag },
    aliases: { o: 'output' },
    positional: { kind: 'tuple', parameters: [{ brief: 'An image', parse: String, placeholder: 'file' }] },
  },
  docs: { brief: 'Verifies an image and shows what is in it: manifest, descriptors, sockets, flows' },
});
