/**
 * The gateway's configuration: TOML into one checked value. A key that is unknown, missing or wrong is an error that names the
 * key by its path and says what is expected; nothing is ignored and nothing is guessed.
 */
import { closeSync, openSync, readSync } from 'node:fs';
import { TomlError, parse } from 'smol-toml';
import type { ErrorCode } from '../errors.ts';
import { KedgeError } from '../errors.ts';
import type { Ipv4 } from '../rewrite/numbers.ts';
import { formatIpv4, parseIpv4 } from '../rewrite/numbers.ts';
import { MAX_SOCKET_PATH } from './admin/socket.ts';
import { MAX_LEGS } from './arena.ts';
import { Table } from './config-table.ts';

/**
 * What `gateway run --config FILE` reads.
 *
 *     socket = "/run/kedge/gateway.sock"
 *     socket_mode = "0660"
 *     socket_group = "kedge"
 *     pool = "100.64.0.0/10"
 *
 *     [outside]
 *     address = "192.0.2.10"
 *     device = "eth0"
 *
 *     [[leg]]
 *     name = "a"
 *     device = "eth1"
 *     via = "10.0.1.2"
 */
export type GatewayConfig = {
  /** `socket`: absolute path of the admin socket. Agents and the command line talk to the gateway here. */
  readonly socket: string;
  /** `socket_mode`: permission bits of the socket as an octal string; "0600" unless given. */
  readonly socketMode: number;
  /** `socket_group`: name or number of the group that owns the socket; the gateway's own group unless given. */
  readonly socketGroup: string | undefined;
  /** `pool`: the addresses of guests, a prefix. A guest keeps its address on every host. */
  readonly pool: Pool;
  /** `custody_limit_mib`: bytes of peers the gateway holds at most for all guests that are being moved, MiB; 256. */
  readonly custodyLimitMib: number;
  /** `max_flows`: flows there can be at once; 16384. */
  readonly maxFlows: number;
  /** `mtu`: of the gateway's TUN devices; 1500. Not larger than that of the devices beneath them. */
  readonly mtu: number;
  /** `spin_us`: how long the pump looks for the next packet before it sleeps, microseconds; 50. */
  readonly spinUs: number;
  /**
   * `fast_path`: whether the kernel carries established connections past the pump. "auto" (when it can), "off", or "require" (no
   * start without); "auto".
   */
  readonly fastPath: FastPathMode;
  /** `[outside]`: where peers are. */
  readonly outside: {
    /** The one address peers know guests by. */
    readonly address: Ipv4;
    /** The network device it is reached on. */
    readonly device: string;
  };
  /** `[[leg]]`: one for each host, in the order of the file; a leg's number is its index. */
  readonly legs: readonly LegConfig[];
};

export const FAST_PATH_MODES = ['auto', 'off', 'require'] as const;
export type FastPathMode = (typeof FAST_PATH_MODES)[number];

export type LegConfig = {
  /** At most 12 of a–z, 0–9 and "-": the leg's TUN device is called `kg-NAME`. */
  readonly name: string;
  /** The network device towards the host. What guests send arrives here, so every leg has its own. */
  readonly device: string;
  /** The host's address on that device. */
  readonly via: Ipv4;
};

export type Pool = {
  /** First address. */
  readonly base: Ipv4;
  readonly prefix: number;
};

/** Whether an address lies in a prefix. */
export function poolContains(pool: Pool, address: Ipv4): boolean {
  return (address ^ pool.base) >>> (32 - pool.prefix) === 0;
}

export function formatPool(pool: Pool): string {
  return `${formatIpv4(pool.base)}/${pool.prefix}`;
}

/** Prefix of the names of the gateway's own devices. */
export const TUN_PREFIX = 'kg-';
/** The leg name that would take the outside TUN's name. */
const RESERVED_LEG = 'out';
/** Bytes of the largest configuration; legs and comments of any gateway are far fewer. */
const MAX_FILE = 1 << 20;
const MAX_DEVICE_NAME = 15;

