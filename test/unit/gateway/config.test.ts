import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { KedgeError } from '../../../src/errors.ts';
import { formatPool, parseConfig, poolContains, readConfig } from '../../../src/gateway/config.ts';
import type { Ipv4 } from '../../../src/rewrite/numbers.ts';

/** A whole configuration, by lines that a test replaces by key. */
function text(change: Record<string, string | undefined> = {}): string {
  const lines: Record<string, string | undefined> = {
    socket: 'socket = "/run/kedge/gateway.sock"',
    pool: 'pool = "100.64.0.0/10"',
    top: '',
    outside: '[outside]',
    address: 'address = "192.0.2.10"',
    outsideDevice: 'device = "up0"',
    outsideMore: '',
    legA: '[[leg]]',
    nameA: 'name = "a"',
    deviceA: 'device = "ha0"',
    viaA: 'via = "10.0.1.2"',
    legB: '[[leg]]',
    nameB: 'name = "b"',
    deviceB: 'device = "hb0"',
    viaB: 'via = "10.0.2.2"',
    ...change,
  };
  return Object.values(lines).join('\n');
}

test('a whole configuration, and what is taken when a key is left out', () => {
  assert.deepEqual(parseConfig(text(), 'gw.toml'), {
    socket: '/run/kedge/gateway.sock',
    socketMode: 0o600,
    socketGroup: undefined,
    pool: { base: 0x64400000, prefix: 10 },
    custodyLimitMib: 256,
    maxFlows: 16384,
    mtu: 1500,
    spinUs: 50,
    fastPath: 'auto',
    outside: { address: 0xc000020a, device: 'up0' },
    legs: [
      { name: 'a', device: 'ha0', via: 0x0a000102 },
      { name: 'b', device: 'hb0', via: 0x0a000202 },
    ],
  });
  const top = [
    'socket_mode = "0660"',
    'socket_group = "kedge"',
    'custody_limit_mib = 1',
    'max_flows = 10',
    'mtu = 9000',
    'spin_us = 0',
    'fast_path = "require"',
  ];
  const config = parseConfig(text({ top: top.join('\n') }), 'gw.toml');
  assert.deepEqual(
    [config.socketMode, config.socketGroup, config.custodyLimitMib, config.maxFlows, config.mtu, config.spinUs],
    [0o660, 'kedge', 1, 10, 9000, 0],
  );
  assert.equal(config.fastPath, 'require');
  assert.equal(parseConfig(text({ top: 'fast_path = "off"' }), 'gw.toml').fastPath, 'off');
});

