/** What becomes of a program whose output is not taken: a pipe that nobody reads any more, a disk that is full. */
import { KedgeError } from '../errors.ts';
import { formatFailure } from './run-app.ts';

let goesOn = false;

/** Ends the program `name` with a word about it, and without one when whoever read has seen enough (`kedge logs NAME | head`). */
export function watchOutput(name: string): void {
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (goesOn) return;
    if (error.code === 'EPIPE') process.exit(0);
    const failure = new KedgeError('KEDGE_OUTPUT', `cannot write to standard output: ${error.code ?? error.message}`, {
      hint: 'what the command was to do may be done all the same: see before you repeat it',
    });
    process.stderr.write(`${name}: ${formatFailure(failure)}\n`);
    process.exit(1);
  });
  // There is no other place to say it.
  process.stderr.on('error', () => undefined);
}

/** For what runs until a signal: guests and connections do not end because nobody reads what is said about them. */
export function goOnUnread(): void {
  goesOn = true;
}
