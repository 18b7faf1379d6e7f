/**
 * Sets the gateway's rules, routes and kernel settings up in its own network namespace, and takes them down again.
 * `routes-plan.ts` says which they are and why.
 *
 * Theory of operation. First the file of `routes-state.ts` says what is about to change; then settings, routes, the local
 * table's move, rules and the proxy neighbour entry follow. Taking down goes the other way and keeps going when a step
 * fails (a device may be gone), so that the rest is taken back all the same. A start first takes down what it finds: all in the
 * gateway's own range of rules and tables, and what an earlier state file says.
 *
 * Limits. IPv4. One gateway in a network namespace: its TUN devices' names and its range of rules are fixed. The outside address must not be
 * one of this machine's own, because all that is sent to it goes to guests.
 */
import { KedgeError } from '../errors.ts';
import { formatIpv4, parseIpv4 } from '../rewrite/numbers.ts';
import type { Ipv4 } from '../rewrite/numbers.ts';
import type { GatewayConfig } from './config.ts';
import { TUN_PREFIX, formatPool, poolContains } from './config.ts';
import { ipBatch, ipJson } from './ip-command.ts';
import type { RuleShown } from './routes-plan.ts';
import { moveLocalLines, restoreLocalLines, setUpLines, settings, takeDownLines } from './routes-plan.ts';
import type { RoutesState } from './routes-state.ts';
import { loadState, newState, readSetting, removeState, saveState, writeSetting } from './routes-state.ts';

/** Where changes of kernel settings are told. */
export type RoutesLog = { info(message: string): void; warn(message: string): void };

/** A network device as far as the configuration is checked against it. */
type Device = { readonly name: string; readonly mtu: number; readonly addresses: readonly Address[] };
/** An IPv4 address of this machine, and the ends of its network: which are one with it where the network has no other. */
type Address = { readonly local: Ipv4; readonly first: Ipv4; readonly last: Ipv4 };

/**
 * Checks the devices and addresses of a configuration against this network namespace, and changes nothing.
 * Returns warnings. Throws KEDGE_DEVICE_MISSING, KEDGE_OUTSIDE_ADDRESS_LOCAL or KEDGE_CONFIG_CONFLICT.
 */
export async function checkDevices(config: GatewayConfig): Promise<string[]> {
  const devices = (await ipJson('address', 'show')).map(asDevice);
  const warnings: string[] = [];
  const need = (path: string, name: string): void => {
    const device = devices.find((other) => other.name === name);
    if (device === undefined) {
      const there = devices.map((other) => other.name).filter((other) => other !== 'lo');
      throw new KedgeError('KEDGE_DEVICE_MISSING', `${path}: there is no network device ${name} here`, {
        hint: `devices of this network namespace: ${there.join(', ')}`,
      });
    }
    if (device.mtu < config.mtu) {
      warnings.push(
        `mtu ${config.mtu} is more than the ${device.mtu} of ${name} (${path}): large packets will not pass`,
      );
    }
  };
  need('outside.device', config.outside.device);
  config.legs.forEach((leg, i) => need(`leg[${i}].device`, leg.device));
  const outside = formatIpv4(config.outside.address);
  const holder = devices.find((device) => device.addresses.some(({ local }) => local === config.outside.address));
  if (holder !== undefined) {
    throw new KedgeError('KEDGE_OUTSIDE_ADDRESS_LOCAL', `outside.address: ${outside} is assigned to ${holder.name}`, {
      hint: `the gateway needs an address of its own and answers for it: ip address del ${outside} dev ${holder.name}`,
    });
  }
  for (const device of devices) checkAddresses(config, device);
  return warnings;
}

/** Throws KEDGE_CONFIG_CONFLICT for an address of the configuration that no other machine on the device's networks can have. */
function checkAddresses(config: GatewayConfig, { name, addresses }: Device): void {
  const conflict = (path: string, what: string): never => {
    throw new KedgeError('KEDGE_CONFIG_CONFLICT', `${path}: ${what}`, { hint: `ip address show dev ${name}` });
  };
  for (const { local, first, last } of addresses) {
    const shown = formatIpv4(local);
    if (poolContains(config.pool, local))
      conflict('pool', `${shown} in ${formatPool(config.pool)} is assigned to ${name} of this machine`);
    config.legs.forEach(({ via }, i) => {
      if (via === local) conflict(`leg[${i}].via`, `${shown} is this machine's own, on ${name}, and not the host's`);
    });
    const { address } = config.outside;
    if (address === first || address === last)
      conflict('outside.address', `${formatIpv4(address)} is the network or broadcast address of ${name}`);
  }
}

/**
 * Takes back what an earlier gateway left in this namespace, then sets up. The TUN devices must be open. What fails is taken back
 * before the error is thrown. `file` is where the state goes.
 */