/** Reads and checks a file. Throws KedgeError KEDGE_CONFIG_*. */
export function readConfig(file: string): GatewayConfig {
  let bytes: Uint8Array;
  try {
    bytes = readAtMost(file, MAX_FILE + 1);
  } catch (error) {
    throw configError('KEDGE_CONFIG_READ', `cannot read ${file}: ${(error as NodeJS.ErrnoException).code ?? 'failed'}`);
  }
  if (bytes.length > MAX_FILE)
    throw configError('KEDGE_CONFIG_READ', `${file} has more than ${MAX_FILE} bytes: it is no configuration`);
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    throw configError('KEDGE_CONFIG_SYNTAX', `${file} is not UTF-8`);
  }
  return parseConfig(text, file);
}

/** The beginning of a file, which may be a pipe or a device without an end. */
function readAtMost(file: string, most: number): Uint8Array {
  const bytes = new Uint8Array(most);
  const fd = openSync(file, 'r');
  try {
    let size = 0;
    for (let read = -1; read !== 0 && size < most; size += read) read = readSync(fd, bytes, size, most - size, null);
    return bytes.subarray(0, size);
  } finally {
    closeSync(fd);
  }
}

/** Checks the text of a configuration. `source` names it in messages. */
export function parseConfig(text: string, source: string): GatewayConfig {
  let root: unknown;
  try {
    root = parse(text);
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    const reason = error.message.split('\n', 1)[0] ?? 'invalid';
    throw configError('KEDGE_CONFIG_SYNTAX', `${source}:${error.line}:${error.column}: ${reason}`);
  }
  const config = decode(new Table(root, '', source));
  checkTogether(config, source);
  return config;
}

function decode(root: Table): GatewayConfig {
  const outside = root.table('outside');
  const config: GatewayConfig = {
    socket: socketPath(root),
    socketMode: socketMode(root),
    socketGroup: root.optionalText('socket_group'),
    pool: readPool(root),
    custodyLimitMib: root.integer('custody_limit_mib', 1, 16384, 256),
    maxFlows: root.integer('max_flows', 1, 1_000_000, 16384),
    mtu: root.integer('mtu', 576, 65_535, 1500),
    spinUs: root.integer('spin_us', 0, 10_000, 50),
    fastPath: fastPathMode(root),
    outside: { address: readAddress(outside, 'address'), device: readDevice(outside) },
    legs: root.tables('leg').map((leg) => {
      const decoded = { name: legName(leg), device: readDevice(leg), via: readAddress(leg, 'via') };
      leg.finish();
      return decoded;
    }),
  };
  outside.finish();
  root.finish();
  return config;
}

function socketPath(root: Table): string {
  const path = root.text('socket');
  if (!path.startsWith('/') || path.includes('\0') || Buffer.byteLength(path) > MAX_SOCKET_PATH) {
    throw root.wrong('KEDGE_CONFIG_VALUE', 'socket', `an absolute path of at most ${MAX_SOCKET_PATH} bytes`);
  }
  return path;
}

function socketMode(root: Table): number {
  const text = root.optionalText('socket_mode') ?? '0600';
  if (!/^0?[0-7]{3}$/.test(text)) {
    throw root.wrong('KEDGE_CONFIG_VALUE', 'socket_mode', 'permission bits in octal, as a string such as "0660"');
  }
  return Number.parseInt(text, 8);
}

function fastPathMode(root: Table): FastPathMode {
  const text = root.optionalText('fast_path') ?? 'auto';
  const mode = FAST_PATH_MODES.find((known) => known === text);
  if (mode === undefined) {
    throw root.wrong('KEDGE_CONFIG_VALUE', 'fast_path', FAST_PATH_MODES.map((known) => `"${known}"`).join(', '));
  }
  return mode;
}

function legName(leg: Table): string {
  const name = leg.text('name');
  if (!/^[a-z0-9][a-z0-9-]{0,11}$/.test(name) || name === RESERVED_LEG) {
    const expected = `1 to 12 of a-z, 0-9 and "-", not "${RESERVED_LEG}"`;
    throw leg.wrong('KEDGE_CONFIG_VALUE', 'name', expected);
  }
  return name;
}