/** What is wrong → code, and what the message must say: the key's path and what is expected. */
const WRONG: readonly (readonly [
  title: string,
  change: Record<string, string | undefined>,
  code: string,
  says: RegExp,
])[] = [
  ['not TOML', { pool: 'pool = ' }, 'KEDGE_CONFIG_SYNTAX', /^gw\.toml:2:\d+: /],
  ['a key twice', { top: 'pool = "10.0.0.0/8"' }, 'KEDGE_CONFIG_SYNTAX', /^gw\.toml:3:\d+: /],
  ['an unknown key', { top: 'custody_limit = 1' }, 'KEDGE_CONFIG_UNKNOWN_KEY', /unknown key custody_limit$/],
  ['an unknown key of a table', { outsideMore: 'port = 80' }, 'KEDGE_CONFIG_UNKNOWN_KEY', /unknown key outside\.port$/],
  ['an unknown key of a leg', { viaB: 'via = "10.0.2.2"\nvlan = 1' }, 'KEDGE_CONFIG_UNKNOWN_KEY', /leg\[1\]\.vlan$/],
  ['an unknown table', { legB: '[[legs]]' }, 'KEDGE_CONFIG_UNKNOWN_KEY', /unknown key legs$/],
  [
    'a mode there is not',
    { top: 'fast_path = "on"' },
    'KEDGE_CONFIG_VALUE',
    /fast_path: expected "auto", "off", "require"/,
  ],
  ['no socket', { socket: '' }, 'KEDGE_CONFIG_MISSING_KEY', /socket is missing: expected a string/],
  [
    'no outside',
    { outside: '[other]' },
    'KEDGE_CONFIG_MISSING_KEY',
    /outside is missing: expected a table \[outside\]/,
  ],
  ['no device', { deviceA: '' }, 'KEDGE_CONFIG_MISSING_KEY', /leg\[0\]\.device is missing/],
  [
    'a path that is not absolute',
    { socket: 'socket = "a.sock"' },
    'KEDGE_CONFIG_VALUE',
    /socket: expected an absolute path/,
  ],
  [
    'a path that fits no socket',
    { socket: `socket = "/${'x'.repeat(107)}"` },
    'KEDGE_CONFIG_VALUE',
    /socket: expected an absolute path of at most 107 bytes/,
  ],
  [
    'a path with a zero byte',
    { socket: 'socket = "/a\\u0000b"' },
    'KEDGE_CONFIG_VALUE',
    /socket: expected an absolute/,
  ],
  ['an empty string', { socket: 'socket = ""' }, 'KEDGE_CONFIG_VALUE', /socket: expected a string that is not empty/],
  [
    'a number for a string',
    { nameA: 'name = 1' },
    'KEDGE_CONFIG_VALUE',
    /leg\[0\]\.name: expected a string.*, found 1/,
  ],
  [
    'a string for a number',
    { top: 'mtu = "1500"' },
    'KEDGE_CONFIG_VALUE',
    /mtu: expected a whole number from 576 to 65535/,
  ],
  ['a fraction', { top: 'max_flows = 1.5' }, 'KEDGE_CONFIG_VALUE', /max_flows: .*, found 1\.5/],
  ['a number out of range', { top: 'mtu = 100' }, 'KEDGE_CONFIG_VALUE', /mtu: .*576 to 65535, found 100/],
  ['a mode that is a number', { top: 'socket_mode = 660' }, 'KEDGE_CONFIG_VALUE', /socket_mode: expected a string/],
  ['a mode that is not octal', { top: 'socket_mode = "0888"' }, 'KEDGE_CONFIG_VALUE', /socket_mode: .*octal.*"0888"/],
  [
    'a table for a string',
    { top: 'socket_group = { a = 1 }' },
    'KEDGE_CONFIG_VALUE',
    /socket_group: expected a string/,
  ],
  [
    'one bracket for a leg',
    { legA: '[leg]', legB: '[outside.x]' },
    'KEDGE_CONFIG_VALUE',
    /leg: expected tables \[\[leg\]\]/,
  ],
  [
    'a value for a table',
    { top: 'leg = [1]', legA: '[x]', legB: '[y]' },
    'KEDGE_CONFIG_VALUE',
    /leg\[0\]: expected a table, found 1/,
  ],
  ['a leg name of capitals', { nameA: 'name = "A"' }, 'KEDGE_CONFIG_VALUE', /leg\[0\]\.name: expected 1 to 12/],
  ['a leg name too long for a device', { nameA: 'name = "abcdefghijklm"' }, 'KEDGE_CONFIG_VALUE', /leg\[0\]\.name/],
  ['the leg name of the outside TUN', { nameB: 'name = "out"' }, 'KEDGE_CONFIG_VALUE', /leg\[1\]\.name: .*not "out"/],
  ['a device name with a blank', { deviceA: 'device = "ha 0"' }, 'KEDGE_CONFIG_VALUE', /leg\[0\]\.device/],
  ['a device name that is a path', { deviceA: 'device = ".."' }, 'KEDGE_CONFIG_VALUE', /leg\[0\]\.device/],
  [
    'a TUN of ours',
    { deviceA: 'device = "kg-b"' },
    'KEDGE_CONFIG_VALUE',
    /leg\[0\]\.device: .*none of the gateway's own/,
  ],
  [
    'a name for an address',
    { viaA: 'via = "host"' },
    'KEDGE_CONFIG_ADDRESS',
    /leg\[0\]\.via: expected an IPv4 address such/,
  ],
  [
    'an octet beyond 255',
    { address: 'address = "192.0.2.256"' },
    'KEDGE_CONFIG_ADDRESS',
    /outside\.address: .*"192\.0\.2\.256"/,
  ],
  ['an octal octet', { address: 'address = "192.0.2.010"' }, 'KEDGE_CONFIG_ADDRESS', /outside\.address/],
  ['a prefix for an address', { address: 'address = "192.0.2.1/24"' }, 'KEDGE_CONFIG_ADDRESS', /outside\.address/],
  ['an IPv6 address', { address: 'address = "2001:db8::1"' }, 'KEDGE_CONFIG_ADDRESS', /outside\.address/],
  [
    'an address with a port',
    { address: 'address = "192.0.2.1:80"' },
    'KEDGE_CONFIG_ADDRESS',
    /outside\.address: .*without a port/,
  ],
  [
    'an address with a wrong port',
    { viaA: 'via = "10.0.1.2:99999"' },
    'KEDGE_CONFIG_ADDRESS',
    /leg\[0\]\.via: .*without a port/,
  ],
  [
    'an address of this machine itself',
    { viaA: 'via = "127.0.0.1"' },
    'KEDGE_CONFIG_ADDRESS',
    /leg\[0\]\.via: .*one machine/,
  ],
  [
    'a multicast address',
    { address: 'address = "224.0.0.1"' },
    'KEDGE_CONFIG_ADDRESS',
    /outside\.address: .*one machine/,
  ],
  ['a pool without a length', { pool: 'pool = "100.64.0.0"' }, 'KEDGE_CONFIG_PREFIX', /pool: expected an IPv4 prefix/],
  ['a pool too small', { pool: 'pool = "100.64.0.0/31"' }, 'KEDGE_CONFIG_PREFIX', /pool: .*8 to 30/],
  ['a pool too large', { pool: 'pool = "0.0.0.0/0"' }, 'KEDGE_CONFIG_PREFIX', /pool: .*8 to 30/],
  ['a pool with host bits', { pool: 'pool = "100.64.0.1/10"' }, 'KEDGE_CONFIG_PREFIX', /pool: .*"100\.64\.0\.0\/10"/],
  [
    'a pool of loopback addresses',
    { pool: 'pool = "127.0.0.0/8"' },
    'KEDGE_CONFIG_PREFIX',
    /pool: expected addresses of machines/,
  ],
  [
    'the outside address in the pool',
    { address: 'address = "100.64.0.9"' },
    'KEDGE_CONFIG_CONFLICT',
    /outside\.address: 100\.64\.0\.9 is in the pool/,
  ],
  ['a host in the pool', { viaB: 'via = "100.100.0.1"' }, 'KEDGE_CONFIG_CONFLICT', /leg\[1\]\.via: .*in the pool/],
  ['a host that is the outside address', { viaA: 'via = "192.0.2.10"' }, 'KEDGE_CONFIG_CONFLICT', /leg\[0\]\.via/],
  [
    'a leg on the outside device',
    { deviceB: 'device = "up0"' },
    'KEDGE_CONFIG_CONFLICT',
    /leg\[1\]\.device: up0 is the outside device/,
  ],
  [
    'two legs of one name',
    { nameB: 'name = "a"' },
    'KEDGE_CONFIG_DUPLICATE',
    /leg\[1\]\.name: "a" is the name of leg\[0\] too/,
  ],
  [
    'two legs on one device',
    { deviceB: 'device = "ha0"' },
    'KEDGE_CONFIG_DUPLICATE',
    /leg\[1\]\.device: ha0 is the device of leg\[0\]/,
  ],
];

