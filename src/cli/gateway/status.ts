/** `gateway status`. */
import type { CommandContext } from '@stricli/core';
import { buildCommand } from '@stricli/core';
import type { Status } from '../../gateway/admin/schema.ts';
import { formatAge, formatPairs, toJson } from '../format.ts';
import { renderTable } from '../table.ts';
import type { ConnectFlags, OutputFlags } from './options.ts';
import { outputFlag, socketFlag, withGateway } from './options.ts';

/** The text of `gateway status`. */
export function statusText(status: Status): string {
  const facts = formatPairs([
    ['version', status.version],
    ['pid', status.pid],
    ['up', formatAge(status.uptimeMs)],
    ['outside', status.outside.address],
    ['pool', status.pool],
    ['fast path', status.fastPath.reason ?? status.fastPath.state],
    ['flows', status.flows],
    ['guests', status.guests],
    ['custody', `${status.custody.bytes} of ${status.custody.limitBytes} bytes`],
    ['write errors', status.writeErrors],
  ]);
  const outside = { name: '(outside)', via: '-', ...status.outside };
  const ways = renderTable(
    [
      { title: 'LEG', align: 'left' },
      { title: 'TUN', align: 'left' },
      { title: 'DEVICE', align: 'left' },
      { title: 'VIA', align: 'left' },
      { title: 'PKTS-IN', align: 'right' },
      { title: 'PKTS-OUT', align: 'right' },
    ],
    [outside, ...status.legs].map((way) => [
      way.name,
      way.tun,
      way.device,
      way.via,
      String(way.packetsIn),
      String(way.packetsOut),
    ]),
  );
  const reasons = Object.entries(status.drops).toSorted(([, a], [, b]) => b - a);
  const drops = renderTable(
    [
      { title: 'DROPPED', align: 'left' },
      { title: 'PKTS', align: 'right' },
    ],
    reasons.map(([reason, count]) => [reason, String(count)]),
  );
  return `${facts}\n${ways}${reasons.length === 0 ? '' : `\n${drops}`}`;
}

export const status = buildCommand<ConnectFlags & OutputFlags, [], CommandContext>({
  async func(flags) {
    const found = await withGateway(flags, (gateway) => gateway.status());
    this.process.stdout.write(flags.output === 'json' ? toJson(found) : statusText(found));
  },
  parameters: { flags: { output: outputFlag, socket: socketFlag }, aliases: { o: 'output' } },
  docs: { brief: 'Shows counters of the whole gateway: legs, custody, drops' },
});
