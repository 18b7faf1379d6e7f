/** Guests in C that only tests need: `test/guests/*.c`, compiled as the examples are. */
import { join } from 'node:path';
import { run } from './process.ts';
import { PROJECT, type Topology } from './topology.ts';

/** Compiles a guest into the directory of the topology; returns the module's path. */
export async function compileGuest(topology: Topology, name: string): Promise<string> {
  const file = topology.path(`${name}.wasm`);
  const flags = 'CFLAGS=-O2 -Wall -Wextra -Werror -Wno-unused-function -I.';
  const from = `VPATH=${join(PROJECT, 'test', 'guests')}`;
  await run(['make', '--silent', '-C', join(PROJECT, 'examples'), `OUT=${topology.directory}`, from, flags, file], {
    timeout: 120_000,
  });
  return file;
}
