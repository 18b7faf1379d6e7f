/** How both programs print values: for other programs, and for people. */

import { printable } from './table.ts';

/** A port of the gateway's outside address that leads to one of a guest. */
type Published = { readonly proto: 'tcp' | 'udp'; readonly outsidePort: number; readonly guestPort: number };

/** Indented, with a newline at the end. */
export function toJson(value: unknown): string {
  return `${JSON.stringify(value, null, 2)}\n`;
}

/** `1h02m`, `2m05s`, `3.4s`: two units at most. */
export function formatAge(milliseconds: number): string {
  const seconds = Math.floor(milliseconds / 1000);
  if (seconds < 60) return `${(Math.floor(milliseconds / 100) / 10).toFixed(1)}s`;
  const two = (n: number): string => String(n).padStart(2, '0');
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes}m${two(seconds % 60)}s`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return `${hours}h${two(minutes % 60)}m`;
  return `${Math.floor(hours / 24)}d${two(hours % 24)}h`;
}

/** Lines of `name  value`, the values under one another. */
export function formatPairs(pairs: readonly (readonly [string, string | number | boolean])[]): string {
  const width = Math.max(...pairs.map(([name]) => name.length));
  return pairs.map(([name, value]) => `${name.padEnd(width)}  ${printable(String(value))}\n`).join('');
}

/** `8080->80/tcp,53->53/udp`, or `-`. */
export function formatPublish(publish: readonly Published[]): string {
  return publish.map((p) => `${p.outsidePort}->${p.guestPort}/${p.proto}`).join(',') || '-';
}
