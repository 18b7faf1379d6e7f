/** The gateway's TUN devices. They are there for as long as the process holds them open: a second gateway finds them busy. */
import { KedgeError, isErrorCode } from '../errors.ts';
import type { TunFd } from '../native.ts';
import { native } from '../native.ts';
import type { GatewayConfig } from './config.ts';
import { OUTSIDE_TUN, tunOfLeg } from './routes-plan.ts';

export type Tuns = {
  readonly outside: TunFd;
  /** In the order of the configuration's legs. */
  readonly legs: readonly { readonly name: string; readonly fd: TunFd }[];
  /** Closes all, and with that removes the devices and their routes. */
  close(): void;
};

/**
 * Opens (makes) all TUN devices of a configuration, or none. Throws KEDGE_TUN_MISSING, KEDGE_TUN_PERMISSION or
 * KEDGE_TUN_FAILED; KEDGE_GATEWAY_RUNNING when another process of this network namespace holds one.
 */
export function openTuns(config: GatewayConfig): Tuns {
  const open: TunFd[] = [];
  const close = (): void => {
    for (const fd of open.splice(0)) native.fdClose(fd);
  };
  const take = (name: string): TunFd => {
    const fd = native.tunOpen(name);
    open.push(fd);
    return fd;
  };
  try {
    const outside = take(OUTSIDE_TUN);
    return { outside, legs: config.legs.map((leg) => ({ name: leg.name, fd: take(tunOfLeg(leg)) })), close };
  } catch (error) {
    close();
    throw asKedgeError(error);
  }
}

/** The addon's errors have a code and a hint, but are no KedgeError: it knows nothing of ours. */
function asKedgeError(error: unknown): unknown {
  if (!(error instanceof Error) || !('code' in error) || typeof error.code !== 'string') return error;
  if (error.code === 'KEDGE_TUN_BUSY') {
    return new KedgeError('KEDGE_GATEWAY_RUNNING', `another gateway runs in this network namespace: ${error.message}`, {
      hint: 'stop it first; there can be one',
    });
  }
  if (!isErrorCode(error.code)) return error;
  const hint = 'hint' in error && typeof error.hint === 'string' ? { hint: error.hint } : {};
  return new KedgeError(error.code, error.message, { ...hint, cause: error });
}
