/** The daemon behind `gateway run`. */
import type { CommandContext } from '@stricli/core';
import { pino } from 'pino';
import { readConfig } from '../../gateway/config.ts';
import { runGateway } from '../../gateway/daemon.ts';
import { startDataPlane } from '../../gateway/data-plane.ts';
import { KedgeError } from '../../errors.ts';
import { goOnUnread } from '../output.ts';

/** Bytes of the log that are kept until they can be written. */
const UNWRITTEN = 1024 * 1024;

/** Runs until a signal. Throws when it cannot start, when the pump died, or when something could not be taken back. */
export async function runDaemon(this: CommandContext, flags: { readonly config: string }): Promise<void> {
  const config = readConfig(flags.config);
  goOnUnread();
  const destination = pino.destination({ dest: 2, sync: true, maxLength: UNWRITTEN });
  // A disk that is full loses lines, and no connection.
  destination.on('error', () => undefined);
  const log = pino({ name: 'gateway' }, destination);
  const problems = await runGateway(config, log, startDataPlane, (line) => this.process.stdout.write(line));
  if (problems.length > 0) {
    throw new KedgeError('KEDGE_ROUTES_FAILED', `not taken back: ${problems.join('; ')}`, {
      hint: 'the next start tries again',
    });
  }
}