describe('wrong configurations name the key and what is expected', () => {
  for (const [title, change, code, says] of WRONG) {
    test(title, () => {
      assert.throws(
        () => parseConfig(text(change), 'gw.toml'),
        (error) => {
          assert.ok(error instanceof KedgeError, String(error));
          assert.equal(error.code, code, error.message);
          assert.match(error.message, says);
          assert.match(error.message, /^gw\.toml/);
          return true;
        },
      );
    });
  }

  test('no leg at all', () => {
    const whole = text();
    assert.throws(() => parseConfig(whole.slice(0, whole.indexOf('[[leg]]')), 'gw.toml'), {
      code: 'KEDGE_CONFIG_MISSING_KEY',
      message: /leg: expected at least one/,
    });
  });

  test('a file that is not there', () => {
    assert.throws(() => readConfig('/nonexistent/gw.toml'), {
      code: 'KEDGE_CONFIG_READ',
      message: 'cannot read /nonexistent/gw.toml: ENOENT',
    });
  });

  test('a file without an end, and one that is no text', () => {
    assert.throws(() => readConfig('/dev/zero'), {
      code: 'KEDGE_CONFIG_READ',
      message: '/dev/zero has more than 1048576 bytes: it is no configuration',
    });
    const directory = mkdtempSync(join(tmpdir(), 'kedge-config-'));
    try {
      const file = join(directory, 'gw.toml');
      writeFileSync(file, Buffer.from('# caf\xe9\n', 'latin1'));
      assert.throws(() => readConfig(file), { code: 'KEDGE_CONFIG_SYNTAX', message: `${file} is not UTF-8` });
      writeFileSync(file, `\u{feff}${text()}`);
      assert.equal(readConfig(file).outside.device, 'up0');
    } finally {
      rmSync(directory, { recursive: true });
    }
  });

  test('an unknown key comes with the keys there are', () => {
    assert.throws(() => parseConfig(text({ outsideMore: 'adress = "1.2.3.4"' }), 'gw.toml'), {
      hint: 'keys of outside are: address, device',
    });
  });
});

