/** `kedge ps`. */
import type { CommandContext } from '@stricli/core';
import { buildCommand } from '@stricli/core';
import type { GuestInfo } from '../../migrate/protocol.ts';
import { formatAge, formatPublish, toJson } from '../format.ts';
import { renderTable } from '../table.ts';
import type { AgentFlags, OutputFlags } from './options.ts';
import { agentFlag, outputFlag, withAgent } from './options.ts';

function formatState({ state, exitCode }: GuestInfo): string {
  return exitCode === undefined ? state : `${state} (${exitCode})`;
}

/** The table of `kedge ps`. `now` in milliseconds since 1970. */
export function guestTable(guests: readonly GuestInfo[], now: number): string {
  return renderTable(
    [
      { title: 'NAME', align: 'left' },
      { title: 'STATE', align: 'left' },
      { title: 'ADDRESS', align: 'left' },
      { title: 'PUBLISH', align: 'left' },
      { title: 'ENGINE', align: 'left' },
      { title: 'EPOCH', align: 'right' },
      { title: 'AGE', align: 'right' },
      { title: 'MODULE', align: 'left' },
      { title: 'ID', align: 'left' },
      { title: 'NOTE', align: 'left' },
    ],
    guests.map((guest) => [
      guest.name,
      formatState(guest),
      guest.address,
      formatPublish(guest.publish),
      guest.engine,
      String(guest.epoch),
      formatAge(Math.max(0, now - Date.parse(guest.startedAt))),
      guest.module,
      guest.id,
      guest.message ?? '',
    ]),
  );
}

export const ps = buildCommand<AgentFlags & OutputFlags, [], CommandContext>({
  async func(flags) {
    const guests = await withAgent(flags, (agent) => agent.list());
    this.process.stdout.write(flags.output === 'json' ? toJson({ guests }) : guestTable(guests, Date.now()));
  },
  parameters: { flags: { output: outputFlag, agent: agentFlag }, aliases: { o: 'output' } },
  docs: { brief: 'Lists the guests of an agent, ended ones too' },
});
