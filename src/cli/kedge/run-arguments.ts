/**
 * `kedge run [flags] module.wasm [arguments]`: what follows the module belongs to the guest, flags included. The scanner of command
 * lines takes flags anywhere, so the module gets the `--` in front of it that ends them.
 */

/** Flags of `kedge run` that take no value; every other takes one. */
export const RUN_SWITCHES: ReadonlySet<string> = new Set([
  '--detach',
  '--no-detach',
  '-d',
  '--help',
  '-h',
  '--help-all',
]);

/** The command line with `--` before the module of `run`; any other is returned as it is. */
export function protectGuestArguments(argv: readonly string[]): readonly string[] {
  if (argv[0] !== 'run') return argv;
  for (let i = 1; i < argv.length; i += 1) {
    const word = argv[i] ?? '';
    if (word === '--') return argv;
    if (!word.startsWith('-') || word === '-') return [...argv.slice(0, i), '--', ...argv.slice(i)];
    if (!word.includes('=') && !RUN_SWITCHES.has(word)) i += 1;
  }
  return argv;
}