test('any text is a configuration or a KedgeError', () => {
  const key = fc.constantFrom('socket', 'pool', 'outside', 'leg', 'mtu', 'name', 'device', 'via', 'address', 'x');
  const value = fc.oneof(
    fc.string().map((s) => JSON.stringify(s)),
    fc.integer().map(String),
    fc.constantFrom('true', '1979-05-27', '[]', '[{}]', '{ }', 'inf', '"1.2.3.4"', '0x7fffffffffffffff'),
  );
  const line = fc.oneof(
    fc.tuple(key, value).map(([k, v]) => `${k} = ${v}`),
    key.map((k) => `[${k}]`),
    key.map((k) => `[[${k}]]`),
    fc.string(),
  );
  fc.assert(
    fc.property(fc.array(line, { maxLength: 12 }), (lines) => {
      try {
        parseConfig(lines.join('\n'), 'gw.toml');
      } catch (error) {
        assert.ok(error instanceof KedgeError, String(error));
      }
    }),
    { numRuns: 500 },
  );
});

test('an address is in a pool exactly when it has the pool’s first bits', () => {
  const address = fc.integer({ min: 0, max: 0xffff_ffff });
  fc.assert(
    fc.property(address, fc.integer({ min: 8, max: 30 }), address, (base, prefix, other) => {
      const size = 2n ** BigInt(32 - prefix);
      const start = (BigInt(base) / size) * size;
      const pool = { base: Number(start) as Ipv4, prefix };
      for (const candidate of [BigInt(other), start, start - 1n, start + size - 1n, start + size]) {
        if (candidate < 0n || candidate > 0xffff_ffffn) continue;
        const expected = candidate >= start && candidate < start + size;
        assert.equal(poolContains(pool, Number(candidate) as Ipv4), expected);
      }
    }),
  );
  assert.equal(formatPool({ base: 0x64400000 as Ipv4, prefix: 10 }), '100.64.0.0/10');
});

/** The pump reads all devices of the gateway at once, 64 at most (native/tests/suite/batch.rs): the outside's is one of them. */
test('as many legs as the pump can read', () => {
  const legs = (count: number): string =>
    Array.from({ length: count }, (_, n) => `[[leg]]\nname = "l${n}"\ndevice = "dev${n}"\nvia = "10.1.${n}.2"\n`).join(
      '',
    );
  const config = (count: number): string =>
    text({ legB: undefined, nameB: undefined, deviceB: undefined, viaB: undefined }) + `\n${legs(count - 1)}`;
  assert.equal(parseConfig(config(63), 'gw.toml').legs.length, 63);
  assert.throws(() => parseConfig(config(64), 'gw.toml'), {
    code: 'KEDGE_CONFIG_VALUE',
    message: /expected at most 63 legs/,
  });
});
