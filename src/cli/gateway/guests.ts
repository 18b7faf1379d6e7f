/** `gateway guests list` and `gateway guests rm`. */
import type { CommandContext } from '@stricli/core';
import { buildCommand, buildRouteMap } from '@stricli/core';
import { KedgeError } from '../../errors.ts';
import type { GuestSummary } from '../../gateway/admin/schema.ts';
import { formatPublish, toJson } from '../format.ts';
import { renderTable } from '../table.ts';
import type { ConnectFlags, OutputFlags } from './options.ts';
import { outputFlag, socketFlag, withGateway } from './options.ts';

/** The table of `gateway guests list`. */
export function guestTable(guests: readonly GuestSummary[]): string {
  const rows = guests.map((guest) => [
    guest.name,
    guest.address,
    guest.state,
    guest.leg,
    String(guest.epoch),
    String(guest.flows),
    formatPublish(guest.publish),
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

/** The guest that is meant by an id, a name or an address. Throws KEDGE_GUEST_UNKNOWN, KEDGE_GUEST_AMBIGUOUS. */
export function findGuest(guests: readonly GuestSummary[], word: string): GuestSummary {
  const byId = guests.filter(({ id, address }) => id === word || address === word);
  const [found, another] = byId.length > 0 ? byId : guests.filter(({ name }) => name === word);
  if (found === undefined)
    throw new KedgeError('KEDGE_GUEST_UNKNOWN', `the gateway has no guest called ${word}`, {
      hint: 'gateway guests list shows them',
    });
  if (another !== undefined)
    throw new KedgeError('KEDGE_GUEST_AMBIGUOUS', `several guests are called ${word}`, {
      hint: 'name one by its id or address: gateway guests list',
    });
  return found;
}

const rm = buildCommand<ConnectFlags & { readonly force: boolean }, [string], CommandContext>({
  async func({ force, ...flags }, word) {
    const { name } = await withGateway(flags, async (gateway) => {
      const guest = findGuest(await gateway.guests(), word);
      await gateway.remove(guest.id, { epoch: guest.epoch, force });
      return guest;
    });
    this.process.stdout.write(`${name}\n`);
  },
  parameters: {
    flags: {
      force: { kind: 'boolean', brief: 'Also one that runs, or is being restored', default: false },
      socket: socketFlag,
    },
    aliases: { f: 'force' },
    positional: {
      kind: 'tuple',
      parameters: [{ brief: 'Id, name or address of the guest', parse: String, placeholder: 'name' }],
    },
  },
  docs: {
    brief: 'Gives up a guest that nobody will continue',
    fullDescription: [
      'Gives up a guest that nobody will continue: one that is frozen or sealed, whose agent or image is lost.',
      'Its peers find their connections reset, its name, address and ports are free, and an image of it can only be restored without flows.',
    ].join('\n'),
  },
});

export const guests = buildRouteMap({ routes: { list, rm }, docs: { brief: 'Guests of this gateway' } });
