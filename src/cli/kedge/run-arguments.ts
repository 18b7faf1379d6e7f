/**
 * `kedge run [flags] module.wasm [arguments]`, and `kedge verify` likewise: what follows the module belongs to the guest, flags
 * included. The scanner of command lines takes flags anywhere, so the module gets the `--` in front of it that ends them.
 */

const HELP = ['--help', '-h', '--help-all'];

/** Flags of these commands that take no value; every other takes one. */
export const SWITCHES: Readonly<Record<string, ReadonlySet<string>>> = {
  run: new Set(['--detach', '--no-detach', '-d', ...HELP]),
  verify: new Set(['--quiet', '--no-quiet', '-q', ...HELP]),
};

/** The command line with `--` before the module of `run` or `verify`; any other is returned as it is. */
export function protectGuestArguments(argv: readonly string[]): readonly string[] {
  const [command = ''] = argv;
  const switches = Object.hasOwn(SWITCHES, command) ? SWITCHES[command] : undefined;
  if (switches === undefined) return argv;
  for (let i = 1; i < argv.length; i += 1) {
    const word = argv[i] ?? '';
    if (word === '--') return argv;
    if (!word.startsWith('-') || word === '-') return [...argv.slice(0, i), '--', ...argv.slice(i)];
    if (!word.includes('=') && !switches.has(word)) i += 1;
  }
  return argv;
}
