/** What becomes of a program whose output is not taken: a pipe that nobody reads any more, a disk that is full. */

let goesOn = false;

/** Ends the program `name` with one line, and without any when whoever read has seen enough (`kedge logs NAME | head`). */
export function watchOutput(name: string): void {
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (goesOn) return;
    if (error.code === 'EPIPE') process.exit(0);
    process.stderr.write(`${name}: KEDGE_OUTPUT: cannot write to standard output: ${error.code ?? error.message}\n`);
    process.exit(1);
  });
  // There is no other place to say it.
  process.stderr.on('error', () => undefined);
}

/** For what runs until a signal: guests and connections do not end because nobody reads what is said about them. */
export function goOnUnread(): void {
  goesOn = true;
}
