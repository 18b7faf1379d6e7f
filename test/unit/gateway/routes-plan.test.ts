import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseConfig } from '../../../src/gateway/config.ts';
import {
  isOurTable,
  moveLocalLines,
  restoreLocalLines,
  setUpLines,
  settings,
  takeDownLines,
} from '../../../src/gateway/routes-plan.ts';

const CONFIG = parseConfig(
  `socket = "/run/kedge/gateway.sock"
   pool = "100.64.0.0/10"
   mtu = 1400
   [outside]
   address = "192.0.2.10"
   device = "up0"
   [[leg]]
   name = "a"
   device = "ha0"
   via = "10.0.1.2"
   [[leg]]
   name = "b"
   device = "hb0"
   via = "10.0.2.2"`,
  'test',
);

const KERNEL = [
  { priority: 0, table: 'local', src: 'all' },
  { priority: 32766, table: 'main', src: 'all' },
  { priority: 32767, table: 'default', src: 'all' },
];

test('devices, then routes, then rules', () => {
  assert.deepEqual(setUpLines(CONFIG), [
    'link set dev kg-out mtu 1400 txqueuelen 10000 up',
    'link set dev kg-a mtu 1400 txqueuelen 10000 up',
    'link set dev kg-b mtu 1400 txqueuelen 10000 up',
    'route replace default dev kg-out table 5600',
    'route replace default dev kg-a table 5601',
    'route replace default via 10.0.1.2 dev ha0 table 5602',
    'route replace default dev kg-b table 5603',
    'route replace default via 10.0.2.2 dev hb0 table 5604',
    'rule add pref 20 from 100.64.0.0/10 iif ha0 lookup 5601',
    'rule add pref 21 iif kg-a lookup 5602',
    'rule add pref 20 from 100.64.0.0/10 iif hb0 lookup 5603',
    'rule add pref 21 iif kg-b lookup 5604',
    'rule add pref 22 to 192.0.2.10 lookup 5600',
    'rule add pref 23 to 100.64.0.0/10 lookup 5600',
  ]);
});

test('the tables of the most legs there can be are in the range', () => {
  assert.equal(isOurTable(5600), true);
  assert.equal(isOurTable(5600 + 2 + 2 * 63), true);
  assert.equal(isOurTable(5600 + 2 + 2 * 63 + 1), false);
  assert.equal(isOurTable(5599), false);
});

test('taking down touches rules and tables of our range only', () => {
  const rules = [
    ...KERNEL,
    { priority: 20, table: '5601', src: '100.64.0.0' },
    { priority: 20, table: '100', src: '10.0.0.0' },
    { priority: 22, table: '5600', src: 'all' },
    { priority: 22, table: '5600', src: 'all' },
  ];
  assert.deepEqual(takeDownLines(rules, [5600, 5601, 100, 254]), [
    'rule del pref 20 lookup 5601',
    'rule del pref 22 lookup 5600',
    'rule del pref 22 lookup 5600',
    'route flush table 5600',
    'route flush table 5601',
  ]);
});

test('the local table moves, and the new rule is there before the old one goes', () => {
  assert.deepEqual(moveLocalLines(KERNEL), ['rule add pref 32 lookup local', 'rule del pref 0 lookup local']);
  const moved = [{ priority: 32, table: 'local', src: 'all' }, ...KERNEL.slice(1)];
  assert.deepEqual(restoreLocalLines(moved), ['rule add pref 0 lookup local', 'rule del pref 32 lookup local']);
  // Killed between the two lines.
  const both = [KERNEL[0]!, ...moved];
  assert.deepEqual(moveLocalLines(both), ['rule del pref 0 lookup local']);
  assert.deepEqual(restoreLocalLines(both), ['rule del pref 32 lookup local']);
});

test('a local table that somebody else moved stays where it is', () => {
  assert.deepEqual(moveLocalLines([{ priority: 32, table: 'local', src: 'all' }]), []);
  assert.deepEqual(moveLocalLines([{ priority: 100, table: 'local', src: 'all' }]), []);
});

test('settings of this namespace', () => {
  const wanted = Object.fromEntries(settings(CONFIG).map(({ path, value }) => [path, value]));
  assert.deepEqual(wanted, {
    'net/ipv4/ip_forward': '1',
    'net/ipv4/neigh/up0/proxy_delay': '0',
    'net/ipv4/conf/kg-out/rp_filter': '2',
    'net/ipv4/conf/ha0/rp_filter': '2',
    'net/ipv4/conf/kg-a/rp_filter': '2',
    'net/ipv4/conf/kg-a/accept_local': '1',
    'net/ipv4/conf/hb0/rp_filter': '2',
    'net/ipv4/conf/kg-b/rp_filter': '2',
    'net/ipv4/conf/kg-b/accept_local': '1',
  });
});
