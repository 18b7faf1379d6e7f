/**
 * Which rules and routes lead packets through the gateway's TUN devices. Pure: lines for `ip -4 -batch`.
 *
 *     pref  rule                              table
 *       20  from POOL iif LEG-DEVICE          leg's first: default dev kg-LEG          what guests send → pump
 *       21  iif kg-LEG                        leg's second: default via HOST           pump → the guest's host
 *       22  to OUTSIDE-ADDRESS                outside: default dev kg-out              what peers send → pump
 *       23  to POOL                           outside                                  see below
 *       32  local table (moved from 0)                                                 as always from here on
 *
 * What the pump sends to peers leaves kg-out and is routed as any packet is.
 *
 * The local table moves behind these rules, or else a guest's connection to an address of this machine would be
 * delivered here untranslated. Rule 22 does not ask where a packet came from: a service on this machine that a guest talks
 * to answers to the outside address too. Rule 23 is there for the reverse-path check (`rp_filter` 2) of what guests send: a
 * route to their addresses must exist. A packet that really takes it is not from a host, and the pump drops and counts it.
 *
 * Preferences 20–23 with tables 5600–5728 are the gateway's own: what is found there at a start is of a gateway that was killed.
 */
import { formatIpv4 } from '../rewrite/numbers.ts';
import type { GatewayConfig, LegConfig } from './config.ts';
import { TUN_PREFIX, formatPool } from './config.ts';

export const PREF = { fromGuest: 20, toHost: 21, toOutside: 22, toPool: 23, local: 32 } as const;
/** Table of what goes to the outside TUN; a leg `n` has the tables +1+2n (to its TUN) and +2+2n (to its host). */
const FIRST_TABLE = 5600;
const LAST_TABLE = 5728;

/** Packets a TUN holds between kernel and pump: a 4 MiB window at MTU 1500 is 2800, of several flows at once. */
const TX_QUEUE_LENGTH = 10_000;

export const OUTSIDE_TUN = `${TUN_PREFIX}out`;

/** Name of a leg's TUN device. */
export function tunOfLeg(leg: LegConfig): string {
  return `${TUN_PREFIX}${leg.name}`;
}

export function isOurTable(table: number): boolean {
  return table >= FIRST_TABLE && table <= LAST_TABLE;
}

/** Lines that bring the devices up and make all routes, then the rules, so that no rule leads to an empty table. */
export function setUpLines(config: GatewayConfig): string[] {
  const pool = formatPool(config.pool);
  const lines = [OUTSIDE_TUN, ...config.legs.map(tunOfLeg)].map(
    (tun) => `link set dev ${tun} mtu ${config.mtu} txqueuelen ${TX_QUEUE_LENGTH} up`,
  );
  lines.push(`route replace default dev ${OUTSIDE_TUN} table ${FIRST_TABLE}`);
  config.legs.forEach((leg, n) => {
    lines.push(`route replace default dev ${tunOfLeg(leg)} table ${FIRST_TABLE + 1 + 2 * n}`);
    lines.push(`route replace default via ${formatIpv4(leg.via)} dev ${leg.device} table ${FIRST_TABLE + 2 + 2 * n}`);
  });
  config.legs.forEach((leg, n) => {
    lines.push(`rule add pref ${PREF.fromGuest} from ${pool} iif ${leg.device} lookup ${FIRST_TABLE + 1 + 2 * n}`);
    lines.push(`rule add pref ${PREF.toHost} iif ${tunOfLeg(leg)} lookup ${FIRST_TABLE + 2 + 2 * n}`);
  });
  lines.push(`rule add pref ${PREF.toOutside} to ${formatIpv4(config.outside.address)} lookup ${FIRST_TABLE}`);
  lines.push(`rule add pref ${PREF.toPool} to ${pool} lookup ${FIRST_TABLE}`);
  return lines;
}

/** One rule as `ip -json rule show` prints it, as far as it is asked here. */
export type RuleShown = { readonly priority: number; readonly table: string; readonly src: string };

/** The lines that take away every rule of ours, also those of devices that are gone, and the routes of our tables. */
export function takeDownLines(rules: readonly RuleShown[], tables: readonly number[]): string[] {
  return [
    ...rules
      .filter((rule) => isOurTable(Number(rule.table)))
      .map((rule) => `rule del pref ${rule.priority} lookup ${rule.table}`),
    ...tables.filter(isOurTable).map((table) => `route flush table ${table}`),
  ];
}

/** Lines that move the local table behind our rules; none when something else has moved it there already. */
export function moveLocalLines(rules: readonly RuleShown[]): string[] {
  const first = rules.some((rule) => rule.priority === 0 && rule.table === 'local');
  if (!first) return [];
  const moved = rules.some((rule) => rule.priority === PREF.local && rule.table === 'local');
  const lines = moved ? [] : [`rule add pref ${PREF.local} lookup local`];
  return [...lines, 'rule del pref 0 lookup local'];
}

/** Lines that put it back where the kernel has it. */
export function restoreLocalLines(rules: readonly RuleShown[]): string[] {
  const first = rules.some((rule) => rule.priority === 0 && rule.table === 'local');
  const moved = rules.some((rule) => rule.priority === PREF.local && rule.table === 'local');
  return [
    ...(first ? [] : ['rule add pref 0 lookup local']),
    ...(moved ? [`rule del pref ${PREF.local} lookup local`] : []),
  ];
}

/** A kernel setting below /proc/sys and the value the gateway needs. */
export type Setting = { readonly path: string; readonly value: string };

/**
 * Settings of this network namespace. `all` of rp_filter may be anything: what is in force is the larger of it and the
 * device's, and 2 is the largest.
 */
export function settings(config: GatewayConfig): Setting[] {
  const conf = (device: string, key: string, value: string): Setting => ({
    path: `net/ipv4/conf/${device}/${key}`,
    value,
  });
  return [
    { path: 'net/ipv4/ip_forward', value: '1' },
    // A proxy entry's answer is delayed by up to this (80 ticks) unless it is 0.
    { path: `net/ipv4/neigh/${config.outside.device}/proxy_delay`, value: '0' },
    conf(OUTSIDE_TUN, 'rp_filter', '2'),
    ...config.legs.flatMap((leg) => [
      conf(leg.device, 'rp_filter', '2'),
      conf(tunOfLeg(leg), 'rp_filter', '2'),
      // What a service on this machine answers a guest comes back with an address of this machine.
      conf(tunOfLeg(leg), 'accept_local', '1'),
    ]),
  ];
}
