/** What `gateway status` shows is what the pump counted. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createArena, GAUGE } from '../../../src/gateway/arena.ts';
import { parseConfig } from '../../../src/gateway/config.ts';
import { arenaListing } from '../../../src/gateway/data-plane.ts';
import { GATEWAY_DROPS } from '../../../src/gateway/drops.ts';

const CONFIG = `
socket = "/run/gw.sock"
pool = "100.64.0.0/10"
[outside]
address = "192.0.2.10"
device = "up0"
[[leg]]
name = "a"
device = "ha0"
via = "10.0.1.2"
`;

test('status: counters of the arena, with the packets that a device refused', () => {
  const arena = createArena({ maxFlows: 8, maxGuests: 2, custodyBytes: 1024 * 1024 });
  const kernel = { shown: { state: 'off' }, path: undefined, close: () => undefined } as const;
  const listing = arenaListing(arena, parseConfig(CONFIG, 'gw.toml'), kernel);
  assert.equal(listing.status().writeErrors, 0);
  arena.gauges[GAUGE.writeErrors] = 3;
  arena.gauges[GAUGE.outsideOut] = 5;
  arena.legPacketsOut[0] = 6;
  arena.drops[GATEWAY_DROPS.icmp] = 2;
  const { writeErrors, outside, legs, drops } = listing.status();
  assert.deepEqual([writeErrors, outside.packetsOut, legs[0]?.packetsOut, drops], [3, 5, 6, { icmp: 2 }]);
});