function readDevice(table: Table): string {
  const device = table.text('device');
  const plain = /^[^\s/:]+$/.test(device) && device !== '.' && device !== '..' && device.length <= MAX_DEVICE_NAME;
  if (!plain || device.startsWith(TUN_PREFIX) || device === 'lo') {
    const expected = `the name of a network device (not lo, and none of the gateway's own ${TUN_PREFIX}…)`;
    throw table.wrong('KEDGE_CONFIG_VALUE', 'device', expected);
  }
  return device;
}

function readAddress(table: Table, key: string): Ipv4 {
  const text = table.text(key);
  const address = parseIpv4(text);
  if (address === undefined) {
    const port = /^[^:]+:[0-9]+$/.test(text) ? ' without a port' : '';
    throw table.wrong('KEDGE_CONFIG_ADDRESS', key, `an IPv4 address${port} such as "192.0.2.10"`);
  }
  if (!isUnicast(address)) {
    throw table.wrong(
      'KEDGE_CONFIG_ADDRESS',
      key,
      'an address of one machine (not 0/8, 127/8, or 224.0.0.0 and above)',
    );
  }
  return address;
}

function readPool(root: Table): Pool {
  const text = root.text('pool');
  const [, first = '', length = ''] = /^([0-9.]+)\/([0-9]{1,2})$/.exec(text) ?? [];
  const base = parseIpv4(first);
  const prefix = Number(length);
  if (base === undefined || prefix < 8 || prefix > 30 || length === '') {
    throw root.wrong('KEDGE_CONFIG_PREFIX', 'pool', 'an IPv4 prefix of length 8 to 30 such as "100.64.0.0/10"');
  }
  const start = (base & -(2 ** (32 - prefix))) >>> 0;
  if (start !== base) {
    const right = formatPool({ base: start as Ipv4, prefix });
    throw root.wrong('KEDGE_CONFIG_PREFIX', 'pool', `a prefix without bits beyond its length: "${right}"`);
  }
  if (!isUnicast(base)) {
    throw root.wrong('KEDGE_CONFIG_PREFIX', 'pool', 'addresses of machines (not 0/8, 127/8, or 224.0.0.0 and above)');
  }
  return { base, prefix };
}

function isUnicast(address: Ipv4): boolean {
  const first = address >>> 24;
  return first !== 0 && first !== 127 && first < 224;
}

/** What no key shows alone. */
function checkTogether(config: GatewayConfig, source: string): void {
  const { outside, legs, pool } = config;
  const fail = (code: ErrorCode, path: string, what: string): never => {
    throw configError(code, `${source}: ${path}: ${what}`);
  };
  if (legs.length === 0) fail('KEDGE_CONFIG_MISSING_KEY', 'leg', 'expected at least one [[leg]], the way to a host');
  if (legs.length > MAX_LEGS) fail('KEDGE_CONFIG_VALUE', 'leg', `expected at most ${MAX_LEGS} legs`);
  const inPool = (path: string, address: Ipv4): void => {
    if (!poolContains(pool, address)) return;
    const what = `${formatIpv4(address)} is in the pool ${formatPool(pool)}, whose addresses are for guests only`;
    fail('KEDGE_CONFIG_CONFLICT', path, what);
  };
  inPool('outside.address', outside.address);
  legs.forEach((leg, i) => {
    inPool(`leg[${i}].via`, leg.via);
    if (leg.via === outside.address) {
      fail('KEDGE_CONFIG_CONFLICT', `leg[${i}].via`, `${formatIpv4(leg.via)} is the outside address`);
    }
    if (leg.device === outside.device) {
      const what = `${leg.device} is the outside device: peers there could pass for guests`;
      fail('KEDGE_CONFIG_CONFLICT', `leg[${i}].device`, what);
    }
    const first = legs.findIndex((other) => other.name === leg.name);
    if (first < i) fail('KEDGE_CONFIG_DUPLICATE', `leg[${i}].name`, `"${leg.name}" is the name of leg[${first}] too`);
    const same = legs.findIndex((other) => other.device === leg.device);
    if (same < i) {
      const what = `${leg.device} is the device of leg[${same}] too; packets of two hosts could not be told apart`;
      fail('KEDGE_CONFIG_DUPLICATE', `leg[${i}].device`, what);
    }
  });
}

function configError(code: ErrorCode, message: string): KedgeError {
  return new KedgeError(code, message, { hint: 'docs/gateway.md lists every key' });
}
