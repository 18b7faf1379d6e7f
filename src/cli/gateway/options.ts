/** Flags that several `gateway` commands take. */
import { DEFAULT_GATEWAY_SOCKET, GatewayClient } from '../../gateway/admin/client.ts';
import { parsePath } from '../parse.ts';

export type ConnectFlags = { readonly socket?: string };
export type OutputFlags = { readonly output: 'table' | 'json' };

export const socketFlag = {
  kind: 'parsed',
  parse: parsePath,
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
