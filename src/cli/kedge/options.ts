/** Flags that several `kedge` commands take, and what they stand for. */
import { isAbsolute, resolve } from 'node:path';
import type { Publish } from '../../migrate/protocol.ts';
import { NAME, POINTS } from '../../migrate/protocol.ts';
import { AgentClient, DEFAULT_AGENT_SOCKET } from '../../migrate/client.ts';
import { parsePath } from '../parse.ts';

export type AgentFlags = { readonly agent?: string };
export type OutputFlags = { readonly output: 'table' | 'json' };

export const agentFlag = {
  kind: 'parsed',
  parse: parsePath,
  brief: `Socket of the agent [default: $KEDGE_AGENT, else ${DEFAULT_AGENT_SOCKET}]`,
  optional: true,
  placeholder: 'path',
} as const;

export const outputFlag = {
  kind: 'enum',
  values: ['table', 'json'],
  brief: 'For people, or for programs',
  default: 'table',
} as const;

export const engineFlag = {
  kind: 'parsed',
  parse: String,
  optional: true,
  placeholder: 'name',
} as const;

/** Where the guest can be stopped while it computes. */
export const pointsFlag = { kind: 'enum', values: POINTS, optional: true } as const;

/** The one positional argument of most commands. */
export const guestArgument = {
  kind: 'tuple',
  parameters: [{ brief: 'Name or id of the guest', parse: String, placeholder: 'name' }],
} as const;

/** The socket of the agent that is meant. */
export function agentSocket(flags: AgentFlags): string {
  const fromEnvironment = process.env['KEDGE_AGENT'];
  return flags.agent ?? (fromEnvironment || DEFAULT_AGENT_SOCKET);
}

/** Calls the agent the flags name, and closes its links after that. */
export async function withAgent<T>(flags: AgentFlags, use: (agent: AgentClient) => Promise<T>): Promise<T> {
  const client = new AgentClient(agentSocket(flags));
  try {
    return await use(client);
  } finally {
    client.close();
  }
}

function parsePort(text: string, whole: string): number {
  const port = Number(text);
  if (!/^[0-9]{1,5}$/.test(text) || port < 1 || port > 65_535)
    throw new Error(`"${whole}" has no port from 1 to 65535`);
  return port;
}

/** `[OUTSIDE:]GUEST[/tcp|udp]`; the outside port is the guest's unless it is given. */
export function parsePublish(text: string): Publish {
  const match = /^(?:([^:/]*):)?([^:/]*)(?:\/(tcp|udp))?$/.exec(text);
  if (match === null) throw new Error(`"${text}" is not [OUTSIDE:]GUEST[/tcp|udp], for example 8080:80`);
  const [, outside, guest = '', proto] = match;
  const guestPort = parsePort(guest, text);
  const outsidePort = outside === undefined ? guestPort : parsePort(outside, text);
  return { proto: proto === 'udp' ? 'udp' : 'tcp', outsidePort, guestPort };
}

/** `HOST:GUEST`, the guest's part being an absolute path. A relative host part is of the directory this command runs in. */
export function parseDirectory(text: string): { readonly host: string; readonly guest: string } {
  const at = text.lastIndexOf(':');
  const host = text.slice(0, Math.max(at, 0));
  const guest = text.slice(at + 1);
  if (host === '' || !isAbsolute(guest)) throw new Error(`"${text}" is not HOST:GUEST, for example ./data:/data`);
  return { host: resolve(host), guest };
}

/** A name for a guest. */
export function parseName(text: string): string {
  if (!NAME.test(text))
    throw new Error(
      `"${text}" is no name of a guest: 1 to 63 of A-Z, a-z, 0-9, ".", "_" and "-", not one of these three first`,
    );
  return text;
}

/** `NAME=VALUE`. */
export function parseVariable(text: string): readonly [name: string, value: string] {
  const at = text.indexOf('=');
  if (at < 1) throw new Error(`"${text}" is not NAME=VALUE`);
  return [text.slice(0, at), text.slice(at + 1)];
}
