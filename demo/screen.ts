/** What the demo prints. */
import { renderTable } from '../src/cli/table.ts';

export function say(text: string): void {
  process.stdout.write(text.endsWith('\n') ? text : `${text}\n`);
}

export function drawTopology(): string {
  return `
  peer  curl, socat                    gateway                        host A   chat, stream   ─┐
  10.77.1.2 ─────────────── 10.77.1.10 │ flows │ ───────────────────── 10.77.2.2               │ they move
            one connection,            └───────┘                      host B                  ◀┘ and come back
            one address, for ever         └──────────────────────────── 10.77.3.2

  four network namespaces; real kernel sockets, real TUN devices, guests in WebAssembly
`;
}

export function table(titles: readonly string[], rows: readonly string[][]): string {
  return renderTable(
    titles.map((title) => ({ title, align: 'left' as const })),
    rows.map((row) => [...row]),
  );
}
