/** Pump and arena of a configuration, as the daemon and the admin API see them. */
import { native } from '../native.ts';
import { VERSION } from '../version.ts';
import { formatIpv4 } from '../rewrite/numbers.ts';
import type { Status } from './admin/schema.ts';
import type { AdminListing } from './admin/server.ts';
import type { Arena } from './arena.ts';
import { createArena } from './arena.ts';
import type { GatewayConfig } from './config.ts';
import { formatPool } from './config.ts';
import { PumpClient } from './control.ts';
import type { DataPlane } from './daemon.ts';
import type { FastKernel } from './fast-kernel.ts';
import { openFastKernel } from './fast-kernel.ts';
import { listFlows, listGuests, readCounters, showFlow } from './listing.ts';
import { OUTSIDE_TUN, tunOfLeg } from './routes-plan.ts';
import type { Tuns } from './tuns.ts';

/** Guests a gateway knows at once. */
const MAX_GUESTS = 4096;

export async function startDataPlane(config: GatewayConfig, tuns: Tuns): Promise<DataPlane> {
  const arena = createArena({
    maxFlows: config.maxFlows,
    maxGuests: MAX_GUESTS,
    custodyBytes: config.custodyLimitMib * 1024 * 1024,
  });
  const kernel = openFastKernel(config);
  await using undo = new AsyncDisposableStack();
  undo.defer(() => kernel.close());
  const pump = await PumpClient.start({
    arena,
    legs: tuns.legs,
    outsideFd: tuns.outside,
    outsideAddress: config.outside.address,
    pool: config.pool,
    mtu: config.mtu,
    spinUs: config.spinUs,
    ...(kernel.path === undefined ? {} : { fastPath: kernel.path }),
  });
  undo.defer(() => pump.stop());
  const listing = arenaListing(arena, config, kernel);
  const steps = undo.move();
  return {
    control: pump,
    listing,
    fastPath: kernel.shown,
    stop: () => steps.disposeAsync(),
    onCrash: (report) => pump.onCrash(report),
  };
}

/** Everything the admin API lists, read from the arena. */
export function arenaListing(arena: Arena, config: GatewayConfig, { path, shown }: FastKernel): AdminListing {
  const started = performance.now();
  const names = {
    legs: config.legs.map((leg) => leg.name),
    outsideAddress: formatIpv4(config.outside.address),
    ...(path === undefined
      ? {}
      : { kernel: new native.FastPathFlows(path.keysFd, path.flowsFd, arena.limits.maxFlows) }),
  };
  const status = (): Status => {
    const counters = readCounters(arena, config.legs.length);
    return {
      version: VERSION,
      pid: process.pid,
      uptimeMs: Math.round(performance.now() - started),
      outside: {
        address: names.outsideAddress,
        device: config.outside.device,
        tun: OUTSIDE_TUN,
        ...counters.outside,
      },
      pool: formatPool(config.pool),
      fastPath: shown,
      legs: config.legs.map((leg, n) => ({
        name: leg.name,
        device: leg.device,
        via: formatIpv4(leg.via),
        tun: tunOfLeg(leg),
        packetsIn: counters.legs[n]?.packetsIn ?? 0,
        packetsOut: counters.legs[n]?.packetsOut ?? 0,
      })),
      flows: counters.flows,
      guests: counters.guests,
      custody: { bytes: counters.custodyBytes, limitBytes: counters.custodyLimit },
      writeErrors: counters.writeErrors,
      drops: { ...counters.drops },
    };
  };
  return {
    status,
    flows: (query) => listFlows(arena, names, query),
    flow: (id) => showFlow(arena, names, id),
    guests: () => listGuests(arena, names.legs),
  };
}
