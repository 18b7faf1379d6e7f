/** `gateway guests list`. */
import type { CommandContext } from '@stricli/core';
import { buildCommand, buildRouteMap } from '@stricli/core';
import type { GuestSummary } from '../../gateway/admin/schema.ts';
import { renderTable } from '../table.ts';
import type { ConnectFlags, OutputFlags } from './options.ts';
import { outputFlag, socketFlag, toJson, withGateway } from './options.ts';

/** The table of `gateway guests list`. */
export function guestTable(guests: readonly GuestSummary[]): string {
  const rows = guests.map((guest) => [
    guest.name,
    guest.address,
    guest.state,
    guest.leg,
    String(guest.epoch),
    String(guest.flows),
    guest.publish.map((p) => `${p.outsidePort}->${p.guestPort}/${p.proto}`).join(',') || '-',
    guest.id,
  ]);
  return renderTable(
    [
      { title: 'GUEST', align: 'left' },
      { title: 'ADDRESS', align: 'left' },
      { title: 'STATE', align: 'left' },
      { title: 'LEG', align: 'left' },
      { title: 'EPOCH', align: 'right' },
      { title: 'FLOWS', align: 'right' },
      { title: 'PUBLISH', align: 'left' },
      { title: 'ID', align: 'left' },
    ],
    rows,
  );
}

const list = buildCommand<ConnectFlags & OutputFlags, [], CommandContext>({
  async func(flags) {
    const found = await withGateway(flags, (gateway) => gateway.guests());
    this.process.stdout.write(flags.output === 'json' ? toJson({ guests: found }) : guestTable(found));
  },
  parameters: { flags: { output: outputFlag, socket: socketFlag }, aliases: { o: 'output' } },
  docs: { brief: 'Lists guests' },
});

export const guests = buildRouteMap({ routes: { list }, docs: { brief: 'Guests of this gateway' } });