export async function setUpRoutes(config: GatewayConfig, file: string, log: RoutesLog): Promise<void> {
  for (const problem of await takeDownRoutes(file)) log.warn(`left by an earlier gateway: ${problem}`);
  const state = newState();
  const rules = await showRules();
  const wanted = settings(config);
  const address = formatIpv4(config.outside.address);
  const device = config.outside.device;
  state.settings = wanted
    .filter(({ path }) => !path.includes(`/${TUN_PREFIX}`))
    .map(({ path }) => ({ path, value: readSetting(path) ?? '' }));
  state.movedLocal = moveLocalLines(rules).length > 0;
  if (!(await hasProxy(address, device))) state.proxy = { address, device };
  saveState(file, state);
  try {
    for (const { path, value } of wanted) {
      const before = readSetting(path);
      if (before === value) continue;
      apply(path, value);
      // Settings of our own devices end with them.
      if (!path.includes(`/${TUN_PREFIX}`)) log.info(`${path}: ${before} → ${value} until the gateway stops`);
    }
    await ipBatch([
      ...setUpLines(config),
      ...moveLocalLines(rules),
      ...(state.proxy === null ? [] : [`neigh replace proxy ${address} dev ${device}`]),
    ]);
  } catch (error) {
    await takeDownRoutes(file);
    throw error;
  }
}

/**
 * Takes everything back that is of a gateway of this namespace: rules and tables in its range, and what the state file says. Harmless when
 * there is nothing. Returns what could not be taken back, in words.
 */
export async function takeDownRoutes(file: string): Promise<string[]> {
  const problems: string[] = [];
  const attempt = async (step: () => void | Promise<void>): Promise<void> => {
    try {
      await step();
    } catch (error) {
      problems.push(error instanceof Error ? error.message : String(error));
    }
  };
  const state = loadState(file);
  await attempt(async () => {
    const rules = await showRules();
    const restore = state?.movedLocal === true ? restoreLocalLines(rules) : [];
    await ipBatch([...restore, ...takeDownLines(rules, await showTables())]);
  });
  if (state !== undefined) await takeBack(state, attempt);
  removeState(file);
  return problems;
}

async function takeBack(
  state: RoutesState,
  attempt: (step: () => void | Promise<void>) => Promise<void>,
): Promise<void> {
  const { proxy } = state;
  if (proxy !== null) {
    await attempt(async () => {
      if (await hasProxy(proxy.address, proxy.device)) {
        await ipBatch([`neigh del proxy ${proxy.address} dev ${proxy.device}`]);
      }
    });
  }
  for (const { path, value } of state.settings.toReversed()) {
    // The device may be gone.
    if (value !== '' && readSetting(path) !== undefined) await attempt(() => apply(path, value));
  }
}

function apply(path: string, value: string): void {
  if (readSetting(path) === value) return;
  try {
    writeSetting({ path, value });
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? 'failed';
    throw new KedgeError('KEDGE_ROUTES_FAILED', `cannot set /proc/sys/${path} to ${value}: ${code}`, {
      hint: 'needs root, or CAP_NET_ADMIN in this network namespace, and /proc/sys writable',
    });
  }
}

async function showRules(): Promise<RuleShown[]> {
  const rows = await ipJson('rule', 'show');
  return rows.map((row) => ({
    priority: Number(row['priority']),
    table: String(row['table']),
    src: String(row['src']),
  }));
}

/** Numbers of all tables that have routes; `local`, `main` and named ones are none of ours. */
async function showTables(): Promise<number[]> {
  const rows = await ipJson('route', 'show', 'table', 'all');
  const numbers = rows.map((row) => Number(row['table'])).filter(Number.isInteger);
  return [...new Set(numbers)];
}

async function hasProxy(address: string, device: string): Promise<boolean> {
  const rows = await ipJson('neigh', 'show', 'proxy');
  return rows.some((row) => row['dst'] === address && row['dev'] === device);
}

function asDevice(row: Record<string, unknown>): Device {
  const info = Array.isArray(row['addr_info']) ? (row['addr_info'] as Record<string, unknown>[]) : [];
  return {
    name: String(row['ifname']),
    mtu: Number(row['mtu']),
    addresses: info.flatMap((entry) => asAddress(String(entry['local']), Number(entry['prefixlen']))),
  };
}

/** None for one that is not IPv4. A network of one or two addresses has no ends of its own. */
function asAddress(text: string, prefix: number): Address[] {
  const local = parseIpv4(text);
  if (local === undefined) return [];
  const host = 2 ** (32 - prefix) - 1;
  if (host < 3) return [{ local, first: local, last: local }];
  return [{ local, first: (local & ~host) >>> 0, last: (local | host) >>> 0 } as Address];
}
