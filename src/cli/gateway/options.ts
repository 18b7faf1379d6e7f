/** Flags that several `gateway` commands take, and how amounts are printed for people. */
import { DEFAULT_GATEWAY_SOCKET, GatewayClient } from '../../gateway/admin/client.ts';

export type ConnectFlags = { readonly socket?: string };
export type OutputFlags = { readonly output: 'table' | 'json' };

export const socketFlag = {
  kind: 'parsed',
  parse: String,
  brief: `Admin socket of the gateway [default: $KEDGE_GATEWAY, else ${DEFAULT_GATEWAY_SOCKET}]`,
  optional: true,
  placeholder: 'path',
} as const;

export const outputFlag = {
  kind: 'enum',
  values: ['table', 'json'],
  brief: 'For people, or exactly what the admin API answers',
  default: 'table',
} as const;

/** Calls the gateway the flags name, and closes the connection after that. */
export async function withGateway<T>(flags: ConnectFlags, use: (gateway: GatewayClient) => Promise<T>): Promise<T> {
  const fromEnvironment = process.env['KEDGE_GATEWAY'];
  const client = new GatewayClient(flags.socket ?? (fromEnvironment || DEFAULT_GATEWAY_SOCKET));
  try {
    return await use(client);
  } finally {
    client.close();
  }
}

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
  return pairs.map(([name, value]) => `${name.padEnd(width)}  ${value}\n`).join('');
}
