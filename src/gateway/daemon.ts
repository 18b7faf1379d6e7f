/**
 * The gateway's life: check, open the TUN devices, make routes, start the pump, listen; and all of that back, in the other order,
 * at a signal, at the pump's end, or when a step fails. Nothing is changed before everything that can be checked was.
 *
 * The TUN devices are the lock against a second gateway in the same network namespace; the admin socket is the one everybody
 * sees. Both are tried before anything an earlier gateway left is cleared away.
 */
import type { Logger } from 'pino';
import type { AdminControl, AdminListing } from './admin/server.ts';
import { createAdminServer } from './admin/server.ts';
import { groupId, listenPrivately, prepareSocket, probeSocket } from './admin/socket.ts';
import type { GatewayConfig } from './config.ts';
import type { FastPathState } from './fast-kernel.ts';
import { checkDevices, setUpRoutes, takeDownRoutes } from './routes.ts';
import { stateFile } from './routes-state.ts';
import type { Tuns } from './tuns.ts';
import { openTuns } from './tuns.ts';

/** Pump and arena as the daemon sees them. */
export type DataPlane = {
  readonly control: AdminControl;
  readonly listing: AdminListing;
  readonly fastPath: FastPathState;
  /** Ends the pump; its descriptors may be closed after that. */
  stop(): Promise<void>;
  /** Calls once when the pump ends by itself. */
  onCrash(report: (error: Error) => void): void;
};

export type StartDataPlane = (config: GatewayConfig, tuns: Tuns) => Promise<DataPlane>;

export type Gateway = {
  /** Resolves with the reason when the pump ends by itself. */
  readonly crashed: Promise<Error>;
  /** Takes everything down. Returns what could not be taken back, in words. */
  stop(): Promise<string[]>;
};

/** How long a stop may take before the process ends anyway, milliseconds. */
const STOP_LIMIT_MS = 10_000;
/** SIGHUP too: the terminal it was started from is gone, and Node takes it even where nohup has it ignored. */
const SIGNALS = ['SIGTERM', 'SIGINT', 'SIGHUP'] as const;

/** Starts a gateway, or throws a KedgeError and leaves everything as it was. */
export async function startGateway(
  config: GatewayConfig,
  log: Logger,
  startDataPlane: StartDataPlane,
): Promise<Gateway> {
  const problems: string[] = [];
  const file = stateFile(config.socket);
  await probeSocket(config.socket);
  if (config.socketGroup !== undefined) groupId(config.socketGroup);
  for (const warning of await checkDevices(config)) log.warn(warning);

  await using undo = new AsyncDisposableStack();
  const tuns = openTuns(config);
  undo.defer(() => tuns.close());
  prepareSocket(config.socket);
  await setUpRoutes(config, file, log);
  undo.defer(async () => {
    problems.push(...(await takeDownRoutes(file)));
  });
  const plane = await startDataPlane(config, tuns);
  const crashed = new Promise<Error>((resolve) => plane.onCrash(resolve));
  undo.defer(() => plane.stop());
  if (plane.fastPath.state === 'unavailable') log.warn(`no fast path: ${plane.fastPath.reason}`);
  const server = await createAdminServer({ control: plane.control, listing: plane.listing, logger: log });
  undo.defer(() => server.close());
  await listenPrivately(config.socket, config.socketMode, config.socketGroup, () =>
    server.listen({ path: config.socket }),
  );
  const steps = undo.move();
  return {
    crashed,
    async stop() {
      await steps.disposeAsync();
      return problems.splice(0);
    },
  };
}

/**
 * Runs a gateway until SIGTERM, SIGINT or SIGHUP, and prints one line to `out` when it is ready. Returns what could not be
 * taken back, in words. Throws when it cannot start, and, after all is taken down, when the pump died.
 */
export async function runGateway(
  config: GatewayConfig,
  log: Logger,
  startDataPlane: StartDataPlane,
  out: (line: string) => void,
): Promise<string[]> {
  // Listened for before anything is changed: a signal during the start takes back as well.
  const { promise: signalled, resolve: onSignal } = Promise.withResolvers<NodeJS.Signals>();
  for (const signal of SIGNALS) process.on(signal, onSignal);
  try {
    const gateway = await startGateway(config, log, startDataPlane);
    out(`gateway ready socket=${config.socket} legs=${config.legs.map((leg) => leg.name).join(',')}\n`);
    const end = await Promise.race([signalled, gateway.crashed]);
    if (typeof end === 'string') log.info(`${end}: stopping`);
    else log.fatal({ err: end }, 'the pump ended; stopping');
    const deadline = setTimeout(() => {
      log.fatal(`not stopped after ${STOP_LIMIT_MS} ms; the next start will clear what is left`);
      process.exit(1);
    }, STOP_LIMIT_MS);
    const problems = await gateway.stop();
    clearTimeout(deadline);
    if (typeof end !== 'string') throw end;
    return problems;
  } finally {
    for (const signal of SIGNALS) process.off(signal, onSignal);
  }
}
